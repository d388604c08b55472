import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryovox.metrics.matching import greedy, optimal, pairs_within

PLACES = st.lists(st.tuples(*[st.integers(0, 8)] * 3), max_size=9).map(
    lambda some: np.array(some, float).reshape(-1, 3)
)


def line(*x):
    return np.array([[0, 0, v] for v in x], float)


def best_count(predicted, truth, radius):
    """Brute force: the largest one-to-one matching by augmenting paths."""
    near = np.linalg.norm(predicted[:, None] - truth[None], axis=-1) <= radius
    owner = {}

    def place(i, visited):
        for j in np.flatnonzero(near[i]):
            if j not in visited:
                visited.add(j)
                if j not in owner or place(owner[j], visited):
                    owner[j] = i
                    return True
        return False

    return sum(place(i, set()) for i in range(len(predicted)))


def test_the_best_pick_chooses_first_even_if_that_costs_a_hit():
    predicted, truth = line(1, -4), line(0, 5)
    assert len(greedy(predicted, truth, 4.5, np.array([1.0, 0.5]))) == 1
    match = optimal(predicted, truth, 4.5)
    assert sorted(zip(match.predicted.tolist(), match.truth.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_of_equal_picks_the_nearest_goes_first():
    match = greedy(line(2, 1), line(0), 5)
    assert match.predicted.tolist() == [1]
    assert match.distance.tolist() == [1]


def test_optimal_prefers_less_distance_among_the_largest():
    match = optimal(line(0, 10), line(1, 9), 20)
    assert match.distance.sum() == 2


def test_each_particle_may_have_its_own_radius():
    assert pairs_within(line(3, 13), line(0, 10), [4, 2]).predicted.tolist() == [0]


def test_a_distance_equal_to_the_radius_counts():
    assert len(greedy(line(3), line(0), 3)) == 1


@settings(max_examples=80, deadline=None)
@given(PLACES, PLACES, st.floats(0.5, 6), st.randoms())
def test_invariants(predicted, truth, radius, random):
    scores = np.array([random.choice([0.1, 0.5, 0.9]) for _ in predicted])
    one, best = greedy(predicted, truth, radius, scores), optimal(predicted, truth, radius)
    for match in (one, best):
        assert len(set(match.predicted.tolist())) == len(match) == len(set(match.truth.tolist()))
        assert (match.distance <= radius).all()
    assert len(best) == best_count(predicted, truth, radius)
    assert len(best) / 2 <= len(one) <= len(best)
    swapped = optimal(truth, predicted, radius)
    assert len(swapped) == len(best)
    assert swapped.distance.sum() == pytest.approx(best.distance.sum())
    assert len(optimal(predicted, truth, radius + 1)) >= len(best)


def test_greedy_equals_optimal_where_particles_are_far_apart():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = np.stack(np.meshgrid(*[np.arange(4) * 30.0] * 3), -1).reshape(-1, 3)
        predicted = (truth + rng.normal(0, 4, truth.shape))[rng.random(len(truth)) < 0.8]
        assert len(greedy(predicted, truth, 10)) == len(optimal(predicted, truth, 10))


def test_large_lists_are_quick():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 4000, (5000, 3))
    predicted = truth + rng.normal(0, 30, truth.shape)
    assert len(optimal(predicted, truth, 100)) >= len(greedy(predicted, truth, 100)) > 4000
