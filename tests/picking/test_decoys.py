"""Expected false positives: counted, extrapolated and calibrated; decoys compete with targets."""

import numpy as np
import pytest
from scipy import ndimage

from cryovox.picking.decoys import DECOY_TAIL, Background, decoy_wins
from cryovox.picking.side_lobes import side_lobes


def test_many_false_positives_are_counted():
    background = Background(np.linspace(0.01, 0.9, 90), share=0.25)
    assert background.expected([0.305, 0.105]).tolist() == [60 * 4, 80 * 4]


def test_the_expected_number_falls_with_the_score_and_with_the_share():
    scores = np.abs(np.random.default_rng(0).standard_normal(500)) * 0.1
    grid = np.linspace(0, 0.9, 300)
    expected = Background(scores, 0.5).expected(grid)
    assert (np.diff(expected) <= 1e-12).all()
    assert np.allclose(Background(scores, 0.25).expected(grid), 2 * expected)
    assert 0 < expected[-1] < 1e-6


@pytest.mark.parametrize("count", [0.3, 1, 10, 100])
def test_thresholds_are_calibrated_in_noise(count):
    """Peaks of smoothed noise with the highest of several filters, from an eighth of what is searched."""
    rng = np.random.default_rng(1)
    filters = rng.standard_normal((24, 3, 4, 5))

    def peaks(shape):
        noise = rng.standard_normal(shape)
        scores = 0.12 * max_of(noise) / np.sqrt(60)
        top = ndimage.maximum_filter(scores, 5)
        inside = (slice(5, -5),) * 3
        return scores[inside][(scores == top)[inside]]

    def max_of(noise):
        maps = (ndimage.convolve(noise, kernel, mode="wrap") for kernel in filters[:8])
        return np.maximum.reduce(list(maps))

    searched = (3 * 30) * 36 * 44
    ratios = []
    for _ in range(6):
        background = Background(peaks((40, 46, 54)), share=30 * 36 * 44 / searched)
        found = np.concatenate([peaks((40, 46, 54)) for _ in range(3)])
        ratios.append((found >= background.threshold(count)).sum())
    assert count / 1.5 - 1 <= np.mean(ratios) <= count * 1.5 + 1


@pytest.mark.parametrize(("share", "tail"), [(1.0, DECOY_TAIL), (0.125, 50)])
def test_thresholds_are_right_on_average_although_the_tail_is_uncertain(share, tail):
    """Peaks with the tail of a random field, of which a few are seen; the true number is known."""
    rng, peaks = np.random.default_rng(2), 1500
    u = np.linspace(2.5 / 40, 1.2, 5000)
    below = np.exp(-3 * (u * 16) ** 2.5 * np.exp(2.5 - 40 * u))
    true = []
    for _ in range(150):
        scores = np.sqrt(-np.expm1(-np.interp(rng.random(int(share * peaks)), below, u)))
        threshold = Background(scores, share, tail).threshold(1.0)
        true.append(peaks * (1 - np.interp(-np.log1p(-(threshold**2)), u, below)))
    assert 0.75 < np.mean(true) < 1.3


def test_few_scores_are_not_extrapolated():
    assert Background(np.array([0.1, 0.2]), 0.5).expected([0.3, 0.15]).tolist() == [2, 4]
    assert Background(np.zeros(0), 1.0).expected(0.5).tolist() == [1]
    assert Background(np.array([0.1, 0.2]), 0.5).threshold(1.0) == 1.0
    assert Background(np.array([0.1, 0.2]), 0.5).threshold(2.0) == pytest.approx(0.2001)


def test_a_few_structures_among_much_noise_are_counted():
    """A tail that is fitted to many scores would be that of the noise."""
    rng = np.random.default_rng(0)
    noise, structures = np.abs(rng.normal(0.15, 0.05, 1500)), rng.uniform(0.4, 0.6, 20)
    scores = np.concatenate([noise, structures])
    assert Background(scores, 0.5).expected(0.5) < 4
    assert 10 < Background(scores, 0.5, DECOY_TAIL).expected(0.5)[0] < 30


def peaks_among_structures(rng, means):
    """Scores of noise, and of four particles of each of some species."""
    noise = 0.3 + 0.035 * rng.gumbel(size=1500)
    return np.concatenate([noise, *(rng.normal(mean, 0.04, 4) for mean in means)])


@pytest.mark.parametrize(
    "means", [(), (0.45, 0.5, 0.52, 0.55, 0.57, 0.6), (0.55,) * 6, (0.4, 0.42, 0.45, 0.65)]
)
def test_thresholds_are_right_on_average_whatever_the_distribution(means):
    """Decoy and target match other species alike; the extrapolated tail alone gives 0.3 to 2.7 at 1."""
    rng, counts = np.random.default_rng(0), (1, 10, 100)
    ratios = []
    for _ in range(100):
        targets, decoys = (peaks_among_structures(rng, means) for _ in range(2))
        background = Background(decoys, 1.0, DECOY_TAIL)
        ratios.append([(targets >= background.threshold(count)).sum() / count for count in counts])
    assert np.allclose(np.mean(ratios, axis=0), 1, atol=0.35)


def test_beyond_the_highest_score_fewer_than_one_are_expected():
    scores = np.random.default_rng(0).normal(0.1, 0.05, 400)
    background, highest = Background(scores, 1.0), scores.max()
    assert background.expected([highest, highest + 1e-6]) == pytest.approx([2, 1], abs=1e-3)
    assert 1e-3 < background.expected(highest + 0.05)[0] < 0.2


def test_false_discovery_rates_follow_the_order_of_the_scores():
    background = Background(np.random.default_rng(0).normal(0.1, 0.05, 400), 1.0)
    picks = np.random.default_rng(1).uniform(0.1, 0.5, 200)
    rates = background.q_values(picks)
    order = np.argsort(picks)
    assert (np.diff(rates[order]) <= 0).all()
    assert rates[order][-1] < 0.01 < rates[order][0] <= 1
    assert (rates <= background.expected(picks) / np.array([(picks >= p).sum() for p in picks]) + 1e-12).all()
    assert len(background.q_values([])) == 0


def test_places_where_the_decoy_wins_count_with_both_scores():
    decoys = np.array([[0.0, 0, 0], [9, 0, 0], [20, 0, 0]])
    targets = np.array([[1.0, 0, 0], [9, 2, 0], [40, 0, 0]])
    wins = decoy_wins(decoys, np.array([0.3, 0.5, 0.2]), targets, np.array([0.9, 0.4, 0.8]), 3.0)
    assert sorted(wins) == [0.2, 0.4, 0.5]
    assert decoy_wins(decoys, np.ones(3), np.zeros((0, 3)), np.zeros(0), 3.0).tolist() == [1, 1, 1]


def test_competition_estimates_what_both_see():
    """Structures that target and decoy match alike, beside true particles that only the target matches."""
    rng = np.random.default_rng(3)
    places = np.arange(600.0)[:, None] * [10, 0, 0]
    false_target, false_decoy = rng.uniform(0.2, 0.6, (2, 400))
    true_target, true_decoy = rng.uniform(0.5, 0.9, 200), rng.uniform(0.1, 0.4, 200)
    targets, decoys = np.concatenate([false_target, true_target]), np.concatenate([false_decoy, true_decoy])
    background = Background(decoy_wins(places, decoys, places, targets, 3.0), 1.0)
    for threshold in (0.3, 0.4, 0.5):
        real = (false_target >= threshold).sum()
        assert real / 1.25 < background.expected(threshold)[0] < real * 1.25


def test_weak_peaks_beside_a_strong_one_are_side_lobes():
    positions = np.array([[0.0, 0, 0], [0, 11, 0], [0, 0, -14], [16, 0, 0], [60, 0, 0], [60, 10, 0]])
    scores = np.array([0.9, 0.4, 0.5, 0.3, 0.3, 0.2])
    assert side_lobes(positions, scores, 10.0).tolist() == [False, True, False, False, False, False]
    assert side_lobes(positions[:1], scores[:1], 10.0).tolist() == [False]
