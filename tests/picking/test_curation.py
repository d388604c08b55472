"""Recalibration by decisions: few move it little, many decide, and the thresholds follow."""

import numpy as np
import pytest
from scipy.special import expit, logit

from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.picking import PickConfig
from cryovox.picking.calibration import (
    Calibration,
    Peaks,
    calibrate,
    estimated_prior,
    probabilities,
)
from cryovox.picking.curation import ENOUGH, WIDTHS, Curated, fit, recalibrate
from cryovox.picking.rated import Decoys, pick_rated, trusted_species

GRID = expit(np.linspace(-3, 4, 40))


def world(rng, particles, others, shift=0.0):
    """Scores of particles and of other peaks, normal and exponential in log-odds, and which is which."""
    particle, other = rng.normal(0.5 + shift, 1.0, particles), -3.9 + shift + rng.exponential(1.0, others)
    return expit(np.r_[particle, other]), np.r_[np.ones(particles), np.zeros(others)]


@pytest.fixture
def calibration():
    scores, truth = world(np.random.default_rng(9), 400, 1600)
    own = Peaks(scores=scores.tolist(), truth=truth.tolist(), particles=400, hits=400, floor=0.02)
    return calibrate({"a": own}, "held-out")


def decided(scores, truth, which):
    kept = np.full(len(scores), np.nan)
    kept[which] = truth[which]
    return Curated(scores, kept)


def error(probability, truth, bins=10):
    edges = np.clip((probability * bins).astype(int), 0, bins - 1)
    return sum(abs(probability[edges == b].sum() - truth[edges == b].sum()) for b in range(bins)) / len(truth)


def test_without_decisions_nothing_changes(calibration):
    assert fit(np.zeros(0), np.zeros(0), np.zeros(0), WIDTHS["held-out"]) == pytest.approx((1, 0))
    scores, _ = world(np.random.default_rng(0), 50, 200)
    none = Curated(scores, np.full(len(scores), np.nan))
    curation = recalibrate(calibration, {"a": [none]})
    assert curation.calibration == calibration
    assert not curation.outcomes


def test_a_decision_that_contradicts_moves_little_and_many_decide(calibration):
    logits = np.array([logit(0.9)])
    shifts = []
    for count in (1, 10, 300):
        slope, shift = fit(np.repeat(logits, count), np.zeros(count), np.zeros(count), WIDTHS["held-out"])
        shifts.append(expit(slope * logits[0] + shift))
    assert 0.75 < shifts[0] < 0.9
    assert shifts[0] > shifts[1] > shifts[2]
    assert shifts[2] < 0.03
    # a rough calibration gives way sooner
    slope, shift = fit(logits, np.zeros(1), np.zeros(1), WIDTHS["mixture"])
    assert expit(slope * logits[0] + shift) < shifts[0]


def test_decisions_that_agree_leave_the_calibration(calibration):
    scores, truth = world(np.random.default_rng(3), 100, 400)
    curation = recalibrate(calibration, {"a": [decided(scores, truth, slice(None))]})
    before, after = (c.species["a"] for c in (calibration, curation.calibration))
    gap = probabilities(after, GRID, estimated_prior(after, scores)) - probabilities(
        before, GRID, estimated_prior(before, scores)
    )
    assert np.abs(gap).max() < 0.12


def test_a_tomogram_of_particles_alone_tells_nothing_of_the_next():
    """The share of particles of one tomogram is no certainty, and scores keep their likelihood ratio."""
    rng = np.random.default_rng(5)
    scores, truth = (
        np.r_[rng.uniform(0.9, 0.99, 200), rng.uniform(0.02, 0.3, 40)],
        np.repeat([1, 0], (200, 40)),
    )
    own = Peaks(scores=scores.tolist(), truth=truth.tolist(), particles=200, hits=200, floor=0.02)
    calibration = calibrate({"a": own}, "held-out")
    particles = rng.uniform(0.9, 0.99, 24)
    curation = recalibrate(calibration, {"a": [decided(particles, np.ones(24), slice(None))]})
    after = curation.calibration.species["a"]
    others = np.r_[rng.uniform(0.9, 0.99, 20), rng.uniform(0.02, 0.3, 30)]
    chance = probabilities(after, others, estimated_prior(after, others))
    assert chance[:20].min() > 0.99
    assert chance[20:].max() < 0.1


@pytest.mark.parametrize("shift", [-1.0, 1.5])
def test_many_decisions_correct_scores_that_are_off(calibration, shift):
    """Scores of these tomograms are higher or lower than in the calibration; half are decided."""
    rng = np.random.default_rng(1)
    parts, tests = [], []
    for _ in range(2):
        scores, truth = world(rng, 120, 480, shift)
        parts.append(decided(scores, truth, rng.random(len(scores)) < 0.5))
        tests.append((scores, truth))
    own = recalibrate(calibration, {"a": parts}).calibration.species["a"]
    before = calibration.species["a"]
    for scores, truth in [*tests, world(rng, 300, 1200, shift)]:
        corrected = error(probabilities(own, scores, estimated_prior(own, scores)), truth)
        assert corrected < 0.07
        assert corrected < error(probabilities(before, scores, estimated_prior(before, scores)), truth)
    assert (np.diff(probabilities(own, GRID)) >= 0).all()


def test_decisions_on_the_best_scores_alone_are_not_biased(calibration):
    """A person inspects picks, not all candidates: the probabilities of the picks must still hold."""
    rng = np.random.default_rng(5)
    scores, truth = world(rng, 200, 800, 1.0)
    best = scores > 0.5
    own = recalibrate(calibration, {"a": [decided(scores, truth, best)]}).calibration.species["a"]
    probability = probabilities(own, scores, estimated_prior(own, scores))
    assert probability[best].mean() == pytest.approx(truth[best].mean(), abs=0.04)


def test_species_without_decisions_keep_their_calibration(calibration):
    both = Calibration(species=dict.fromkeys(("a", "b"), calibration.species["a"]), basis="held-out")
    curation = recalibrate(both, {"a": [Curated(np.array([0.9, 0.5]), np.array([0.0, np.nan]))], "b": []}, 3)
    assert curation.calibration.species["b"] == calibration.species["a"]
    assert curation.calibration.species["a"] != calibration.species["a"]
    own = curation.outcomes["a"]
    assert (own.kept, own.rejected, curation.unmatched) == (0, 1, 3)
    assert own.after < own.before


def test_a_model_without_calibration_gets_one():
    scores, truth = world(np.random.default_rng(2), 100, 400)
    curation = recalibrate(None, {"a": [decided(scores, truth, slice(None))]})
    own = curation.calibration.species["a"]
    assert error(probabilities(own, scores, estimated_prior(own, scores)), truth) < 0.06
    assert own.prior == pytest.approx(0.2, abs=0.03)


def test_enough_decisions_are_trusted_in_any_tomogram(calibration):
    scores, truth = world(np.random.default_rng(2), 100, 400)
    few, many = (
        recalibrate(calibration, {"a": [decided(scores, truth, np.arange(n))]}) for n in (ENOUGH - 1, ENOUGH)
    )
    assert trusted_species(calibration, True) == {"a"}
    assert not trusted_species(calibration, False, few)
    assert trusted_species(calibration, False, many) == {"a"}


@pytest.fixture
def score_map(calibration):
    """Peaks of single voxels with scores from 0.05 to 0.95."""
    data = np.zeros((1, 8, 80, 80), np.float32)
    values = np.linspace(0.05, 0.95, 64)
    data[0, 4, 8:72:8, 8:72:8] = values.reshape(8, 8)
    return ScoreMap(
        data, 10.0, (Species(name="a", label=1, radius=15.0),), kind="heatmap",
        thresholds={"a": 0.4}, calibration=calibration.model_dump(),
    )  # fmt: skip


def test_thresholds_purposes_and_rates_follow_decisions(score_map, calibration):
    config = PickConfig(border=0.0)
    plain = pick_rated(score_map, config)
    scores = np.sort(plain.curves["a"].scores)
    same = recalibrate(calibration, {"a": [Curated(scores, np.full(len(scores), np.nan))]})
    assert len(pick_rated(score_map, config, curation=same).picks) == len(plain.picks)
    counts = {}
    for name, kept in (("kept", 1.0), ("rejected", 0.0)):
        curation = recalibrate(calibration, {"a": [Curated(scores, np.full(len(scores), kept))]})
        for rule, more in (
            ("default", {}),
            ("averaging", {"config": config.model_copy(update={"purpose": "averaging"})}),
            ("fdr", {"fdr": 0.2}),
        ):
            rated = pick_rated(score_map, **({"config": config} | more), curation=curation)
            counts[rule, name] = len(rated.picks)
        if len(rated.picks):
            assert rated.picks.extra["cryovoxProbability"].astype(float).mean() >= 0.8 - 1e-3
    assert counts["default", "kept"] > len(plain.picks) > counts["default", "rejected"]
    assert counts["averaging", "kept"] > counts["averaging", "rejected"]
    assert counts["fdr", "kept"] > counts["fdr", "rejected"]
    fixed = config.model_copy(update={"threshold": 0.4})
    rejecting = recalibrate(calibration, {"a": [Curated(scores, np.zeros(len(scores)))]})
    assert len(pick_rated(score_map, fixed, curation=rejecting).picks) == len(plain.picks)
    few = recalibrate(
        calibration, {"a": [Curated(scores, np.r_[np.zeros(3), np.full(len(scores) - 3, np.nan)])]}
    )
    decoys = Decoys({"a": np.zeros(0)}, {"a": 1.0})
    assert len(pick_rated(score_map, config, fdr=0.2, decoys=decoys, curation=few).picks) > 0
