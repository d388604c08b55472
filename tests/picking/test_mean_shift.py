import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist, pdist

from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.volume import LabelMap, ScoreMap
from cryovox.picking import PickConfig, pick, pick_labels
from cryovox.picking.mean_shift import mean_shift

SHIFT = PickConfig(method="mean-shift")


def species(radius_vox, name="a", label=1):
    return Species(name=name, label=label, radius=10.0 * radius_vox)


def balls(shape, centers, radius):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    return (KDTree(np.asarray(centers, float)).query(grid)[0] <= radius).reshape(shape)


def by_hand(points, bandwidth):
    """One walk after the other, every distance computed."""
    ends = []
    for seed in np.unique(np.rint(points / bandwidth), axis=0) * bandwidth:
        for _ in range(300):
            near = points[np.linalg.norm(points - seed, axis=1) <= bandwidth]
            before, seed = seed, near.mean(axis=0)
            if np.linalg.norm(seed - before) <= 1e-3 * bandwidth:
                break
        ends.append((len(near), *seed))
    kept = []
    for _, *end in sorted(ends, key=lambda e: (-e[0], *e[1:])):
        if all(np.linalg.norm(np.subtract(end, other)) >= bandwidth for other in kept):
            kept.append(end)
    return np.array(kept)


@pytest.mark.parametrize("seed", range(5))
def test_as_by_hand(seed):
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.normal(c, 1.5, (40, 3)) for c in rng.uniform(0, 20, (6, 3))])
    centers, cluster = mean_shift(points, 3.0)
    np.testing.assert_allclose(centers, by_hand(points, 3.0), atol=1e-9)
    np.testing.assert_array_equal(cluster, cdist(points, centers).argmin(axis=1))
    assert pdist(centers).min() >= 3.0


def test_the_order_of_the_points_plays_no_part_and_few_at_once_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.integers(0, 30, (400, 3)).astype(float)
    centers, cluster = mean_shift(points, 5.0)
    shuffle = rng.permutation(400)
    monkeypatch.setattr("cryovox.picking.mean_shift.SEED_BATCH", 7)
    again, theirs = mean_shift(points[shuffle], 5.0)
    np.testing.assert_allclose(again, centers, atol=1e-9)
    np.testing.assert_array_equal(theirs, cluster[shuffle])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points(count):
    points = np.array([[1.0, 2, 3], [30, 2, 3]])[:count]
    centers, cluster = mean_shift(points, 4.0)
    assert sorted(map(tuple, centers)) == sorted(map(tuple, points))
    assert sorted(cluster.tolist()) == list(range(count))


@pytest.mark.parametrize("gap", [1.0, 1.1, 1.3])
def test_touching_spheres_are_two_clusters(gap):
    centers = np.array([[12, 12, 10.0], [12, 12, 10 + gap * 12]])
    data = balls((24, 24, 36), centers, 6).astype(np.uint8)
    picks = pick_labels(LabelMap(data, 10.0, (species(6),)), SHIFT)
    np.testing.assert_allclose(sorted(picks.positions[:, 2] / 10), centers[:, 2], atol=0.7)
    assert len(picks) == 2


def test_a_ball_by_itself_is_found_in_its_middle():
    rng = np.random.default_rng(1)
    for _ in range(10):
        center = rng.uniform(9, 14, 3)
        data = balls((24, 24, 24), [center], 5).astype(np.uint8)
        picks = pick_labels(LabelMap(data, 10.0, (species(5),)), SHIFT)
        np.testing.assert_allclose(picks.positions, center[None] * 10, atol=2.0)


def two_sizes():
    """A ball of radius 5 with label 2 and a cap of label 1, and a ball of radius 2 with label 1."""
    data = 2 * balls((24, 24, 48), [(12, 12, 12)], 5).astype(np.uint8)
    data[:, :, 9:11] = np.minimum(data[:, :, 9:11], 1)
    data += balls((24, 24, 48), [(12, 12, 34)], 2).astype(np.uint8)
    return data


def test_most_voxels_decide_and_each_class_has_its_least_size():
    data = two_sizes()
    both = LabelMap(data, 10.0, (species(4, "a", 1), species(5, "b", 2)))
    assert pick_labels(both, SHIFT).species.tolist() == ["a", "b"]
    assert set(pick_labels(both).species.tolist()) == {"a", "b"}
    few = pick_labels(both, SHIFT.model_copy(update={"min_size": 0.2}))
    assert few.species.tolist() == ["b"]  # 33 voxels are less than a fifth of a ball of radius 4
    small = LabelMap(data, 10.0, (species(2, "a", 1), species(7, "b", 2)))
    assert pick_labels(small, SHIFT.model_copy(update={"min_size": 0.5})).species.tolist() == ["a"]


def test_labels_that_no_species_claims_are_called_by_their_number():
    data = two_sizes()
    picks = pick_labels(LabelMap(data, 10.0, (species(5, "b", 2),)), SHIFT)
    assert picks.species.tolist() == ["b", "1"]


def test_masks_are_scored_by_the_mean_of_their_voxels_and_kept_off_the_border():
    ball, other = (balls((20, 20, 40), [c], 4) for c in ((9, 9, 9), (9, 9, 30)))
    data = (0.9 * ball + 0.6 * other).astype(np.float32)[None]
    maps = ScoreMap(data, 10.0, (species(4),), offset=5.0, kind="mask")
    picks = pick(maps, SHIFT)
    np.testing.assert_allclose(picks.scores, [0.9, 0.6], atol=1e-4)
    np.testing.assert_allclose(picks.positions, [[95, 95, 95], [95, 95, 305]], atol=1.0)
    for setting in ({"threshold": 0.7}, {"max_count": 1}, {"border": 97.0}):
        assert len(pick(maps, SHIFT.model_copy(update=setting))) == (0 if "border" in setting else 1)


def test_nothing_to_cluster():
    assert len(pick_labels(LabelMap(np.zeros((4, 4, 4), np.uint8), 10.0, (species(2),)), SHIFT)) == 0


def test_what_it_needs_is_said():
    data = np.ones((4, 4, 4), np.uint8)
    with pytest.raises(RequestError, match="radii"):
        pick_labels(LabelMap(data, 10.0), SHIFT)
    with pytest.raises(RequestError, match="heatmaps"):
        pick(ScoreMap(data[None], 10.0, (species(2),), kind="heatmap"), SHIFT)
