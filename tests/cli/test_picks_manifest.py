"""The manifest beside a particle list."""

import numpy as np
from scipy.spatial.transform import Rotation

from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import is_particles, read_particles, write_particles
from cryovox.formats.particles import manifest

FRAME = Volume(np.broadcast_to(np.int8(0), (20, 31, 42)), 8.0)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.csv"
    picks = Particles.of(np.zeros((3, 3)), ["b", "a", "b"], tomograms="TS_1")
    write_particles(path, picks)
    origin = manifest.Origin(model="m.safetensors", thresholds={"a": 0.5})
    manifest.write(path, picks, tomogram={"rec_TS_1.mrc": FRAME}, origin=origin)
    known = manifest.read(path)
    assert known.counts == {"a": 1, "b": 2}
    assert known.tomograms["TS_1"].shape == (20, 31, 42)
    assert known.tomograms["TS_1"].voxel_size == 8
    assert known.orientations == "identity"
    assert known.origin == origin
    assert not is_particles(manifest.beside(path))


def test_a_changed_list_has_no_manifest(tmp_path):
    path = tmp_path / "a.csv"
    picks = Particles.of(np.zeros((1, 3)), "a")
    assert manifest.read(path) is None
    write_particles(path, picks)
    manifest.write(path, picks)
    assert manifest.read(path) is not None
    path.write_text(path.read_text() + "1,2,3,a,1\n")
    assert manifest.read(path) is None
    manifest.beside(path).write_text("{}")
    assert manifest.read(path) is None


def test_orientations_that_were_not_measured_stay_so(cli, tmp_path):
    """Dynamo stores zeros for particles without orientation; with the manifest they are none."""
    picks = Particles.of([[10, 20, 30], [50, 60, 70]], "a")
    write_particles(tmp_path / "a.csv", picks)
    tomogram = tmp_path / "a.mrc"
    from cryovox.formats import write_volume

    write_volume(tomogram, Volume(np.zeros((20, 31, 42), np.float32), 8.0))
    args = ("--tomogram", tomogram)
    assert cli("convert", tmp_path / "a.csv", tmp_path / "a.tbl", *args).code == 0
    assert read_particles(tmp_path / "a.tbl").rotations is not None
    assert cli("convert", tmp_path / "a.tbl", tmp_path / "b.csv", *args).code == 0
    assert read_particles(tmp_path / "b.csv").rotations is None
    answer = cli("particles", "stats", tmp_path / "a.tbl")
    assert "orientations not measured (identity), voxels of 8 Å" in answer.out
    manifest.beside(tmp_path / "a.tbl").unlink()
    assert cli("convert", tmp_path / "a.tbl", tmp_path / "b.csv", *args, "--overwrite").code == 0
    assert read_particles(tmp_path / "b.csv").rotations is not None


def test_measured_orientations():
    turns = Rotation.from_rotvec([[0, 0, 0.2], [0, 0, 0]]).as_matrix()
    assert manifest.orientations_of(Particles.of(np.zeros((2, 3)), "a", rotations=turns)) == "measured"
    both = [manifest.Origin(model="m"), manifest.Origin(model="n")]
    assert manifest.common_origin(both) == manifest.Origin()
    assert manifest.common_origin(both[:1]).model == "m"
