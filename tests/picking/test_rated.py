"""What is expected of picks."""

import numpy as np
import pytest

from cryovox.core.particles import Particles
from cryovox.picking.cuts import ExpectedCurve
from cryovox.picking.rated import Decoys, RatedPicks


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


def test_the_decisions_of_a_person_overrule_noise():
    assert rated(80, curated=["a"])["expected_precision"] == pytest.approx(0.9)
