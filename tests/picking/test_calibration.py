"""Calibration of scores, cuts and decoys in worlds whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import nbinom

from cryovox.picking.calibration import (
    IDENTITY,
    IDENTITY_WIDTH,
    KNOTS,
    Peaks,
    SpeciesCalibration,
    calibrate,
    calibrated_curve,
    estimated_prior,
    fit,
    mixture,
    probabilities,
)
from cryovox.picking.cuts import Cut, ExpectedCurve
from cryovox.picking.decoys import decoys_above, q_values, rate_interval

unit = st.floats(0, 1)


def world(rng, particles, others):
    """Scores of particles and of other peaks, normal and exponential in log-odds, and which is which."""
    particle, other = rng.normal(0.5, 1.0, particles), -3.9 + rng.exponential(1.0, others)
    return expit(np.r_[particle, other]), np.r_[np.ones(particles), np.zeros(others)]


def peaks(scores, truth, floor=0.02):
    hits = int(np.rint(truth.sum()))
    return Peaks(scores=scores.tolist(), truth=truth.tolist(), particles=hits, hits=hits, floor=floor)


def calibration_error(probability, truth, bins=10):
    edges = np.clip((probability * bins).astype(int), 0, bins - 1)
    return sum(abs(probability[edges == b].sum() - truth[edges == b].sum()) for b in range(bins)) / len(truth)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_probabilities_are_calibrated_on_other_peaks_of_the_same_world(seed):
    rng = np.random.default_rng(seed)
    own = calibrate({"a": peaks(*world(rng, 150, 600))}, "held-out").species["a"]
    scores, truth = world(rng, 4000, 16000)
    assert calibration_error(probabilities(own, scores), truth) < 0.03
    assert calibration_error(scores, truth) > 0.03  # as they are, they are no probabilities
    assert own.prior == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("particles", "others"), [(1000, 500), (200, 3000), (5, 3000)])
def test_the_share_of_particles_is_that_of_the_tomogram(particles, others):
    rng = np.random.default_rng(0)
    own = calibrate({"a": peaks(*world(rng, 400, 1600))}, "held-out").species["a"]
    scores, truth = world(rng, particles, others)
    prior = estimated_prior(own, scores)
    assert prior == pytest.approx(truth.mean(), abs=0.06)
    error = calibration_error(probabilities(own, scores, prior), truth)
    assert error < 0.05
    assert error < calibration_error(probabilities(own, scores), truth)


def test_without_peaks_of_its_own_a_score_is_nearly_a_probability():
    assert np.allclose(fit(np.zeros(0), np.zeros(0), IDENTITY, IDENTITY_WIDTH), IDENTITY)
    curve = calibrated_curve(np.zeros(0), np.zeros(0), IDENTITY)
    own = SpeciesCalibration(
        scores=KNOTS.tolist(), probabilities=curve.tolist(), prior=0.5, floor=0.02, particles=0, peaks=0
    )
    scores = np.linspace(0.02, 0.99, 50)
    np.testing.assert_allclose(probabilities(own, scores), scores)
    assert estimated_prior(own, np.zeros(0)) == 0.5
    assert calibrate({}, "held-out") is None


def test_a_species_with_few_peaks_follows_the_others():
    rng = np.random.default_rng(0)
    many = peaks(*world(rng, 300, 1200))
    few = peaks(np.array([0.4, 0.5]), np.array([1.0, 0.0]))
    fitted = calibrate({"many": many, "few": few}, "held-out").species
    grid = np.linspace(0.05, 0.95, 30)
    # but for the share of particles, which is its own
    empty = Peaks(scores=[], truth=[], particles=0, hits=0, floor=0.02)
    own = calibrate({"many": many, "none": empty}, "mixture").species["none"]
    assert own.prior == pytest.approx(0.2, abs=0.01)
    assert (own.ceiling, own.peaks) == (1.0, 0)
    few_like = fitted["few"].model_copy(update={"prior": fitted["many"].prior})
    shift = np.ptp(probabilities(few_like, grid) - probabilities(fitted["many"], grid))
    assert shift < 0.3


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(unit, st.booleans()), max_size=30),
    st.lists(unit, min_size=2, max_size=20),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_probabilities_rise_with_the_score(known, scores, prior):
    table = np.array(known, float).reshape(-1, 2)
    curve = calibrated_curve(table[:, 0], table[:, 1], IDENTITY)
    own = SpeciesCalibration(
        scores=KNOTS.tolist(), probabilities=curve.tolist(), prior=0.3, floor=0, particles=1, peaks=1
    )
    rising = probabilities(own, np.sort(scores), prior)
    assert (np.diff(rising) >= 0).all()
    assert ((rising >= 0) & (rising <= 1)).all()


def test_a_mixture_tells_unlabeled_particles_from_other_peaks():
    rng = np.random.default_rng(0)
    scores, truth = world(rng, 300, 1200)
    labeled = np.zeros(len(scores), bool)
    labeled[rng.choice(300, 30, replace=False)] = True
    belongs = mixture(scores[labeled], scores[~labeled], 0.02)
    assert belongs.sum() == pytest.approx(270, rel=0.2)
    assert calibration_error(belongs, truth[~labeled]) < 0.06
    order = np.argsort(scores[~labeled])
    assert (np.diff(belongs[order]) >= 0).all()
    assert len(mixture(scores[labeled], np.zeros(0), 0.02)) == 0


def test_expected_precision_and_recall_by_hand():
    curve = ExpectedCurve.of(np.array([0.2, 0.9, 0.5, 0.7]), np.array([0.1, 1.0, 0.5, 0.8]), ceiling=0.8)
    cut = curve.at(0.5)
    assert (cut.picks, cut.hits) == (3, pytest.approx(2.3))
    assert cut.particles == pytest.approx(3.0)
    assert (cut.precision, cut.recall) == (pytest.approx(2.3 / 3), pytest.approx(2.3 / 3))
    assert cut.f_beta(1) == pytest.approx(2.3 / 3)
    assert curve.best("averaging").score == 0.9
    assert curve.best("counting").score == 0.5
    assert curve.best("czii").score == 0.2
    nothing = ExpectedCurve.of(np.zeros(0), np.zeros(0)).best("counting")
    assert (nothing.picks, nothing.score) == (0, np.inf)
    assert (Cut(1.0, 0, 0.0, 0.0).precision, Cut(1.0, 0, 0.0, 0.0).recall) == (1, 1)


def test_averaging_takes_none_where_none_is_precise():
    curve = ExpectedCurve.of(np.array([0.9, 0.9, 0.5]), np.array([0.6, 0.6, 0.2]))
    assert (curve.best("averaging").score, curve.best("averaging").picks) == (np.inf, 0)
    assert curve.best("averaging").particles == pytest.approx(1.4)


@pytest.mark.parametrize("seed", range(3))
def test_expected_precision_of_a_cut_is_the_true_one(seed):
    rng = np.random.default_rng(seed)
    own = calibrate({"a": peaks(*world(rng, 400, 1600))}, "held-out").species["a"]
    scores, truth = world(rng, 1000, 4000)
    curve = ExpectedCurve.of(scores, probabilities(own, scores))
    for purpose in ("averaging", "counting", "czii"):
        cut = curve.best(purpose)
        kept = scores >= cut.score
        assert kept.sum() == cut.picks
        chance = 3 * np.sqrt(max(cut.picks * cut.precision * (1 - cut.precision), 1.0))
        assert abs(cut.hits - truth[kept].sum()) <= 0.04 * cut.picks + chance
        assert cut.recall == pytest.approx(truth[kept].sum() / 1000, abs=0.05)
    precise = ExpectedCurve.of(scores, probabilities(own, scores, 0.6)).best("averaging")
    assert precise.precision >= 0.95
    assert precise.picks > 100


@settings(max_examples=60, deadline=None)
@given(st.lists(unit, max_size=30), st.lists(unit, max_size=30), st.floats(0.1, 10))
def test_q_values_fall_with_the_score(targets, decoys, scale):
    targets = np.array(targets)
    values = q_values(targets, np.array(decoys), scale)
    assert ((values >= 0) & (values <= 1)).all()
    order = np.argsort(targets, kind="stable")
    assert (np.diff(values[order]) <= 0).all()
    for score in np.unique(targets):
        assert len(np.unique(values[targets == score])) == 1


def test_q_values_by_hand():
    targets, decoys = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.65, 0.2])
    np.testing.assert_allclose(q_values(targets, decoys), [1 / 3, 1 / 3, 1 / 3, 0.5])
    np.testing.assert_allclose(q_values(targets, decoys, 0.5), [1 / 6, 1 / 6, 1 / 6, 0.25])
    assert decoys_above(decoys, np.array([0.65, 0.7, 0.0])).tolist() == [1, 0, 2]


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_the_false_discovery_rate_is_the_requested_one(rate, share):
    """Over many worlds, the share of false picks among those kept is at most the rate, and not far below."""
    rng, false_shares, inside = np.random.default_rng(0), [], []
    for _ in range(60):
        scores, truth = world(rng, 200, 800)
        decoys = world(rng, 0, int(800 * share))[0]
        kept = q_values(scores, decoys, 1 / share) <= rate
        false_share = (1 - truth[kept]).mean() if kept.any() else 0.0
        false_shares.append(false_share)
        if kept.any():
            count = int(decoys_above(decoys, scores[kept].min()))
            low, high = rate_interval(count, int(kept.sum()), 1 / share)
            inside.append(low <= false_share <= high)
    assert np.mean(false_shares) <= rate + 0.01
    assert np.mean(false_shares) >= rate - 0.04
    assert np.mean(inside) > 0.85


def test_in_noise_hardly_ever_more_is_picked_than_allowed():
    rng = np.random.default_rng(0)
    runs = [(q_values(world(rng, 0, 500)[0], world(rng, 0, 500)[0]) <= 0.05).any() for _ in range(400)]
    assert np.mean(runs) <= 0.08


@pytest.mark.parametrize(("decoys", "scale"), [(0, 0.05), (0, 8.0), (7, 0.3), (59, 2.5), (900, 40.0)])
def test_intervals_are_quantiles_of_a_negative_binomial_distribution(decoys, scale):
    expected = nbinom.ppf([0.025, 0.975], decoys + 1, 1 / (1 + scale)) / 10**6
    assert rate_interval(decoys, 10**6, scale) == pytest.approx(expected)


def test_intervals_of_few_decoys_are_wide():
    # without a decoy, k false picks or more have a probability of 1 / 2^k: below 2.5 % from 6 on
    assert rate_interval(0, 100) == (0.0, 0.05)
    low, high = rate_interval(40, 100)
    assert low < 0.3 < 0.4 < 0.5 < high
    assert rate_interval(10, 1000, 8.0)[1] > rate_interval(80, 1000)[1]  # an eighth of the decoys says less
    assert rate_interval(3, 0) == (0.0, 1.0)
