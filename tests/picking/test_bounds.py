import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import LabelMap, ScoreMap
from cryovox.picking import PickConfig, pick, pick_counted, pick_labels, pick_labels_counted
from cryovox.picking.bounds import Bounds


def at(*x):
    return Particles.of([[50, 50, v] for v in x], "a")


def inside(particles, mask=None, border=0.0, voxel_size=10.0):
    bounds = Bounds((10, 10, 10), voxel_size, mask=mask, border=border)
    accepted = bounds.contain(particles.positions) & ~bounds.near_edge(particles.positions, 0.0)
    return particles.take(accepted)


def test_border_counts_from_the_outer_faces():
    some = at(-5, -6, 14, 16, 83, 85, 95)
    assert inside(some).positions[:, 2].tolist() == [-5, 14, 16, 83, 85, 95]
    assert inside(some, border=20).positions[:, 2].tolist() == [16]
    assert inside(some, border=18.5).positions[:, 2].tolist() == [14, 16]


def test_border_is_the_same_on_both_sides():
    rng = np.random.default_rng(0)
    places = rng.uniform(-5, 95, (200, 3))
    there = inside(Particles.of(places, "a"), border=13)
    mirrored = inside(Particles.of(90 - places, "a"), border=13)
    np.testing.assert_allclose(there.positions, 90 - mirrored.positions)
    assert 0 < len(there) < 200


def test_mask_by_the_voxel_of_the_center():
    mask = np.zeros((10, 10, 10))
    mask[:, :, 3:6] = 2
    assert inside(at(24, 26, 54, 56), mask).positions[:, 2].tolist() == [26, 54]


@pytest.mark.parametrize("shape", [(20, 20, 20), (19, 20, 19), (5, 5, 5)])
def test_masks_at_other_samplings(shape):
    mask = np.zeros(shape, bool)
    mask[:, :, : shape[2] // 2] = True
    assert inside(at(0, 30, 60, 90), mask).positions[:, 2].tolist()[:1] == [0]
    assert len(inside(at(60, 90), mask)) == 0


def test_a_mask_of_another_volume_is_refused():
    with pytest.raises(RequestError, match="--mask"):
        inside(at(0), np.ones((10, 10, 25)))


def test_picking_respects_mask_and_border_also_with_a_stride():
    species = Species(name="a", label=1, radius=20.0)
    data = np.zeros((1, 10, 10, 10), np.float32)
    data[0, 5, 5, 1] = data[0, 5, 5, 8] = 0.9
    mask = np.zeros((20, 20, 20), bool)  # of the tomogram, at half the voxel size
    mask[:, :, 10:] = True
    heat = ScoreMap(data, 20.0, (species,), offset=5.0, kind="heatmap")
    assert pick(heat).positions[:, 2].tolist() == [25, 165]
    assert pick(heat, mask=mask).positions[:, 2].tolist() == [165]
    assert len(pick(heat, PickConfig(border=45.0))) == 0
    labels = LabelMap((data[0] > 0).astype(np.uint8), 10.0, (species,))
    assert len(pick_labels(labels, PickConfig(min_size=0))) == 2
    assert len(pick_labels(labels, PickConfig(min_size=0), mask)) == 1
    assert len(pick_labels(labels, PickConfig(min_size=0, border=15.0))) == 2
    assert len(pick_labels(labels, PickConfig(min_size=0, border=16.0))) == 0


def test_the_frame_of_the_tomogram_is_used_where_it_is_known():
    species = Species(name="a", label=1, radius=20.0)
    data = np.zeros((1, 10, 10, 10), np.float32)
    data[0, 5, 5, 2] = data[0, 5, 5, 7] = 0.9
    mask = np.zeros((17, 17, 17), bool)  # the map was made at another voxel size
    mask[:, :, 9:] = True
    heat = ScoreMap(
        data, 20.0, (species,), 4.0, "heatmap", tomogram_shape=(17, 17, 17), tomogram_voxel_size=12.0
    )
    assert pick(heat, mask=mask).positions[:, 2].tolist() == [144]
    assert pick(heat, PickConfig(border=52.0)).positions[:, 2].tolist() == [144]
    with pytest.raises(RequestError, match="--mask"):
        inside(at(0), mask[:, :, :8], voxel_size=20.0)


def test_a_hidden_peak_does_not_suppress_a_visible_one():
    species = Species(name="a", label=1, radius=40.0)
    data = np.zeros((1, 9, 9, 9), np.float32)
    data[0, 4, 4, 3], data[0, 4, 4, 5] = 0.9, 0.8
    mask = np.ones((9, 9, 9), bool)
    mask[:, :, :4] = False
    assert pick(ScoreMap(data, 10.0, (species,), kind="heatmap"), mask=mask).positions[:, 2].tolist() == [50]


def test_picks_near_the_faces_are_left_out_and_counted():
    kinds = (Species(name="a", label=1, radius=40.0), Species(name="b", label=2, radius=100.0))
    data = np.zeros((2, 20, 20, 20), np.float32)
    data[:, 10, 10, 1] = data[:, 10, 10, 3] = data[:, 10, 10, 10] = 0.9
    heat = ScoreMap(data, 10.0, kinds, kind="heatmap")
    settings = {"exclusive": False, "distance": 0.0}
    picks, left = pick_counted(heat, PickConfig(**settings))
    assert picks.named("a").positions[:, 2].tolist() == [30, 100]  # 20 Å from the outer face at -5 Å
    assert picks.named("b").positions[:, 2].tolist() == [100]
    assert left == 3
    every, none = pick_counted(heat, PickConfig(**settings, border=0.0))
    assert (len(every), none) == (6, 0)
    wide, more = pick_counted(heat, PickConfig(**settings, border=60.0))
    assert (len(wide), more) == (2, 4)
    labels = LabelMap((data[0] > 0).astype(np.uint8), 10.0, kinds)
    picks, left = pick_labels_counted(labels, PickConfig(min_size=0))
    assert (picks.positions[:, 2].tolist(), left) == ([30, 100], 1)
