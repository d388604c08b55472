import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, concatenate
from cryovox.metrics.detection import (
    Detection,
    average_precision,
    detection,
    f_beta,
    precision_recall,
    recall_at_budget,
)
from cryovox.metrics.evaluation import evaluate_particles

LISTS = st.lists(
    st.tuples(st.tuples(*[st.integers(0, 9)] * 3), st.sampled_from([0.1, 0.4, 0.8]), st.sampled_from("ab")),
    max_size=12,
)


def particles(some) -> Particles:
    return Particles.of(
        [p for p, _, _ in some], "x", [s for _, s, _ in some], tomograms=[t for *_, t in some]
    )


def at(*x, scores=None, species="x", tomograms=None):
    return Particles.of([[0, 0, v] for v in x], species, scores, tomograms=tomograms)


def test_counts_by_hand():
    outcome = detection(at(0, 2, 90), at(1.5, 50), 10)
    assert (outcome.hits, outcome.false_picks, outcome.misses) == (1, 2, 1)
    assert (outcome.precision, outcome.recall, outcome.f1) == pytest.approx((1 / 3, 1 / 2, 0.4))
    assert outcome.mean_distance == 0.5


def test_tomograms_are_kept_apart_and_pooled():
    predicted, truth = at(0, 0, tomograms=["a", "b"]), at(0, 0, tomograms=["a", "c"])
    assert detection(predicted, truth, 1) == Detection(1, 1, 1)


def test_empty_lists():
    nothing = at()
    assert detection(nothing, nothing, 1).f1 == 1
    missed, invented = detection(nothing, at(0), 1), detection(at(0), nothing, 1)
    assert (missed.precision, missed.recall, missed.f1) == (0, 0, 0)
    assert (invented.precision, invented.recall, invented.f1) == (0, 0, 0)
    assert np.isnan(missed.mean_distance)
    assert average_precision(nothing, nothing, 1) == 1
    assert average_precision(at(0), nothing, 1) == average_precision(nothing, at(0), 1) == 0


def test_f_beta_by_hand():
    assert f_beta(0.5, 1.0, 1) == pytest.approx(2 / 3)
    assert f_beta(0.5, 1.0, 4) == pytest.approx(17 * 0.5 / 9)
    assert f_beta(0, 0, 4) == 0


def test_average_precision_by_hand():
    truth = at(0, 100, 200)
    # hit, false, hit: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3
    predicted = at(0, 50, 100, scores=[0.9, 0.8, 0.7])
    precision, recall, threshold = precision_recall(predicted, truth, 5)
    assert precision == pytest.approx([1, 1 / 2, 2 / 3])
    assert recall == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert threshold == pytest.approx([0.9, 0.8, 0.7])
    assert average_precision(predicted, truth, 5) == pytest.approx(1 / 3 + 2 / 9)
    assert average_precision(at(0, 100, 200), truth, 5) == 1
    # the dip of the second point is bridged by the better third one
    assert average_precision(at(50, 0, 100, 200, scores=[4, 3, 2, 1]), truth, 5) == pytest.approx(3 / 4)


def test_equal_scores_are_one_point_of_the_curve():
    precision, recall, _ = precision_recall(at(0, 50), at(0), 5)
    assert precision.tolist() == [0.5]
    assert recall.tolist() == [1]


def test_recall_at_budget_by_hand():
    truth = at(0, 100)
    predicted = at(50, 0, 60, 70, 100, scores=[0.9, 0.8, 0.7, 0.6, 0.5])
    assert recall_at_budget(predicted, truth, 5) == {1: 0.5, 2: 0.5, 4: 1.0}
    assert recall_at_budget(at(), truth, 5) == {1: 0, 2: 0, 4: 0}
    # a second pick on the same particle is no second hit
    assert recall_at_budget(at(0, 1, 100, scores=[3, 2, 1]), truth, 5, budgets=(1, 1.5)) == {1: 0.5, 1.5: 1.0}


@settings(max_examples=60, deadline=None)
@given(LISTS, LISTS, st.floats(0.5, 5))
def test_invariants(predicted, truth, radius):
    a, b = particles(predicted), particles(truth)
    one = detection(a, b, radius)
    assert one.hits + one.misses == len(b)
    assert one.hits + one.false_picks == len(a)
    assert all(0 <= v <= 1 for v in (one.precision, one.recall, one.f1, average_precision(a, b, radius)))
    best = detection(a, b, radius, best_matching=True)
    swapped = detection(b, a, radius, best_matching=True)
    assert best.hits >= one.hits
    assert (best.precision, best.recall) == (swapped.recall, swapped.precision)
    assert detection(a, b, radius + 1, best_matching=True).hits >= best.hits
    assert detection(a, a, radius, best_matching=True).f1 == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_the_list_plays_no_part(seed):
    rng = np.random.default_rng(seed)
    scores = rng.choice([0.2, 0.5], 15)
    predicted, truth = (
        Particles.of(rng.uniform(0, 50, (15, 3)), "x", scores),
        Particles.of(rng.uniform(0, 50, (12, 3)), "x"),
    )
    mixed = predicted.take(rng.permutation(15))
    assert detection(mixed, truth, 20).hits == detection(predicted, truth, 20).hits
    assert average_precision(mixed, truth, 20) == average_precision(predicted, truth, 20)


def table_of(*args, **more):
    rows = evaluate_particles(*args, **more)
    assert all(set(row) == {"tomogram", "species", "metric", "value"} for row in rows)
    return {(r["tomogram"], r["species"], r["metric"]): r["value"] for r in rows}


def test_the_table_by_hand():
    truth = concatenate(
        [at(0, 100, species="big", tomograms=["a", "b"]), at(40, species="small", tomograms="a")]
    )
    predicted = concatenate(
        [at(8, species="big", tomograms="a"), at(43, species="big", tomograms="a"), at(1, tomograms="zzz")]
    )
    values = table_of(predicted, truth, {"big": 10.0, "small": 4.0})
    assert values["all", "big", "hits"] == 1
    assert values["all", "big", "false_picks"] == 1
    assert values["all", "big", "recall"] == 0.5
    assert values["all", "small", "f1"] == 0
    assert values["a", "big", "recall"] == 1
    assert values["b", "big", "recall"] == 0
    assert values["all", "any", "hits"] == 2  # the wrong name does not matter here
    assert values["all", "mean", "recall"] == 0.25
    assert values["all", "big", "mean_distance"] == 8
    half = table_of(predicted, truth, {"big": 10.0, "small": 4.0}, fraction=0.5)
    assert half["all", "big", "hits"] == 0


def test_the_table_refuses_species_without_a_radius_and_unknown_rules():
    with pytest.raises(RequestError, match="has no radius"):
        evaluate_particles(at(0), at(0), {"y": 1.0})
    with pytest.raises(RequestError, match="did you mean 'radius'"):
        evaluate_particles(at(0), at(0), 1.0, "radios")
