"""Surface Dice by hand, and against MONAI."""

import numpy as np
import pytest

from cryovox.core.particles import Species
from cryovox.core.volume import LabelMap
from cryovox.metrics.segmentation import evaluate_labels
from cryovox.metrics.surface import surface_counts, surface_dice

SHAPE = (7, 9, 11)


def plane(z, shape=SHAPE):
    """A sheet of one voxel in y and x, clear of the faces."""
    mask = np.zeros(shape, bool)
    mask[z, 1:-1, 1:-1] = True
    return mask


def box(*spans, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*span) for span in spans)] = True
    return mask


def test_sheets_one_voxel_apart_share_no_voxel_and_their_surfaces_agree():
    voxels = 7 * 9
    assert surface_counts(plane(2), plane(3), 1.0).tolist() == [2 * voxels, 2 * voxels]
    assert surface_counts(plane(2), plane(3), 0.99).tolist() == [0, 2 * voxels]
    assert surface_counts(plane(2), plane(4), 1.99).tolist() == [0, 2 * voxels]
    assert surface_counts(plane(2), plane(4), 2.0).tolist() == [2 * voxels, 2 * voxels]


def test_of_a_box_only_the_outer_voxels_count():
    whole = box((1, 6), (2, 7), (3, 8))  # 5 x 5 x 5, of which 3 x 3 x 3 lie inside
    assert surface_counts(whole, whole, 0.0).tolist() == [2 * 98, 2 * 98]
    half = box((1, 6), (2, 7), (3, 5))  # all 50 voxels lie at a face
    close, total = surface_counts(half, whole, 0.0)
    assert total == 50 + 98
    # x = 3 is shared: 25 voxels; of x = 4 the 16 at the rim
    assert close == 2 * (25 + 16)


def test_faces_of_the_volume_are_no_surface():
    assert surface_counts(np.ones(SHAPE, bool), np.ones(SHAPE, bool)).tolist() == [0, 0]
    assert surface_counts(box((0, 3), (0, 9), (0, 11)), box((0, 3), (0, 9), (0, 11))).tolist() == [198, 198]


def test_one_empty_mask_is_zero_and_two_have_no_value():
    empty = np.zeros(SHAPE, bool)
    assert surface_dice(surface_counts(plane(2), empty)) == 0
    assert np.isnan(surface_dice(surface_counts(empty, empty)))


def test_a_mask_limits_what_is_counted_but_not_the_surfaces():
    inside = np.zeros(SHAPE, bool)
    inside[2] = True  # the other sheet lies outside
    assert surface_counts(plane(2), plane(3), 1.0, inside).tolist() == [63, 63]


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 1.5, 2.3])
@pytest.mark.parametrize("seed", range(3))
def test_monai_agrees(seed, tolerance):
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(seed)
    shape = (13, 17, 22)
    predicted, truth = (np.pad(rng.random([n - 4 for n in shape]) < 0.02, 2) for _ in range(2))
    predicted, truth = (grown(mask) for mask in (predicted, truth))
    maps = [torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (predicted, truth)]
    expected = monai.compute_surface_dice(*maps, class_thresholds=[tolerance])
    assert surface_dice(surface_counts(predicted, truth, tolerance)) == pytest.approx(float(expected))


def grown(mask):
    """Blobs of 3 x 3 x 3 voxels."""
    from scipy.ndimage import binary_dilation

    return binary_dilation(mask, np.ones((3, 3, 3)))


def test_the_table_has_surface_dice_by_species_pooled_over_tomograms():
    species = (Species(name="membrane", label=1, radius=20), Species(name="ball", label=2, radius=40))
    near = plane(2).astype(np.uint8) + 2 * box((4, 6), (2, 5), (2, 5)).astype(np.uint8)
    truth = plane(3).astype(np.uint8) + 2 * box((4, 6), (2, 5), (2, 5)).astype(np.uint8)
    far = plane(5).astype(np.uint8)
    maps = {name: LabelMap(data, 10.0, species) for name, data in (("a", near), ("b", far))}
    true = {"a": LabelMap(truth, 10.0, species), "b": LabelMap(plane(2).astype(np.uint8), 10.0, species)}
    rows = {(r["tomogram"], r["species"], r["metric"]): r["value"] for r in evaluate_labels(maps, true)}
    assert rows["a", "membrane", "surface_dice"] == 1
    assert rows["a", "membrane", "dice"] == 0
    assert rows["b", "membrane", "surface_dice"] == 0
    assert rows["all", "membrane", "surface_dice"] == 0.5
    assert rows["all", "mean", "surface_dice"] == 0.75
    assert ("b", "ball", "surface_dice") not in rows
    rows = evaluate_labels(maps, true, tolerance=30.0)
    assert {r["value"] for r in rows if r["metric"] == "surface_dice"} == {1.0}
    assert not [r for r in evaluate_labels(maps, true, surfaces=False) if r["metric"] == "surface_dice"]
