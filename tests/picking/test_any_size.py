from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.picking import PickConfig, pick, pick_counted
from cryovox.picking.peaks import local_maxima

SMALL = Species(name="small", label=1, radius=30.0, diameters=(40.0, 90.0))
LARGE = Species(name="large", label=2, radius=120.0, diameters=(90.0, 640.0))


def heatmaps(*peaks, shape=(20, 24, 28)):
    """Gaussian peaks: channel, center in voxels, height."""
    data = np.zeros((2, *shape), np.float32)
    grid = np.indices(shape)
    for channel, center, height in peaks:
        squared = sum((axis - c) ** 2 for axis, c in zip(grid, center, strict=True))
        data[channel] = np.maximum(data[channel], height * np.exp(-squared / 4))
    return ScoreMap(data, 20.0, (SMALL, LARGE), offset=10.0, kind="heatmap")


def test_a_particle_between_two_sizes_is_one_pick_with_the_sum_of_both_scores():
    picks = pick(heatmaps((0, (8, 9, 10), 0.4), (1, (8, 9, 10), 0.5)), PickConfig(threshold=0.3))
    assert len(picks) == 1
    assert picks.species[0] == "large"
    assert picks.scores[0] == pytest.approx(0.9)
    assert picks.positions[0] == pytest.approx([170, 190, 210], abs=2)


def test_the_radius_of_the_stronger_pick_decides_what_is_a_duplicate():
    near, away = (8, 9, 10), (8, 9, 15)  # 100 Å apart
    large = pick(heatmaps((1, near, 0.9), (0, away, 0.5)), PickConfig(threshold=0.1))
    assert list(large.species) == ["large"]
    small = pick(heatmaps((0, near, 0.9), (0, away, 0.5)), PickConfig(threshold=0.1))
    assert list(small.species) == ["small", "small"]
    assert np.all(np.diff(small.scores) <= 0)


def test_nothing_above_the_threshold_gives_no_picks():
    assert len(pick(heatmaps((0, (8, 9, 10), 0.2)), PickConfig(threshold=0.3))) == 0


def test_each_pick_reaches_the_threshold_of_its_class():
    maps = replace(
        heatmaps((0, (8, 6, 7), 0.5), (1, (8, 16, 20), 0.5)), thresholds={"small": 0.6, "large": 0.4}
    )
    assert list(pick(maps).species) == ["large"]


def test_picks_at_the_faces_are_counted_and_the_number_of_each_class_is_limited():
    peaks = [(0, (8, 4, 4 * n + 4), 0.5 + n / 20) for n in range(5)]
    maps = heatmaps(*peaks, (1, (14, 20, 14), 0.9), (0, (0, 20, 3), 0.9))
    picks, near_edge = pick_counted(maps, PickConfig(threshold=0.3, max_count=2))
    assert near_edge == 1
    assert sorted(picks.species) == ["large", "small", "small"]
    assert picks.scores == pytest.approx([0.9, 0.7, 0.65], abs=1e-6)


def test_slabs_do_not_matter(monkeypatch):
    maps = heatmaps((0, (8, 6, 7), 0.5), (1, (15, 16, 20), 0.8), (0, (15, 16, 20), 0.3))
    whole = pick(maps, PickConfig(threshold=0.2))
    monkeypatch.setattr("cryovox.picking.any_size.local_maxima", partial(local_maxima, voxels=24 * 28))
    parts = pick(maps, PickConfig(threshold=0.2))
    np.testing.assert_array_equal(whole.positions, parts.positions)
    np.testing.assert_array_equal(whole.species, parts.species)
