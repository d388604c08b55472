"""`cryovox convert` of particle lists: centers, flips, binning, several files, verification."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, write_particles, write_volume

SHAPE, SIZE = (20, 31, 42), 10.0


@pytest.fixture
def volume(tmp_path):
    """The file of a volume."""
    rng = np.random.default_rng(1)
    data = rng.normal(size=SHAPE).astype(np.float32)
    write_volume(tmp_path / "TS_1.mrc", Volume(data, SIZE))
    return tmp_path / "TS_1.mrc"


@pytest.fixture
def particles(tmp_path):
    rng = np.random.default_rng(2)
    places = rng.uniform(1, np.array(SHAPE) - 2, (12, 3)) * SIZE
    picks = Particles.of(places, "a", rng.random(12), Rotation.random(12, rng=rng).as_matrix(), "TS_1")
    write_particles(tmp_path / "TS_1.csv", picks)
    return picks


def test_centers_of_relion(cli, volume, particles, tmp_path):
    out, back = tmp_path / "o.star", tmp_path / "b.csv"
    args = ("--tomogram", volume)
    assert cli("convert", tmp_path / "TS_1.csv", out, *args, "--out-center", "half-1").code == 0
    assert cli("convert", out, back, *args).code == 0  # the file records its center
    np.testing.assert_allclose(read_particles(back).positions, particles.positions, atol=1e-3)
    text = out.read_text().replace("data_cryovox", "data_other").replace("_cryovoxCentre", "_other")
    (tmp_path / "plain.star").write_text(text)  # of RELION's own pickers
    assert cli("convert", tmp_path / "plain.star", back, *args, "--overwrite", "--center", "half-1").code == 0
    np.testing.assert_allclose(read_particles(back).positions, particles.positions, atol=1e-3)
    assert cli("convert", tmp_path / "plain.star", back, *args, "--overwrite").code == 0
    np.testing.assert_allclose(read_particles(back).positions, particles.positions + SIZE, atol=1e-3)
    cli("convert", tmp_path / "TS_1.csv", tmp_path / "c.csv", "--center", "half").refused("--center", ".csv")
    same = tmp_path / "same.star"  # one center into the other needs the voxel size
    cli("convert", out, same, "--center", "half-1", "--out-center", "half").refused("--tomogram")


def test_two_flips_turn_poses_and_one_leaves_them_out(cli, volume, particles, tmp_path):
    args = ("--tomogram", volume, "--overwrite")
    out = tmp_path / "o.csv"
    assert cli("convert", tmp_path / "TS_1.csv", out, *args, "--flip-x", "--flip-z").code == 0
    turned = read_particles(out)
    last = (np.array(SHAPE) - 1) * SIZE
    np.testing.assert_allclose(
        turned.positions[:, [0, 2]], (last - particles.positions)[:, [0, 2]], atol=1e-3
    )
    np.testing.assert_allclose(turned.positions[:, 1], particles.positions[:, 1], atol=1e-3)
    half_turn = Rotation.from_euler("y", 180, degrees=True).as_matrix()
    np.testing.assert_allclose(turned.rotations, half_turn @ particles.rotations, atol=1e-5)
    answer = cli("convert", tmp_path / "TS_1.csv", out, *args, "--flip-z")
    assert "orientations are left out" in answer.err
    assert read_particles(out).rotations is None
    cli("convert", tmp_path / "TS_1.csv", tmp_path / "x.csv", "--flip-z").refused("flip of z", "--tomogram")


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_flips_of_volumes_and_particles_agree(cli, volume, particles, tmp_path, axis):
    flipped, moved = tmp_path / "f.mrc", tmp_path / "m.csv"
    assert cli("convert", volume, flipped, f"--flip-{axis}", "--verify").code == 0
    assert cli("convert", tmp_path / "TS_1.csv", moved, f"--flip-{axis}", "--tomogram", volume).code == 0
    before, after = read_volume(volume), read_volume(flipped)
    for old, new in zip(particles.positions, read_particles(moved).positions, strict=True):
        old, new = (tuple(np.rint(p / SIZE).astype(int)) for p in (old, new))
        assert before.data[old] == after.data[new]


def test_binning(cli, volume, particles, tmp_path):
    args = ("--tomogram", volume, "--bin", 4)
    assert cli("convert", tmp_path / "TS_1.csv", tmp_path / "o.tbl", *args).code == 0
    np.testing.assert_allclose(read_particles(tmp_path / "o.tbl").positions, particles.positions, atol=1e-3)
    row = np.loadtxt(tmp_path / "o.tbl")[0]
    np.testing.assert_allclose(row[23:26] + row[3:6], particles.positions[0, ::-1] / 40 + 1, atol=1e-5)
    cli("convert", tmp_path / "TS_1.csv", tmp_path / "o.star", *args).refused("--bin", "RELION 5")
    assert cli("convert", volume, tmp_path / "b.mrc", "--bin", 2).code == 0
    assert read_volume(tmp_path / "b.mrc").shape == (10, 16, 21)
    assert read_volume(tmp_path / "b.mrc").voxel_size == 20


def test_several_files_one_by_one_or_joined(cli, particles, tmp_path):
    write_particles(tmp_path / "TS_2.csv", particles.take([0, 1, 2]))
    answer = cli(
        "convert", str(tmp_path / "TS_*.csv"), tmp_path / "out" / "{name}.ndjson", "--out-voxel-size", 5
    )
    assert answer.code == 0, answer.err
    counts = {p.name: len(read_particles(p, voxel_size=5)) for p in (tmp_path / "out").glob("*.ndjson")}
    assert counts == {"TS_1.ndjson": 12, "TS_2.ndjson": 3}
    both = tmp_path / "TS_1.csv", tmp_path / "TS_2.csv"
    assert cli("convert", *both, tmp_path / "all.csv").code == 0
    assert len(read_particles(tmp_path / "all.csv")) == 15
    (tmp_path / "TS_3.csv").write_text("x,y\n1,2\n")
    answer = cli("convert", str(tmp_path / "TS_*.csv"), tmp_path / "new" / "{name}.cmm")
    answer.refused("TS_3", "no column z", code=1)
    assert (tmp_path / "new" / "TS_1.cmm").exists()
    cli("convert", tmp_path / "TS_1.csv").refused("an input and an output")


def test_several_volumes_into_one_are_refused(cli, volume, tmp_path):
    write_volume(tmp_path / "TS_2.mrc", read_volume(volume))
    cli("convert", str(tmp_path / "TS_*.mrc"), tmp_path / "o.mrc").refused("2 volumes", "{name}.mrc")
    assert cli("convert", str(tmp_path / "TS_*.mrc"), tmp_path / "c" / "{name}.mrc", "--invert").code == 0
    assert len(list((tmp_path / "c").iterdir())) == 2


def test_verification_names_the_flip(cli, shared_data, tmp_path):
    folder = shared_data / "real_tomograms"
    picks, tomogram = folder / "tomo_171_xlow_80S_angstrom.csv", folder / "tomo_171_xlow_31.36A.mrc.gz"
    args = ("--tomogram", tomogram, "--verify")
    answer = cli("convert", picks, tmp_path / "a.star", *args)
    assert "127 particles are on density" in answer.out
    assert "no flip, shift" in answer.out
    answer = cli("convert", picks, tmp_path / "b.star", *args, "--flip-y")
    assert "not on density" in answer.out
    assert "a flip of y would put them on more density" in answer.out
    assert "try --flip-y" in answer.out


def test_verification_prints_angles(cli, volume, particles, tmp_path):
    answer = cli("convert", tmp_path / "TS_1.csv", tmp_path / "a.em", "--tomogram", volume, "--verify")
    assert "degrees" in answer.out
    answer = cli("convert", tmp_path / "TS_1.csv", tmp_path / "a.cmm", "--verify")
    assert "angles are not stored" in answer.out
