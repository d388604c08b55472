import csv
import json

import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.metrics import czii
from cryovox.metrics.evaluation import evaluate_particles


def read(path) -> Particles:
    with path.open() as file:
        lines = list(csv.DictReader(file))
    places = [[float(line[axis]) for axis in "zyx"] for line in lines]
    return Particles.of(
        places, [line["particle_type"] for line in lines], tomograms=[line["experiment"] for line in lines]
    )


@pytest.mark.parametrize("case", ["perfect", "jitter40", "drop30"])
def test_every_value_of_the_referees_scripts(shared_data, case):
    folder = shared_data / "golden_czii"
    expected = json.loads((folder / "expected_dev.json").read_text())
    wanted = expected["cases"][case]
    predicted, truth = read(folder / f"submission_{case}.csv"), read(folder / "solution.csv")
    assert len(predicted) == wanted["n_rows"]
    assert dict(czii.RADII) == expected["radius_A"]
    assert dict(czii.WEIGHTS) == expected["weights"]
    result = czii.score(predicted, truth)
    assert result.score == pytest.approx(wanted["weighted_fbeta4"], abs=1e-9)
    assert result.f == pytest.approx(wanted["per_class_fbeta4"], abs=1e-9)
    for name, (hits, false_picks, misses) in wanted["tp_fp_fn"].items():
        counts = result.counts[name]
        assert (counts.hits, counts.false_picks, counts.misses) == (hits, false_picks, misses)
    alike = czii.score(predicted, truth, weights={n: float(w > 0) for n, w in czii.WEIGHTS.items()})
    assert alike.score == pytest.approx(wanted["unweighted_fbeta4_yu4u"], abs=1e-9)
    table = evaluate_particles(predicted, truth, czii.RADII, "czii")
    pooled = {(r["species"], r["metric"]): r["value"] for r in table if r["tomogram"] == "all"}
    assert pooled["mean", "f4"] == pytest.approx(wanted["weighted_fbeta4"], abs=1e-9)


def at(*x, name="ribosome", tomograms=None) -> Particles:
    return Particles.of([[0, 0, v] for v in x], name, tomograms=tomograms)


def test_one_pick_may_hit_two_particles_and_false_picks_go_below_zero():
    counts = czii.count(at(50), at(0, 100), 75)
    assert (counts.hits, counts.false_picks, counts.misses) == (2, -1, 0)
    strict = czii.score(at(50), at(0, 100), strict=True).counts["ribosome"]
    assert (strict.hits, strict.false_picks, strict.misses) == (1, 0, 1)


def test_two_picks_on_one_particle_are_one_hit():
    counts = czii.count(at(0, 1), at(0), 75)
    assert (counts.hits, counts.false_picks, counts.misses) == (1, 1, 0)


def test_a_hit_is_at_most_half_a_radius_away():
    assert czii.score(at(75), at(0)).counts["ribosome"].hits == 1
    assert czii.score(at(75.1), at(0)).counts["ribosome"].hits == 0


def test_weights_of_species_that_the_truth_lacks():
    assert czii.score(at(0), at(0)).score == pytest.approx(1 / 7)
    assert czii.score(at(0), at(0), strict=True).score == 1


def test_picks_in_unknown_tomograms_are_left_out_and_unknown_species_refused():
    predicted = at(0, 0, tomograms=["a", "b"])
    assert czii.score(predicted, at(0, tomograms=["a"])).counts["ribosome"].false_picks == 0
    with pytest.raises(RequestError, match="dragon"):
        czii.score(at(0, name="dragon"), at(0))


def test_the_strict_score_never_counts_more_hits():
    rng = np.random.default_rng(3)
    for _ in range(20):
        predicted, truth = (at(*rng.uniform(0, 2000, 30)) for _ in range(2))
        exact, strict = czii.score(predicted, truth), czii.score(predicted, truth, strict=True)
        assert strict.counts["ribosome"].hits <= exact.counts["ribosome"].hits


def test_the_table_takes_species_that_the_challenge_did_not_know():
    table = evaluate_particles(at(9, name="dragon"), at(0, name="dragon"), {"dragon": 20.0}, "czii")
    values = {(r["species"], r["metric"]): r["value"] for r in table}
    assert values["dragon", "f4"] == values["mean", "f4_strict"] == 1


def test_random_cases_against_plain_loops():
    rng = np.random.default_rng(5)
    for _ in range(150):
        places = [rng.uniform(0, 400, (rng.integers(0, 12), 3)) for _ in range(2)]
        predicted, truth = (Particles.of(p, "thyroglobulin") for p in places)
        hit = [any(np.linalg.norm(t - f) <= 65 for f in places[0]) for t in places[1]]
        counts = czii.score(predicted, truth).counts["thyroglobulin"]
        assert counts.hits == sum(hit)
        assert counts.false_picks == len(predicted) - sum(hit)
        precision = sum(hit) / len(predicted) if len(predicted) else 0
        recall = sum(hit) / len(truth) if len(truth) else 0
        f = 17 * precision * recall / (16 * precision + recall) if sum(hit) else 0
        assert czii.score(predicted, truth).score == pytest.approx(2 * f / 7)
