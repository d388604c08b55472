"""Which channels of a score map are picked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.picking import PickConfig, pick
from cryovox.picking.rated import calibration_of
from cryovox.picking.selection import select, size_notes

SIZES = (Species(name="small", label=1, radius=30.0), Species(name="medium", label=2, radius=45.0),
         Species(name="large", label=3, radius=90.0))  # fmt: skip


def peak(shape, at, height, width=2.0):
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return height * np.exp(-sum((g - a) ** 2 for g, a in zip(grid, at, strict=True)) / (2 * width**2))


@pytest.fixture
def score_map():
    """One particle that scores in two channels, and one of another size."""
    shape = (16, 20, 26)
    data = np.stack([
        peak(shape, (8, 6, 7), 0.6), peak(shape, (8, 6, 7), 0.8), peak(shape, (8, 14, 19), 0.9),
    ]).astype(np.float32)  # fmt: skip
    return ScoreMap(data, 10.0, SIZES, kind="heatmap", thresholds={"small": 0.2, "medium": 0.4, "large": 0.5})


def test_no_selection_changes_nothing(score_map):
    assert select(score_map, ()) is score_map


def test_names_keep_their_channels_and_thresholds(score_map):
    chosen = select(score_map, ["large", "small"])
    assert [s.name for s in chosen.species] == ["large", "small"]
    assert [s.radius for s in chosen.species] == [90.0, 30.0]
    assert chosen.thresholds == {"large": 0.5, "small": 0.2}
    np.testing.assert_array_equal(chosen.data, score_map.data[[2, 0]])


def test_a_particle_between_two_sizes_is_picked_once(score_map):
    picks = pick(select(score_map, ["ribosome=36"]))
    assert picks.species.tolist() == ["ribosome"]
    np.testing.assert_allclose(picks.positions, [[80, 60, 70]], atol=0.5)
    assert picks.scores[0] == pytest.approx(0.8)


def test_a_size_takes_the_threshold_of_the_nearest_channel(score_map):
    assert select(score_map, ["a=32"]).thresholds == {"a": 0.2}
    assert select(score_map, ["a=42"]).thresholds == {"a": 0.4}


@given(st.floats(16, 175))
def test_every_size_in_reach_has_a_channel(radius):
    data = np.zeros((3, 2, 3, 4), np.float32)
    chosen = select(ScoreMap(data, 10.0, SIZES, kind="heatmap"), [f"a={radius}"])
    assert chosen.species[0].radius == radius
    assert chosen.data.shape == (1, 2, 3, 4)


def test_channels_of_other_sizes_are_left_out(score_map):
    picks = pick(select(score_map, ["vault=100"]))
    np.testing.assert_allclose(picks.positions, [[80, 140, 190]], atol=0.5)


@pytest.mark.parametrize(
    "key", [np.s_[0], np.s_[0, 3:9], np.s_[1, 2, :, 5], np.s_[:], np.s_[...], np.s_[0:1, 4]]
)
def test_slices_read_what_the_whole_array_holds(score_map, key):
    data = select(score_map, ["a=36", "large"]).data
    whole = np.stack([score_map.data[:2].max(0), score_map.data[2]])
    np.testing.assert_array_equal(data[key], whole[key])
    assert data.shape == whole.shape
    assert len(data) == 2


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["virus"], "choose from small, medium, large"),
        (["virus=400"], "radii 30, 45, 90"),
        (["virus=big"], "NAME=RADIUS"),
        (["virus=-3"], "NAME=RADIUS"),
        (["virus=nan"], "NAME=RADIUS"),
        (["=30"], "NAME=RADIUS"),
        (["small", "small=30"], "twice"),
    ],
)
def test_what_cannot_be_picked_is_refused(score_map, wanted, message):
    with pytest.raises(RequestError, match=message):
        select(score_map, wanted)


RANGES = (Species(name="small", label=1, radius=30.0, diameters=(40.0, 90.0)),
          Species(name="large", label=2, radius=120.0, diameters=(90.0, 640.0)))  # fmt: skip


def of_ranges(small, large, **fields):
    return ScoreMap(np.stack([small, large]).astype(np.float32), 20.0, RANGES, kind="heatmap", **fields)


def test_a_size_is_scored_by_its_odds_against_the_others():
    small, large = np.full((2, 3, 4), 0.2), np.full((2, 3, 4), 0.7)
    score = select(of_ranges(small, large), ["ribosome=125"]).data[0, 1, 2, 3]
    # logit(0.7) = 0.8473, logit(0.2) = -1.3863: 2 * 0.8473 + 1.3863 = 3.0809
    assert score == pytest.approx(0.9561, abs=1e-4)
    unchanged = select(of_ranges(large, large), ["large"]).data[...]
    np.testing.assert_allclose(unchanged, 0.7, atol=1e-6)


def test_a_stronger_particle_of_another_size_is_ranked_below_a_weaker_one_of_the_size():
    shape = (20, 24, 28)
    own, other = peak(shape, (8, 6, 7), 0.4), peak(shape, (8, 16, 20), 0.9)
    picks = pick(
        select(of_ranges(other, own + peak(shape, (8, 16, 20), 0.45)), ["large"]), PickConfig(threshold=0.02)
    )
    np.testing.assert_allclose(picks.positions[0], [160, 120, 140], atol=2)


def test_a_size_has_thresholds_and_probabilities_of_its_own():
    curve = {"scores": [0.5], "probabilities": [0.5], "prior": 0.5, "floor": 0.0, "particles": 1, "peaks": 2}
    size = {"scores": {**curve, "prior": 0.25}, "threshold": 0.3}
    known = {"basis": "held-out", "species": {"large": curve}, "sizes": {"large": size}}
    empty = np.zeros((2, 3, 4))
    maps = of_ranges(empty, empty, thresholds={"small": 0.6, "large": 0.6}, calibration=known)
    chosen = select(maps, ["ribosome=125"])
    assert chosen.thresholds == {"ribosome": 0.3}
    assert calibration_of(chosen).species["ribosome"].prior == 0.25
    uncalibrated = select(of_ranges(empty, empty, thresholds={"large": 0.6}), ["ribosome=125"])
    assert not uncalibrated.thresholds  # those of the sum do not hold
    assert uncalibrated.calibration is None


def test_a_detector_of_one_range_keeps_its_scores():
    data = np.full((1, 2, 3, 4), 0.6, np.float32)
    chosen = select(ScoreMap(data, 20.0, RANGES[1:], kind="heatmap"), ["large"])
    np.testing.assert_array_equal(chosen.data[...], data)


def test_a_default_threshold_for_a_size_is_said():
    empty = np.zeros((2, 3, 4))
    maps, chosen = of_ranges(empty, empty, thresholds={"large": 0.6}), PickConfig(species=("ribosome=125",))
    (note,) = size_notes(maps, chosen)
    assert "0.3 is the threshold" in note
    assert not size_notes(maps, chosen, fdr=0.05)
    assert not size_notes(maps, PickConfig(species=chosen.species, threshold=0.4))
    assert not size_notes(maps, PickConfig())
    assert not size_notes(of_ranges(empty, empty, calibration={"sizes": {"large": {}}}), chosen)
