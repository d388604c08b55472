import numpy as np
import pytest

from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.picking.any_size import pick_any_size

SMALL, LARGE = Species(name="small", label=1, radius=30.0), Species(name="large", label=2, radius=120.0)


def heatmaps(*peaks, shape=(20, 24, 28)):
    """Gaussian peaks: channel, center in voxels, height."""
    data = np.zeros((2, *shape), np.float32)
    grid = np.indices(shape)
    for channel, center, height in peaks:
        squared = sum((axis - c) ** 2 for axis, c in zip(grid, center, strict=True))
        data[channel] = np.maximum(data[channel], height * np.exp(-squared / 4))
    return ScoreMap(data, 20.0, (SMALL, LARGE), offset=10.0, kind="heatmap")


def test_a_particle_between_two_sizes_is_one_pick_with_the_sum_of_both_scores():
    picks = pick_any_size(heatmaps((0, (8, 9, 10), 0.4), (1, (8, 9, 10), 0.5)), 0.3)
    assert len(picks) == 1
    assert picks.species[0] == "large"
    assert picks.scores[0] == pytest.approx(0.9)
    assert picks.positions[0] == pytest.approx([170, 190, 210], abs=2)


def test_the_radius_of_the_stronger_pick_decides_what_is_a_duplicate():
    near, away = (8, 9, 10), (8, 9, 15)  # 100 Å apart
    large = pick_any_size(heatmaps((1, near, 0.9), (0, away, 0.5)), 0.1)
    assert list(large.species) == ["large"]
    small = pick_any_size(heatmaps((0, near, 0.9), (0, away, 0.5)), 0.1)
    assert list(small.species) == ["small", "small"]
    assert np.all(np.diff(small.scores) <= 0)


def test_nothing_above_the_threshold_gives_no_picks():
    assert len(pick_any_size(heatmaps((0, (8, 9, 10), 0.2)), 0.3)) == 0
