"""Template matching as it meets other software: maps of other voxel sizes, and poses in other formats."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, write_volume
from cryovox.simulate.particles import library
from cryovox.simulate.particles.rotate import add_box, rotate
from cryovox.workflows.config import ConvertConfig, PickOutput
from cryovox.workflows.convert import convert
from cryovox.workflows.match import match
from cryovox.workflows.matching.config import MatchConfig

VOXEL, PLACE = 25.0, np.array([14, 16, 18])
POSE = Rotation.from_euler("ZYZ", [40, 70, 20], degrees=True).as_matrix()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tomogram with one fatty acid synthase, its map at another voxel size, and the matches."""
    folder = tmp_path_factory.mktemp("outside")
    volume = np.zeros((30, 34, 38), np.float32)
    density, _ = rotate(library.build_template("fatty-acid-synthase", VOXEL), POSE)
    add_box(volume, density, PLACE - density.shape[0] // 2)
    volume += 0.5 * volume.std() * np.random.default_rng(0).standard_normal(volume.shape)
    write_volume(folder / "tomo.mrc", Volume(-volume.astype(np.float32), VOXEL))
    fine = library.build_template("fatty-acid-synthase", 9.0)
    write_volume(folder / "map.mrc", Volume(fine.density, 9.0))
    config = MatchConfig(
        angle=30.0, symmetry="D3", tilt_range=(-90, 90), contrast="dark", max_count=1, threshold=0.1,
        noise_control=0,
    )  # fmt: skip
    for kind in ("relion5", "relion4", "relion3"):
        output = PickOutput(convention=kind)
        _, failed = match(
            folder / "map.mrc", [folder / "tomo.mrc"], folder / kind, config, output, device="cpu"
        )
        assert not failed
    return folder


def picks_of(file, folder):
    return read_particles(file, tomogram=read_volume(folder / "tomo.mrc"))


def angle(a, b):
    return np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1)))


def test_a_map_of_another_voxel_size_is_the_same_template(folder):
    picks = picks_of(folder / "relion5" / "particles" / "tomo.star", folder)
    assert np.linalg.norm(picks.positions[0] - PLACE * VOXEL) < 0.3 * VOXEL
    turns = Rotation.create_group("D3").as_matrix()
    assert min(angle(picks.rotations[0] @ turn, POSE) for turn in turns) < 6


@pytest.mark.parametrize("convention", ["relion4", "relion3"])
def test_conventions_hold_the_same_poses(folder, convention):
    ours, theirs = (
        picks_of(folder / kind / "particles" / "tomo.star", folder) for kind in ("relion5", convention)
    )
    assert np.allclose(ours.positions, theirs.positions, atol=1e-2)
    assert angle(ours.rotations[0], theirs.rotations[0]) < 1e-2


@pytest.mark.parametrize("name", ["list.tbl", "list.em", "list.csv", "list.json"])
def test_poses_are_converted_to_other_formats(folder, tmp_path, name):
    source = folder / "relion5" / "particles" / "tomo.star"
    _, failed = convert([source], tmp_path / name, ConvertConfig(), tomogram=folder / "tomo.mrc")
    assert not failed
    ours, theirs = picks_of(source, folder), picks_of(tmp_path / name, folder)
    assert np.allclose(ours.positions, theirs.positions, atol=0.1)
    assert angle(ours.rotations[0], theirs.rotations[0]) < 0.01
