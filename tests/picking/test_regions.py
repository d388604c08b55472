import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from cryovox.core.particles import Species
from cryovox.core.volume import LabelMap, ScoreMap
from cryovox.picking import PickConfig, components, pick, pick_labels
from cryovox.picking.touching import split_region


def species(radius_vox, name="a", label=1):
    return Species(name=name, label=label, radius=10.0 * radius_vox)


def balls(shape, centers, radius):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    nearest = KDTree(np.asarray(centers, float).reshape(-1, 3)).query(grid)[0]
    return (nearest <= radius).reshape(shape)


def clusters(seed, radius, low, high, shape=(72, 72, 72)):
    """Random chains of up to six balls, neighbors low to high diameters apart, chains apart."""
    rng = np.random.default_rng(seed)
    low, high = low * 2 * radius, high * 2 * radius

    def fits(place):
        return (place > radius + 1).all() and (place < np.array(shape) - radius - 2).all()

    centers = np.zeros((0, 3))
    for start in rng.uniform(radius + 2, np.array(shape) - radius - 3, (60, 3)):
        if KDTree(np.vstack([centers, [[-99] * 3]])).query(start)[0] < 3.4 * radius:
            continue
        chain = [start]
        for _ in range(rng.integers(1, 40)):
            step = rng.standard_normal(3)
            new = chain[-1] + step / np.linalg.norm(step) * rng.uniform(low, high)
            if (
                fits(new)
                and len(chain) < 6
                and KDTree(np.vstack([centers, chain])).query(new)[0] >= low - 1e-9
            ):
                chain.append(new)
        centers = np.vstack([centers, chain])
    return centers


def score(picks, centers, reach):
    """F1 and RMS error of an optimal matching within a reach in voxels."""
    gap = np.linalg.norm(picks[:, None] - centers[None], axis=-1)
    rows, columns = linear_sum_assignment(np.where(gap <= reach, gap, 1e3))
    hits = gap[rows, columns] <= reach
    error = np.sqrt(np.square(gap[rows, columns][hits]).mean())
    return 2 * hits.sum() / (len(picks) + len(centers)), error


@pytest.mark.parametrize("radius", [4, 5, 6])
@pytest.mark.parametrize("distances", [(1.0, 1.2), (1.0, 1.0), (0.9, 1.0)])
def test_touching_spheres_are_split(radius, distances):
    centers = clusters(radius, radius, *distances)
    data = balls((72, 72, 72), centers, radius).astype(np.uint8)
    joined = ndimage.label(data, np.ones((3, 3, 3)))[1]
    assert len(centers) > 20
    assert joined < 0.8 * len(centers)
    picks = pick_labels(LabelMap(data, 10.0, (species(radius),)))
    f1, error = score(picks.positions / 10, centers, radius / 2)
    assert f1 >= 0.98
    assert error <= 0.2
    merged = pick_labels(LabelMap(data, 10.0, (species(radius),)), PickConfig(split_touching=False))
    assert len(merged) == joined


def test_spheres_with_rough_surfaces_are_split():
    rng = np.random.default_rng(2)
    centers = clusters(7, 6, 1.0, 1.1)
    noise = ndimage.gaussian_filter(rng.standard_normal((72, 72, 72)), 1.0)
    soft = ndimage.gaussian_filter(balls((72, 72, 72), centers, 6).astype(float), 0.7)
    data = (soft + 0.15 * noise / noise.std() > 0.5).astype(np.uint8)
    picks = pick_labels(LabelMap(data, 10.0, (species(6),)))
    assert score(picks.positions / 10, centers, 3)[0] >= 0.95


@pytest.mark.parametrize("axes", [(9, 4, 4), (7, 7, 3), (8, 5, 4)])
def test_long_and_flat_particles_stay_whole(axes):
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(-12, 13.0)] * 3, indexing="ij"), -1)
    for _ in range(6):
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        body = (((grid @ turn) / axes) ** 2).sum(-1) <= 1
        for radius in (min(axes), np.cbrt(np.prod(axes)), max(axes)):
            assert len(np.unique(split_region(body, radius)[1])) == 1


def test_centroids_are_between_the_voxels_and_in_angstrom():
    data = np.zeros((10, 10, 10), np.uint8)
    data[2:4, 3:6, 4:8] = 1
    picks = pick_labels(LabelMap(data, 5.0, (Species(name="a", label=1, radius=10.0),)))
    assert picks.positions.tolist() == [[12.5, 20.0, 27.5]]
    assert picks.scores.tolist() == [1.0]


def test_species_that_touch_each_other_are_apart_and_corners_connect():
    data = np.zeros((6, 6, 6), np.uint8)
    data[1, 1, 1] = data[2, 2, 2] = 1
    data[3, 3, 3] = 2
    picks = pick_labels(
        LabelMap(data, 10.0, (species(1), species(1, "b", 2))), PickConfig(split_touching=False)
    )
    assert picks.species.tolist() == ["a", "b"]
    assert picks.positions.tolist() == [[15.0] * 3, [30.0] * 3]


def test_small_regions_are_dropped():
    data = balls((20, 20, 20), [(9, 9, 9)], 4).astype(np.uint8)
    data[0, 0, 0] = data[18, 18, 17] = 1
    labels = LabelMap(data, 10.0, (species(4),))
    assert len(pick_labels(labels)) == 1
    assert len(pick_labels(labels, PickConfig(min_size=0.0, border=0))) == 3
    assert len(pick_labels(labels, PickConfig(min_size=1.2))) == 0


def test_labels_without_species_are_called_by_number_and_still_split():
    data = 7 * balls((30, 30, 60), [(9, 9, 9), (9, 9, 17), (20, 20, 30), (20, 20, 50)], 4).astype(np.uint8)
    picks = pick_labels(LabelMap(data, 10.0))
    assert set(picks.species.tolist()) == {"7"}
    assert len(picks) == 4


def test_an_empty_map_has_no_particles():
    assert len(pick_labels(LabelMap(np.zeros((4, 4, 4), np.uint8), 10.0, (species(2),)))) == 0


def test_read_only_and_sliced_maps_are_fine(tmp_path):
    data = balls((20, 20, 20), [(9, 9, 9)], 4).astype(np.uint8)
    np.save(tmp_path / "labels.npy", data)
    lazy = np.load(tmp_path / "labels.npy", mmap_mode="r")
    for view in (lazy, np.asfortranarray(data), data.astype(np.int16)):
        assert pick_labels(LabelMap(view, 10.0, (species(4),))).positions.tolist() == [[90.0] * 3]


def masks(*channels, **more):
    names = [species(4, chr(97 + i), 3 * i + 2) for i in range(len(channels))]
    return ScoreMap(np.stack(channels).astype(np.float32), 10.0, tuple(names), kind="mask", **more)


def test_each_voxel_goes_to_its_best_species_if_good_enough():
    ball = balls((20, 20, 20), [(9, 9, 9)], 4)
    picks = pick(masks(0.7 * ball, 0.9 * ball))
    assert picks.species.tolist() == ["b"]
    assert picks.scores == pytest.approx([0.9], abs=1e-4)
    assert picks.positions.tolist() == [[90.0] * 3]
    # the winner is not good enough, and the second may not take its place
    assert len(pick(masks(0.7 * ball, 0.9 * ball, thresholds={"a": 0.5, "b": 0.95}))) == 0
    assert pick(masks(0.7 * ball, 0.7 * ball)).species.tolist() == ["a"]


def test_the_score_is_the_mean_over_the_region_also_of_split_ones():
    left, right = (balls((20, 20, 40), [(9, 9, x)], 5) for x in (10, 20))
    picks = pick(masks(np.where(left, 0.6, 0.8 * right)))
    assert picks.scores == pytest.approx([0.8, 0.6], abs=0.01)
    assert picks.positions[:, 2] == pytest.approx([200, 100], abs=2)


def test_stride_offset_slabs_distance_and_count(monkeypatch):
    centers = [(9, 9, 9), (9, 9, 25), (20, 20, 20)]
    maps = masks(0.8 * balls((30, 30, 36), centers, 4), offset=5.0)
    whole = pick(maps)
    assert sorted(whole.positions.tolist()) == [[95, 95, 95], [95, 95, 255], [205, 205, 205]]
    monkeypatch.setattr(components, "SLAB", 4 * 36 * 30 * 7)
    np.testing.assert_array_equal(pick(maps).positions, whole.positions)
    assert len(pick(maps, PickConfig(distance=200.0))) == 1
    assert len(pick(maps, PickConfig(max_count=2))) == 2
