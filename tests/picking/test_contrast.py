"""How much denser a place is than its surroundings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.picking import PickConfig, pick
from cryovox.picking.contrast import MOST_VOXELS, _factor, blob_contrast
from cryovox.picking.selection import check_by_contrast, select, size_notes

SHAPE, VOXEL = (40, 56, 72), 10.0
RANGES = (Species(name="small", label=1, radius=30.0, diameters=(40.0, 90.0)),
          Species(name="large", label=2, radius=60.0, diameters=(90.0, 640.0)))  # fmt: skip


def as_it_is(values):
    return np.asarray(values, np.float32)


def balls(*places, radius=60.0, shape=SHAPE, voxel=VOXEL):
    """Balls of density 1 at places in Å."""
    grid = np.stack(np.meshgrid(*(voxel * np.arange(n) for n in shape), indexing="ij"), axis=-1)
    near = [np.linalg.norm(grid - np.array(place), axis=-1) <= radius for place in places]
    return np.sum(near, axis=0).astype(np.float32)


def flat_scores(shape=SHAPE, voxel=VOXEL, offset=0.0, own=0.5):
    data = np.stack([np.full(shape, 0.5), np.full(shape, own)]).astype(np.float32)
    return ScoreMap(data, voxel, RANGES, offset=offset, kind="heatmap")


@pytest.mark.parametrize("voxel", [10.0, 5.0])
def test_a_ball_stands_out_at_its_center(voxel):
    shape = tuple(int(n * VOXEL / voxel) for n in SHAPE)
    contrast = blob_contrast(balls((120, 300, 410), shape=shape, voxel=voxel), voxel, 60.0, as_it_is)
    scores = flat_scores(shape, voxel)
    values = contrast.at(scores)[:, :, :]
    highest = np.array(np.unravel_index(values.argmax(), shape)) * voxel
    np.testing.assert_allclose(highest, (120, 300, 410), atol=10)
    assert values.max() > 4
    assert abs(values[-1, 0, 0]) < 1


def test_it_is_measured_in_standard_deviations_whatever_the_scale():
    data = balls((120, 300, 410)) + np.random.default_rng(0).normal(0, 0.3, SHAPE).astype(np.float32)
    one = blob_contrast(data, VOXEL, 60.0, as_it_is).at(flat_scores())[:, :, :]
    other = blob_contrast(data, VOXEL, 60.0, lambda v: as_it_is(7 * v - 30)).at(flat_scores())[:, :, :]
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert one.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("voxel", "offset"), [(10.0, 0.0), (20.0, 5.0), (13.0, 0.0)])
def test_every_grid_of_scores_has_the_contrast_of_its_places(voxel, offset):
    contrast = blob_contrast(balls((120, 300, 410)), VOXEL, 60.0, as_it_is)
    shape = tuple(int((n - 1) * VOXEL / voxel) for n in SHAPE)
    values = contrast.at(flat_scores(shape, voxel, offset))
    place = np.rint((np.array((120, 300, 410)) - offset) / voxel).astype(int)
    fine = contrast.at(flat_scores())
    at = tuple(np.rint((place * voxel + offset) / VOXEL).astype(int))
    assert values[tuple(place)] == pytest.approx(float(fine[at]), abs=0.6)
    np.testing.assert_array_equal(values[3:9, 4, 5:7], values[:, :, :][3:9, 4, 5:7])


def test_the_coarse_grid_holds_the_means_of_cubes():
    rng = np.random.default_rng(1)
    data = rng.normal(size=(13, 18, 23)).astype(np.float32)
    contrast = blob_contrast(data, VOXEL, 80.0, as_it_is)  # cubes of 2 x 2 x 2
    assert contrast.field.shape == (6, 9, 11)
    assert (contrast.voxel_size, contrast.offset) == (20.0, 5.0)


def test_a_constant_tomogram_has_none():
    contrast = blob_contrast(np.ones((8, 9, 10), np.float32), VOXEL, 60.0, as_it_is)
    np.testing.assert_array_equal(contrast.at(flat_scores((8, 9, 10)))[:, :, :], 0)


@settings(max_examples=50)
@given(st.tuples(st.integers(1, 2000), st.integers(1, 3000), st.integers(1, 3000)), st.floats(20, 400))
def test_the_grid_is_bounded_and_fits(shape, radius):
    factor = _factor(shape, VOXEL, radius)
    assert 1 <= factor <= min(shape)
    if factor < min(shape):
        assert np.prod([float(n // factor) for n in shape]) <= MOST_VOXELS


def test_of_two_equal_scores_the_denser_place_ranks_first():
    own = np.full(SHAPE, 0.05, np.float32)
    for place in ((12, 16, 20), (28, 40, 50)):
        own[place] = 0.7
    scores = ScoreMap(np.stack([np.full(SHAPE, 0.1, np.float32), own]), VOXEL, RANGES, kind="heatmap")
    data = balls((280, 400, 500))
    picks = pick(
        select(scores, ["p=60"], {60.0: blob_contrast(data, VOXEL, 60.0, as_it_is)}),
        PickConfig(threshold=0.02),
    )
    np.testing.assert_allclose(picks.positions, [[280, 400, 500], [120, 160, 200]], atol=3)
    assert picks.scores[0] > picks.scores[1] + 0.2


def test_two_and_a_half_standard_deviations_change_nothing_and_gold_counts_as_four():
    class Fixed:
        def __init__(self, value):
            self.value = value

        def at(self, scores):
            return np.full(scores.data.shape[1:], self.value, np.float32)

    scores = flat_scores((2, 3, 4), own=0.6)
    plain = select(scores, ["p=60"]).data[0]

    def of(value):
        return select(scores, ["p=60"], {60.0: Fixed(value)}).data[0]

    np.testing.assert_allclose(of(2.5), plain, rtol=1e-5)
    # logit(0.6) = 0.4055: 2 * 0.4055 - 0 + 2 * (3 - 2.5) = 1.811
    np.testing.assert_allclose(of(3.0), 0.8595, atol=1e-4)
    np.testing.assert_array_equal(of(4.0), of(30.0))
    assert of(-50.0).max() < 1e-4


def test_nothing_is_calibrated_for_it():
    size = {"scores": {}, "threshold": 0.3}
    scores = flat_scores((4, 5, 6))
    contrast = blob_contrast(np.ones((4, 5, 6), np.float32), VOXEL, 60.0, as_it_is)
    known = ScoreMap(scores.data, VOXEL, RANGES, kind="heatmap", calibration={"sizes": {"large": size}})
    chosen = select(known, ["p=60"], {60.0: contrast})
    assert chosen.calibration is None
    assert chosen.thresholds == {"p": 0.5}
    (note,) = size_notes(known, PickConfig(species=("p=60",), by_contrast=True))
    assert "--by-contrast" in note


def test_it_needs_a_detector_of_any_size_and_a_size():
    check_by_contrast(RANGES, PickConfig(species=("p=60",), by_contrast=True))
    with pytest.raises(RequestError, match="needs the size"):
        check_by_contrast(RANGES, PickConfig(by_contrast=True))
    named = (Species(name="ribosome", label=1, radius=125.0),)
    with pytest.raises(RequestError, match="named species"):
        check_by_contrast(named, PickConfig(species=("ribosome",), by_contrast=True))
