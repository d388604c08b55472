import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.volume import LabelMap
from cryovox.metrics import segmentation
from cryovox.metrics.segmentation import (
    binary,
    confusion,
    dice,
    evaluate_labels,
    iou,
    macro,
    mean_iou_per_sample,
    pooled,
)

SMALL = arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 3))


def flat(*labels):
    return np.array(labels, np.uint8).reshape(1, 1, -1)


def test_counts_dice_and_iou_by_hand():
    counts = confusion(flat(0, 1, 1, 2, 2, 0), flat(0, 1, 2, 2, 2, 1), 4)
    assert counts.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]]
    assert dice(counts)[:3] == pytest.approx([2 / 3, 0.5, 0.8])
    assert iou(counts)[:3] == pytest.approx([1 / 2, 1 / 3, 2 / 3])
    assert np.isnan(dice(counts)[3])
    assert macro(dice(counts)) == pytest.approx(0.65)
    # foreground: 3 right, 1 false, 2 missed
    assert pooled(counts).tolist() == [[1, 1], [2, 3]]
    assert dice(pooled(counts))[1] == pytest.approx(6 / 9)
    assert binary(counts).tolist() == [[1, 0], [1, 4]]


def test_a_class_in_one_map_only_is_zero_and_in_neither_is_left_out():
    only = confusion(flat(1, 0), flat(0, 0), 3)
    assert dice(only)[1] == 0
    assert macro(dice(only)) == 0
    assert np.isnan(macro(dice(confusion(flat(0), flat(0), 3))))


def test_labels_out_of_range_are_refused():
    with pytest.raises(ValueError, match="classes are 0 to 1"):
        confusion(flat(2), flat(0), 2)
    with pytest.raises(ValueError, match="one shape"):
        confusion(flat(0), flat(0, 1), 2)


def test_slabs_and_masks(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (2, 9, 5, 6), dtype=np.uint8)
    mask = rng.random((9, 5, 6)) > 0.5
    whole, part = confusion(a, b, 4), confusion(a, b, 4, mask)
    np.save(tmp_path / "a.npy", a)
    monkeypatch.setattr(segmentation, "SLAB", 60)
    lazy = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert (confusion(lazy, b, 4) == whole).all()
    assert (confusion(lazy, b, 4, mask) == part).all()
    assert part.sum() == mask.sum()


@settings(max_examples=60, deadline=None)
@given(SMALL, SMALL)
def test_invariants(a, b):
    counts = confusion(a, b, 4)
    assert (confusion(b, a, 4) == counts.T).all()
    for some in (counts, pooled(counts), binary(counts)):
        d, j = dice(some), iou(some)
        np.testing.assert_array_equal(np.isnan(d), np.isnan(j))
        known = ~np.isnan(d)
        assert ((d[known] >= j[known]) & (j[known] >= 0) & (d[known] <= 1)).all()
        np.testing.assert_allclose(d[known], 2 * j[known] / (1 + j[known]))
    assert (np.nan_to_num(dice(confusion(a, a, 4)), nan=1) == 1).all()


def test_mean_iou_per_sample_by_hand():
    predicted = np.array([[1, 1, 0, 0], [0, 0, 0, 0]])
    truth = np.array([[1, 0, 0, 0], [0, 0, 0, 0]])
    # background 2/3 and 1, foreground 1/2 and nowhere
    assert mean_iou_per_sample(predicted, truth) == pytest.approx(((2 / 3 + 1) / 2 + (0.5 + 1) / 2) / 2)
    assert mean_iou_per_sample(truth[:1], truth[:1]) == 1
    assert mean_iou_per_sample(predicted[:1], 1 - predicted[:1]) == 0


@settings(max_examples=30, deadline=None)
@given(arrays(bool, (3, 2, 2, 2)), arrays(bool, (3, 2, 2, 2)))
def test_mean_iou_per_sample_is_symmetric_and_bounded(a, b):
    value = mean_iou_per_sample(a, b)
    assert 0 <= value <= 1
    assert value == pytest.approx(mean_iou_per_sample(b, a))
    assert value == pytest.approx(mean_iou_per_sample(~a, ~b))


def labels(data, *names):
    return LabelMap(data, 10.0, tuple(Species(name=n, label=i, radius=10) for i, n in enumerate(names, 1)))


def values_of(rows):
    return {(r["tomogram"], r["species"], r["metric"]): r["value"] for r in rows}


def test_species_are_matched_by_name():
    predicted, truth = labels(flat(1, 1, 2, 0), "a", "b"), labels(flat(2, 2, 1, 1), "b", "a")
    values = values_of(evaluate_labels(predicted, truth))
    assert values["all", "a", "dice"] == 1
    assert values["all", "b", "dice"] == pytest.approx(2 / 3)
    assert values["all", "a", "voxels_true"] == 2
    assert values["all", "mean", "dice"] == pytest.approx(5 / 6)
    assert values["all", "foreground", "iou"] == values["all", "any", "iou"] == 0.75


def test_a_species_that_the_truth_does_not_know_is_false():
    values = values_of(evaluate_labels(labels(flat(1, 2), "a", "c"), labels(flat(1, 2), "a", "b")))
    assert values["all", "a", "dice"] == 1
    assert values["all", "b", "dice"] == 0
    assert values["all", "foreground", "dice"] == 0.5


def test_several_tomograms_are_summed_before_the_ratio():
    truth = {"t1": labels(flat(1, 1, 1, 1), "a"), "t2": labels(flat(1, 0, 0, 0), "a")}
    predicted = {"t1": labels(flat(1, 1, 1, 1), "a"), "t2": labels(flat(0, 1, 0, 0), "a")}
    values = values_of(evaluate_labels(predicted, truth))
    assert (values["t1", "a", "iou"], values["t2", "a", "iou"]) == (1, 0)
    assert values["all", "a", "iou"] == pytest.approx(4 / 6)
    only = values_of(evaluate_labels(predicted, truth, {"t2": flat(0, 0, 1, 1)}))
    assert only["all", "a", "iou"] == 1


def test_maps_that_do_not_belong_together_are_refused():
    one = labels(flat(1), "a")
    with pytest.raises(RequestError, match="t1"):
        evaluate_labels({}, {"t1": one})
    two = labels(flat(1, 1), "a")
    for predicted, truth in ((two, one), (one, two)):
        with pytest.raises(RequestError, match="shape"):
            evaluate_labels(predicted, truth)
    with pytest.raises(ValueError, match="both"):
        evaluate_labels(one, {"t1": one})
