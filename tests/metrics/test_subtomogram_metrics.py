import numpy as np
import pytest

from cryovox.core.particles import Species
from cryovox.metrics.segmentation import mean_iou_per_sample
from cryovox.metrics.subtomograms import evaluate_masks

A, B = Species(name="a", label=1, radius=1), Species(name="b", label=2, radius=1)


def values(rows):
    return {(r["species"], r["metric"]): r["value"] for r in rows}


def test_voxels_of_all_cubes_count_together():
    truth = np.zeros((2, 2, 2, 2), np.uint8)
    predicted = truth.copy()
    truth[0, 0], truth[1] = 1, 2  # 4 of a, 8 of b
    predicted[0, 0, 0], predicted[1] = 1, 2  # half of a
    rows = evaluate_masks(predicted, truth, (A, B), (A, B))
    got = values(rows)
    assert got["a", "iou"] == 0.5
    assert got["b", "iou"] == 1
    assert got["mean", "iou"] == 0.75
    assert got["foreground", "iou"] == pytest.approx(10 / 12)
    assert got["foreground", "dice"] == pytest.approx(20 / 22)
    assert got["any", "mean_iou_per_sample"] == mean_iou_per_sample(predicted > 0, truth > 0)
    assert {r["tomogram"] for r in rows} == {"all"}


def test_species_go_by_their_names():
    truth = np.ones((1, 2, 2, 2), np.uint8)
    other = A.model_copy(update={"label": 9})
    assert values(evaluate_masks(9 * truth, truth, (other,), (A,)))["a", "iou"] == 1


def test_masks_of_other_shapes_are_an_error():
    with pytest.raises(ValueError, match="of one shape"):
        evaluate_masks(np.zeros((1, 2, 2, 2)), np.zeros((2, 2, 2, 2)))
