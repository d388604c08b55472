import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import LabelMap
from cryovox.metrics import shrec
from cryovox.metrics.evaluation import evaluate_particles

BY_SIZE = ("background", "4V94", "1S3X", "3QM1", "3GL1", "3H84", "2CG9", "3D2F", "1U6G", "3CF3", "1BXN")
BY_SIZE += ("1QVR", "4CR2", "5MRC", "vesicle", "fiducial")


def golden(shared_data: Path) -> tuple[Particles, np.ndarray, dict]:
    folder = shared_data / "golden_shrec"
    truth = shrec.read_objects(folder / "model__particle_locations.txt")
    raw = gzip.decompress((folder / "model__occupancy_mask.mrc.gz").read_bytes())
    sides = np.frombuffer(raw, "<i4", 3)[::-1]
    mask = np.frombuffer(raw[1024:], "i1").reshape(sides)
    return truth, mask, json.loads((folder / "expected_dev.json").read_text())["cases"]


@pytest.mark.parametrize("case", ["jitter2_all", "jitter2_skip", "miss_one_all", "miss_one_skip"])
def test_every_value_of_the_referees_script(shared_data, case):
    truth, mask, cases = golden(shared_data)
    name, which = case.rsplit("_", 1)
    predicted = shrec.read_objects(shared_data / "golden_shrec" / f"{name}.txt")
    result = shrec.score(predicted, truth, mask, excluded=shrec.UNSCORED if which == "skip" else ())
    ours = {
        "predicted_particles": result.picks,
        "expected_particles": result.particles,
        "TP": result.hits,
        "FP": result.false_picks,
        "FN": result.misses,
        "recall": result.recall,
        "Precision": result.precision,
        "Miss rate": 1 - result.recall,
        "F1 score": result.localization_f1,
        "avg_euclid_dist_from_real_center": result.distance,
        "n_particles_with_multiple_preds": result.multiple,
        "n_particles_outside_bounds": result.outside,
    }
    assert ours == pytest.approx(cases[case]["localization"], abs=1e-9)
    assert result.f1 == pytest.approx(cases[case]["per_class_F1"], abs=1e-9)
    assert result.f1_macro == pytest.approx(cases[case]["f1_macro"], abs=1e-9)
    lines = cases[case]["confusion_csv"].splitlines()
    order = [result.classes.index(c.strip('"')) for c in lines[0].split(",")]
    wanted = np.array([[int(v) for v in line.split(",")] for line in lines[1:]])
    assert (result.confusion[np.ix_(order, order)] == wanted).all()


def toy() -> tuple[Particles, np.ndarray]:
    mask = np.zeros((20, 20, 20), np.int16)
    for number, (z, y, x) in enumerate([(5, 5, 5), (14, 14, 14), (5, 14, 5)], start=1):
        mask[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = number
    return shrec.parse_objects("1BXN 5 5 5\n4V94 14 14 14\n5MRC 5 14 5 10 20 30\n"), mask


def scored(text, strict=False, **more):
    truth, mask = toy()
    return (shrec.score_strictly if strict else shrec.score)(shrec.parse_objects(text), truth, mask, **more)


def test_the_mask_grows_by_one_voxel_but_not_at_corners():
    assert scored("1BXN 7 5 5").hits == 1
    assert scored("1BXN 7 7 5").hits == 0
    assert scored("1BXN 8 5 5").hits == 0


def test_touching_particles_grow_to_the_higher_number():
    mask = np.zeros((1, 1, 4), int)
    mask[0, 0, :2], mask[0, 0, 2:] = 1, 2
    assert shrec.dilated(mask).ravel().tolist() == [1, 2, 2, 2]


def test_first_pick_decides_and_the_distance_is_its_own():
    first = scored("5MRC 6 5 5\n1bxn 5 5 5\n")
    assert first.f1["1BXN"] == 0
    assert first.distance == 1
    assert first.multiple == 1
    again = scored("1bxn 5 5 5\n5MRC 6 5 5")
    assert again.f1["1BXN"] == 1
    assert again.distance == 0


def test_rounding_is_to_even_and_outside_is_clipped():
    assert scored("1BXN 6.5 5 5").distance == 1  # 6.5 to 6
    assert scored("1BXN 7.5 5 5").hits == 0  # 7.5 to 8
    truth, mask = toy()
    mask[:, :, 19] = 1
    result = shrec.score(shrec.parse_objects("1BXN 700 5 5"), truth, mask)
    assert (result.outside, result.hits) == (1, 1)


def test_leaving_out_4v94_lowers_the_particles_but_not_the_picks():
    text = "1BXN 5 5 5\n4V94 14 14 14\n5MRC 5 14 5"
    result = scored(text)
    assert (result.picks, result.particles, result.hits, result.precision) == (3, 2, 2, 2 / 3)
    strict = scored(text, strict=True)
    assert (strict.picks, strict.particles, strict.precision, strict.f1_macro) == (2, 2, 1, 1)


def test_strict_does_not_depend_on_the_order_and_counts_false_picks_per_class():
    lines = ["1BXN 5 5 5", "5MRC 6 5 5", "5MRC 0 0 19", "5MRC 5 14 5", "1BXN 14 14 14"]
    rng = np.random.default_rng(0)
    results = [scored("\n".join(rng.permutation(lines)), strict=True) for _ in range(8)]
    for result in results:
        assert result.f1 == {"1BXN": 1.0, "5MRC": 0.5}
        assert (result.picks, result.hits, result.false_picks, result.multiple) == (4, 2, 2, 1)
        assert result.distance == 0


def test_nothing_found_scores_zero():
    for strict in (False, True):
        result = scored("", strict=strict)
        assert (result.precision, result.recall, result.localization_f1, result.f1_macro) == (0, 0, 0, 0)
        assert np.isnan(result.distance)


def test_bad_input_is_refused_with_the_line_or_the_name(tmp_path):
    (tmp_path / "bad.txt").write_text("1BXN 1 2 3\n1BXN 1 b 3\n")
    with pytest.raises(RequestError, match="line 2"):
        shrec.read_objects(tmp_path / "bad.txt")
    with pytest.raises(RequestError, match="no such file"):
        shrec.read_objects(tmp_path / "none.txt")
    with pytest.raises(RequestError, match="9XYZ"):
        scored("9XYZ 1 2 3")
    truth, mask = toy()
    with pytest.raises(RequestError, match="names particle 3"):
        shrec.score(truth, truth.take([0, 1]), mask)


def test_rule_shrec_in_the_table():
    truth, mask = toy()
    table = evaluate_particles(truth, truth, 50.0, "shrec", occupancy=LabelMap(mask, 10.0))
    values = {(r["tomogram"], r["species"], r["metric"]): r["value"] for r in table}
    assert values["all", "any", "recall"] == 1
    assert values["all", "any", "precision_strict"] == 1
    assert values["all", "mean", "f1"] == 1
    with pytest.raises(RequestError, match="occupancy"):
        evaluate_particles(truth, truth, 50.0, "shrec")
    several = Particles.of(truth.positions, truth.species, tomograms=["a", "b", "b"])
    with pytest.raises(RequestError, match="of its own"):
        evaluate_particles(several, several, 50.0, "shrec", occupancy=LabelMap(mask, 10.0))


def test_random_cases_against_plain_loops():
    rng = np.random.default_rng(6)
    names = np.array(shrec.CLASSES[1:])
    for _ in range(120):
        n, m = rng.integers(1, 9), rng.integers(0, 14)
        mask = np.where(rng.random((6, 7, 8)) < 0.3, rng.integers(1, n + 1, (6, 7, 8)), 0)
        truth = Particles.of(rng.integers(0, 6, (n, 3)) * 10.0, rng.choice(names, n))
        predicted = Particles.of(rng.integers(-4, 20, (m, 3)) * 5.0, rng.choice(names, m))
        result = shrec.score(predicted, truth, mask)
        grown, hits, background = shrec.dilated(mask), {}, 0
        for place, name in zip(predicted.positions / 10, predicted.species, strict=True):
            voxel = [min(max(round(v), 0), side - 1) for v, side in zip(place, mask.shape, strict=True)]
            number = grown[tuple(voxel)]
            background += number == 0
            if number:
                hits.setdefault(number - 1, []).append((str(name), np.array(voxel)))
        scored = [i for i in range(n) if truth.species[i] not in shrec.UNSCORED]
        hit = [i for i in scored if i in hits]
        assert (result.hits, result.misses) == (len(hit), len(scored) - len(hit))
        assert result.false_picks == background
        assert result.multiple == sum(len(hits[i]) > 1 for i in hit)
        assert result.particles == n - (truth.species == "4V94").sum()
        if hit:
            far = [np.linalg.norm(hits[i][0][1] - truth.positions[i] / 10) for i in hit]
            assert result.distance == pytest.approx(np.mean(far))
        said = {i: hits[i][0][0] if i in hits else "background" for i in scored}
        said = {i: "background" if c in shrec.UNSCORED else c for i, c in said.items()}
        for name in set(said.values()) | {str(truth.species[i]) for i in scored}:
            right = sum(said[i] == name == truth.species[i] for i in scored)
            either = sum(said[i] == name for i in scored) + sum(truth.species[i] == name for i in scored)
            assert result.f1[name] == pytest.approx(2 * right / either)
