import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.picking import PickConfig, pick
from cryovox.picking.peaks import local_maxima, separate


def heatmap(centers, sigma, shape=(24, 26, 28)):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)
    data = np.zeros(shape)
    for center in centers:
        data = np.maximum(data, np.exp(-((grid - center) ** 2).sum(-1) / (2 * sigma**2)))
    return data.astype(np.float32)


def maxima(data, threshold=0.3, **more):
    return local_maxima(lambda a, b: data[a:b], data.shape, threshold, **more)


def species(radius=40.0, name="a", label=1):
    return Species(name=name, label=label, radius=radius)


class Lazy:
    """An array that can only be sliced, and remembers how much was asked for at once."""

    def __init__(self, data):
        self.data, self.shape, self.most = data, data.shape, 0

    def __getitem__(self, key):
        part = self.data[key]
        assert part.ndim == 3, "one channel at a time"
        self.most = max(self.most, part.size)
        return part


@pytest.mark.parametrize("sigma", [0.8, 1.2, 2.0, 4.0])
def test_center_error_on_noise_free_heatmaps(sigma):
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(40):
        center = rng.uniform(8, 16, 3)
        for dtype in (np.float32, np.float16):
            index, values = maxima(heatmap([center], sigma).astype(dtype))
            assert len(index) == len(values) == 1
            errors.append(((index[0] - center) ** 2).sum())
    assert np.sqrt(np.mean(errors)) <= (0.05 if sigma < 3 else 0.1)
    assert np.sqrt(np.mean(errors[::2])) <= 1e-3  # single precision


def test_noise_moves_the_center_less_than_rounding_would():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(60):
        center = rng.uniform(8, 16, 3)
        data = heatmap([center], 1.5) + rng.normal(0, 0.02, (24, 26, 28)).astype(np.float32)
        index, _ = maxima(data, 0.7)
        errors.append(((index[0] - center) ** 2).sum())
    assert np.sqrt(np.mean(errors)) < 0.12


@pytest.mark.parametrize(
    "center", [(0, 0, 0), (23, 12.5, 0), (11.5, 25, 27), (11.5, 12.5, 13.5), (0.4, 9, 9)]
)
def test_faces_edges_and_half_voxels(center):
    index, values = maxima(heatmap([center], 1.5))
    assert len(index) == 1
    assert np.abs(index[0] - center).max() <= 0.41
    inside = np.array([1 <= c <= n - 2 for c, n in zip(center, (24, 26, 28), strict=True)])
    assert np.abs(index[0] - center)[inside].max(initial=0) < 0.01
    assert values[0] > 0.6


def test_a_flat_top_is_one_peak_in_its_middle():
    data = np.zeros((16, 16, 16), np.float32)
    data[3:8, 4:9, 5:9] = 0.9
    data[12, 12, 12] = 0.8
    index, values = maxima(data)
    order = np.argsort(-values)
    np.testing.assert_allclose(index[order], [[5, 6, 6.5], [12, 12, 12]], atol=1e-6)
    clipped = np.minimum(heatmap([(10.3, 11.6, 12.0)], 3.0), 0.7)
    index, _ = maxima(clipped)
    np.testing.assert_allclose(index, [[10.3, 11.6, 12.0]], atol=0.3)


def test_flat_and_broken_maps_have_no_peaks():
    for value in (0.0, 0.5, 1.0, np.nan):
        assert len(maxima(np.full((5, 6, 7), value, np.float32))[0]) == 0
    data = heatmap([(10, 10, 10)], 1.5)
    data[10, 10, 12] = np.nan
    assert len(maxima(data)[0]) == 1
    assert len(maxima(np.zeros((3, 1, 1), np.float32), 0.0)[0]) == 0
    assert maxima(np.array([0, 1, 0], np.float32).reshape(1, 1, 3))[0].tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("voxels", [1, 26 * 28 * 3, 26 * 28 * 7])
def test_the_height_of_the_slabs_changes_nothing(voxels):
    rng = np.random.default_rng(1)
    data = rng.random((24, 26, 28)).astype(np.float16).round(1)  # many plateaus
    whole, part = maxima(data), maxima(data, voxels=voxels)
    np.testing.assert_array_equal(whole[0], part[0])
    np.testing.assert_array_equal(whole[1], part[1])


def naive(points, scores, distance):
    kept = []
    for i in np.lexsort((*points.T[::-1], -scores)):
        if all(np.linalg.norm(points[i] - points[j]) >= distance for j in kept):
            kept.append(i)
    return kept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 60), st.floats(0, 6))
def test_separation_is_the_greedy_rule(seed, n, distance):
    rng = np.random.default_rng(seed)
    points, scores = rng.integers(0, 8, (n, 3)).astype(float), rng.choice([0.1, 0.5, 0.7], n)
    kept = separate(points, scores, distance)
    assert (scores[kept] == np.sort(scores[kept])[::-1]).all()
    expected = naive(points, scores, distance) if distance > 0 else list(range(n))
    assert sorted(kept.tolist()) == sorted(expected)
    if len(kept) > 1 and distance > 0:
        assert pdist(points[kept]).min() >= distance
    shuffle = rng.permutation(n)
    again = separate(points[shuffle], scores[shuffle], distance)
    np.testing.assert_array_equal(points[shuffle][again], points[kept])


def test_separation_in_blocks_equals_that_in_one_go():
    rng = np.random.default_rng(0)
    points, scores = rng.uniform(0, 60, (45_000, 3)), rng.random(45_000)
    kept = separate(points, scores, 4.0)
    assert pdist(points[kept]).min() >= 4
    assert separate(points, scores, 4.0, 100).tolist() == kept[:100].tolist()


def test_positions_are_in_angstrom_with_the_offset_of_the_head():
    data = heatmap([(10.25, 12.5, 7)], 1.5)[None]
    picks = pick(ScoreMap(data, 20.0, (species(),), offset=5.0, kind="heatmap"))
    np.testing.assert_allclose(picks.positions, [[5 + 205, 5 + 250, 5 + 140]], atol=0.1)
    assert picks.species.tolist() == ["a"]
    assert 0.9 < picks.scores[0] <= 1


def test_each_species_has_its_distance_threshold_and_count():
    two = heatmap([(10, 10, 8), (10, 10, 13)], 1.0)
    two[10, 10, 13] *= 0.9
    maps = ScoreMap(np.stack([two, 0.4 * two]), 10.0, (species(60.0), species(40.0, "b", 2)), kind="heatmap")
    picks = pick(maps, PickConfig(exclusive=False))
    assert picks.species.tolist() == ["a", "b", "b"]  # 50 Å apart: too close for a, not for b
    assert len(pick(maps, PickConfig(distance=0.0, exclusive=False))) == 4
    assert len(pick(maps, PickConfig(threshold=0.39, distance=0.0, exclusive=False))) == 3
    assert len(pick(maps, PickConfig(max_count=1, exclusive=False))) == 2
    advised = ScoreMap(maps.data, 10.0, maps.species, kind="heatmap", thresholds={"a": 0.95, "b": 0.5})
    assert pick(advised).species.tolist() == ["a"]
    assert len(pick(ScoreMap(np.zeros((2, 4, 4, 4)), 10.0, maps.species, kind="heatmap"))) == 0


def test_lazy_maps_are_read_a_channel_and_a_slab_at_a_time(monkeypatch):
    data = np.stack([heatmap([(5, 9, 9), (20, 12, 12)], 1.5), heatmap([(12, 9, 20)], 1.5)])
    lazy = Lazy(data)
    picks = pick(ScoreMap(lazy, 10.0, (species(), species(name="b", label=2)), kind="heatmap"))
    assert picks.species.tolist() == ["a", "a", "b"]
    assert lazy.most <= data[0].size
