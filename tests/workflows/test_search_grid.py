"""A search is as coarse as the angular step allows; its picks are refined on the grid of the tomogram."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovox.core.volume import Volume
from cryovox.formats import mrc, read_particles, read_volume, scores, write_volume
from cryovox.inference.template_filters import radial_frequency
from cryovox.simulate.particles import library
from cryovox.simulate.particles.beads import point_group
from cryovox.simulate.particles.rotate import add_box, rotate
from cryovox.workflows.match import match
from cryovox.workflows.matching.config import MatchConfig
from cryovox.workflows.matching.search_grid import MIN_RADIUS, SHARE, band_limited, search_voxel_size

VOXEL = 18.0
SPECIES = "fatty-acid-synthase"
PLACES = np.array([[14, 17, 18], [24, 40, 20], [15, 30, 50]])


@pytest.mark.parametrize(
    ("settings", "radius", "voxel", "expected"),
    [
        ({"angle": 20.0}, 150.0, 10.0, SHARE * np.radians(20) * 150),
        ({"angle": 20.0}, 150.0, 30.0, 30.0),  # already as coarse
        ({"angle": 20.0}, 150.0, 29.0, 29.0),  # hardly coarser
        ({"angle": 60.0}, 150.0, 10.0, 150 / MIN_RADIUS),
        ({"angle": 20.0, "search_voxel_size": "tomogram"}, 150.0, 10.0, 10.0),
        ({"angle": 20.0, "search_voxel_size": 17.0}, 150.0, 10.0, 17.0),
        ({"angle": 20.0, "search_voxel_size": 7.0}, 150.0, 10.0, 10.0),
        ({"angle": 20.0, "hand": "both"}, 150.0, 10.0, 10.0),
    ],
)
def test_the_voxel_size_follows_angle_and_radius(settings, radius, voxel, expected):
    assert search_voxel_size(MatchConfig(**settings), radius, voxel) == pytest.approx(expected)


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory):
    """Three particles in a tomogram with a missing wedge, and a mask of two of them."""
    folder = tmp_path_factory.mktemp("grid")
    shape, template = (38, 56, 66), library.build_template(SPECIES, VOXEL)
    rotations = Rotation.random(len(PLACES), random_state=5).as_matrix()
    volume = np.zeros(shape, np.float32)
    for place, rotation in zip(PLACES, rotations, strict=True):
        density, _ = rotate(template, rotation)
        add_box(volume, density, place - density.shape[0] // 2)
    kz, kx = np.fft.fftfreq(shape[0])[:, None, None], np.fft.rfftfreq(shape[2])
    spectrum = np.fft.rfftn(volume) * (np.abs(kz) <= np.tan(np.pi / 3) * kx + 1e-9)
    volume = -np.fft.irfftn(spectrum, s=shape, axes=(0, 1, 2))
    volume += volume.std() * np.random.default_rng(0).standard_normal(shape)
    write_volume(folder / "tomo.mrc", Volume(volume.astype(np.float32), VOXEL))
    mask = np.zeros(shape, np.float32)
    mask[:, :44, :34] = 1
    write_volume(folder / "mask.mrc", Volume(mask, VOXEL))
    return folder / "tomo.mrc", rotations


def search(tomogram, out, **settings):
    config = MatchConfig(
        **{"angle": 30.0, "symmetry": "D3", "contrast": "dark", "max_count": 3, "threshold": 0.2} | settings
    )
    done, failed = match(Path(SPECIES), [tomogram], out, config, device="cpu")
    assert not failed
    (entry,) = done.values()
    return entry, read_particles(out / entry["outputs"]["particles"], tomogram=read_volume(tomogram))


def pose_error(rotation, true):
    traces = [np.trace((rotation @ turn).T @ true) for turn in point_group("D3")]
    return np.degrees(np.arccos(np.clip((max(traces) - 1) / 2, -1, 1)))


def test_coarse_searches_give_the_poses_of_fine_ones(tomogram, tmp_path):
    path, true = tomogram
    errors = {}
    for size in ("tomogram", "auto"):
        entry, picks = search(path, tmp_path / size, search_voxel_size=size, noise_control=0)
        gaps = np.linalg.norm(picks.positions[:, None] - PLACES * VOXEL, axis=-1)
        nearest = gaps.argmin(axis=1)
        assert sorted(nearest) == [0, 1, 2]
        assert gaps.min(axis=1).max() < 0.5 * VOXEL
        errors[size] = [pose_error(r, true[n]) for r, n in zip(picks.rotations, nearest, strict=True)]
    assert entry["search_voxel_size"] > 1.5 * VOXEL
    assert max(errors["auto"]) < 8
    assert max(errors["auto"]) < max(errors["tomogram"]) + 2


def test_scores_and_rotations_are_on_the_grid_of_the_search(tomogram, tmp_path):
    path, _ = tomogram
    entry, picks = search(path, tmp_path, noise_control=0, refine=False)
    score_map = scores.read(tmp_path / entry["outputs"]["scores"])
    assert score_map.voxel_size == pytest.approx(entry["search_voxel_size"], abs=1e-3)
    assert (score_map.tomogram_shape, score_map.tomogram_voxel_size) == ((38, 56, 66), VOXEL)
    rotations = mrc.read(tmp_path / entry["outputs"]["rotations"])
    assert rotations.shape == score_map.data.shape[1:]
    assert rotations.voxel_size == pytest.approx(score_map.voxel_size, abs=1e-3)
    z, y, x = np.rint(picks.positions / score_map.voxel_size).astype(int).T
    assert np.allclose(np.asarray(score_map.data)[0, z, y, x], picks.scores, atol=1e-4)


def test_masks_and_controls_are_resampled_too(tomogram, tmp_path):
    path, _ = tomogram
    mask = path.with_name("mask.mrc")
    entry, picks = search(path, tmp_path, mask=mask, threshold=None, noise_control=0.5, max_count=None)
    assert entry["search_voxel_size"] > 1.5 * VOXEL
    assert 0.2 < entry["noise"]["best"] == entry["threshold"] < entry["best"]
    gaps = np.linalg.norm(picks.positions[:, None] - PLACES[:2] * VOXEL, axis=-1)
    assert gaps.min(axis=1).max() < VOXEL
    assert gaps.min(axis=0).max() < VOXEL


def test_a_limited_density_keeps_its_low_frequencies_and_loses_the_others():
    density = np.random.default_rng(0).standard_normal((21, 21, 21)).astype(np.float32)
    limited = band_limited(density, 0.25)
    frequency = radial_frequency(21)
    before, after = (np.fft.rfftn(values) for values in (density, limited))
    assert np.allclose(after[frequency < 0.22], before[frequency < 0.22], atol=1e-3)
    assert np.abs(after[frequency > 0.28]).max() < 1e-3
