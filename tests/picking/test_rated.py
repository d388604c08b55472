"""What is expected of picks."""

import numpy as np
import pytest

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap
from cryovox.picking import PickConfig
from cryovox.picking.calibration import SpeciesCalibration
from cryovox.picking.cuts import ExpectedCurve
from cryovox.picking.rated import Decoys, RatedPicks, pick_rated

CURVE = SpeciesCalibration(
    scores=[0.01, 0.5, 0.9, 0.99],
    probabilities=[0.01, 0.3, 0.9, 0.99],
    prior=0.5,
    floor=0.02,
    particles=9,
    peaks=20,
).model_dump()


def rated(decoys, *, curated=()):
    """A hundred picks with a probability of 0.9, and candidates in noise of the same volume."""
    scores = np.linspace(1.0, 0.5, 100)
    picks = Particles.of(np.zeros((100, 3)), "a", scores)
    curve = ExpectedCurve.of(scores, np.full(100, 0.9))
    noise = Decoys({"a": np.full(decoys, 0.8)}, {"a": 1.0})
    return RatedPicks(picks, 0, {"a": 0.5}, {"a": curve}, noise, frozenset(curated)).summary()["a"]


@pytest.mark.parametrize("decoys", [0, 10, 20])
def test_noise_that_leaves_room_for_the_probabilities_changes_nothing(decoys):
    summary = rated(decoys)
    assert summary["expected_precision"] == pytest.approx(0.9)
    assert "contradicted" not in summary


def test_picks_in_noise_overrule_the_probabilities():
    summary = rated(80)
    assert summary["contradicted"]
    assert not {"expected_precision", "expected_recall", "cuts", "curve"} & set(summary)
    assert summary["noise"]["expected"] == 80


def peaks(heights):
    """A heatmap with single voxels of these heights, far apart."""
    data = np.zeros((1, 9, 9, 12 * len(heights)), np.float32)
    data[0, 4, 4, 6::12] = heights
    calibration = {"species": {"a": CURVE}, "basis": "held-out"}
    kinds = (Species(name="a", label=1, radius=20.0),)
    return ScoreMap(data, 10.0, kinds, kind="heatmap", thresholds={"a": 0.3}, calibration=calibration)


def test_a_limit_of_the_number_is_what_expectations_are_for():
    heights = [0.95, 0.9, 0.8, 0.6, 0.4]
    noise = Decoys({"a": np.array([0.85, 0.5, 0.4])}, {"a": 1.0})
    whole = pick_rated(peaks(heights), PickConfig(border=0), decoys=noise)
    best = pick_rated(peaks(heights), PickConfig(border=0, max_count=2), decoys=noise)
    assert (len(whole.picks), len(best.picks)) == (5, 2)
    first, second = (one.summary()["a"] for one in (whole, best))
    assert second["expected_precision"] > first["expected_precision"]
    assert second["expected_recall"] < 0.7 * first["expected_recall"]
    assert (first["noise"]["expected"], second["noise"]["expected"]) == (3, 0)
    assert second["threshold"] == pytest.approx(0.9)
    assert next(cut for cut in second["cuts"] if cut["cut"] == "in use")["picks"] == 2


def test_where_nothing_is_precise_enough_for_averaging_a_note_says_so():
    config = PickConfig(border=0, purpose="averaging")
    none = pick_rated(peaks([0.4, 0.3]), config)
    assert len(none.picks) == 0
    assert none.summary()["a"]["threshold"] is None
    assert "no number of picks of a has an expected precision of 0.95" in none.notes(config)[0]
    assert none.notes(PickConfig(border=0, purpose="counting")) == []
    some = pick_rated(peaks([0.99, 0.99, 0.99, 0.3]), config)
    assert (len(some.picks), some.notes(config)) == (3, [])


def test_picks_that_are_no_candidates_have_no_expected_precision():
    picks = Particles.of(np.zeros((1, 3)), "a", np.array([0.4]))
    curve = ExpectedCurve.of(np.array([0.1]), np.array([0.05]))
    assert "expected_precision" not in RatedPicks(picks, 0, {"a": 0.3}, {"a": curve}).summary()["a"]


def test_the_decisions_of_a_person_overrule_noise():
    assert rated(80, curated=["a"])["expected_precision"] == pytest.approx(0.9)
