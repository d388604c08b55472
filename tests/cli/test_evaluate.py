import json
import shutil

import numpy as np
import pytest

from cryovox.core.particles import Particles
from cryovox.formats import write_particles


@pytest.fixture
def evaluate(cli, tmp_path):
    """Rows of the table as {(tomogram, species, metric): value}."""

    def call(what, found, truth, *args):
        table = tmp_path / "table.json"
        told = cli("evaluate", what, "--found", found, "--truth", truth, "--json", table, *args)
        assert told.code == 0, told.err
        rows = json.loads(table.read_text(), parse_constant=lambda name: pytest.fail(name))
        assert all(str(row["species"]) in told.out for row in rows)
        return {(r["tomogram"], r["species"], r["metric"]): r["value"] for r in rows}

    return call


def csv(path, *rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["x,y,z,particle_type", *rows]) + "\n")
    return path


def test_by_radius(evaluate, tmp_path):
    truth = csv(tmp_path / "truth.csv", "0,0,0,a", "100,0,0,a", "0,500,0,b")
    found = csv(tmp_path / "found.csv", "30,0,0,a", "300,0,0,a", "0,500,0,a")
    wide = evaluate("particles", found, truth, "--radius", 40)
    assert wide["all", "a", "hits"] == 1
    assert wide["all", "a", "f1"] == pytest.approx(2 / 5)
    assert wide["all", "b", "recall"] == 0
    assert wide["all", "b", "mean_distance"] is None
    narrow = evaluate("particles", found, truth, "--radius", 40, "--fraction", 0.5)
    assert narrow["all", "a", "hits"] == 0


def test_radii_and_frame_of_a_dataset(evaluate, phantoms):
    stars = phantoms / "particles"
    both = evaluate("particles", stars, stars, "--dataset", phantoms)
    assert both["all", "any", "f1"] == both["phantom_02", "capsid", "f1"] == 1
    one = evaluate(
        "particles",
        stars / "phantom_03.star",
        stars / "phantom_03.star",
        "--tomogram",
        phantoms / "tomograms" / "phantom_03.mrc",
        "--radius",
        10,
    )
    assert one["all", "mean", "f1"] == 1


def test_lists_that_name_their_tomogram_differently(evaluate, cli, tmp_path):
    def write(name, tomograms):
        positions = [[0.0, 0.0, 100.0 * i] for i in range(len(tomograms))]
        write_particles(tmp_path / name, Particles.of(positions, "a", tomograms=tomograms))
        return tmp_path / name

    truth, other = write("truth.csv", ["TS_01"]), write("other.csv", ["TS_01_10A"])
    assert evaluate("particles", other, truth, "--radius", 5)["all", "a", "f1"] == 1
    many = write("many.csv", ["TS_02", "TS_03"])
    told = cli("evaluate", "particles", "--found", many, "--truth", truth, "--radius", 5)
    told.refused("many.csv", "TS_01", "TS_02")


def test_what_a_rule_needs(cli, phantoms, tmp_path):
    truth = csv(tmp_path / "truth.csv", "0,0,0,dragon")
    lists = ("evaluate", "particles", "--truth", truth, "--found", truth)
    cli(*lists).refused("--radius", "--dataset")
    cli(*lists, "--rule", "czii").refused("--radius", "dragon")
    cli(*lists, "--rule", "shrec").refused("--occupancy")
    cli(*lists, "--dataset", phantoms).refused("dragon", "no radius")
    star = phantoms / "particles" / "phantom_03.star"
    cli("evaluate", "particles", "--truth", star, "--found", star, "--radius", 9).refused("--tomogram")
    told = cli(*lists, "--rule", "czii", "--radius", 30)
    assert told.code == 0


@pytest.mark.parametrize("case", ["perfect", "jitter40", "drop30"])
def test_czii(evaluate, shared_data, case):
    folder = shared_data / "golden_czii"
    wanted = json.loads((folder / "expected_dev.json").read_text())["cases"][case]
    table = evaluate(
        "particles", folder / f"submission_{case}.csv", folder / "solution.csv", "--rule", "czii"
    )
    assert table["all", "mean", "f4"] == pytest.approx(wanted["weighted_fbeta4"], abs=1e-6)
    for name, value in wanted["per_class_fbeta4"].items():
        assert table["all", name, "f4"] == pytest.approx(value, abs=1e-6)
    assert len({tomogram for tomogram, _, _ in table}) > 2


@pytest.mark.parametrize("case", ["jitter2", "miss_one"])
def test_shrec(evaluate, shared_data, case):
    folder = shared_data / "golden_shrec"
    cases = json.loads((folder / "expected_dev.json").read_text())["cases"]
    truth, mask = folder / "model__particle_locations.txt", folder / "model__occupancy_mask.mrc.gz"
    table = evaluate("particles", folder / f"{case}.txt", truth, "--rule", "shrec", "--occupancy", mask)
    localised = {m: v for (_, species, m), v in table.items() if species == "any"}
    wanted = cases[f"{case}_skip"]["localization"]
    names = {"recall": "recall", "f1": "F1 score", "precision": "Precision", "hits": "TP", "misses": "FN"}
    for ours, theirs in names.items():
        assert localised[ours] == pytest.approx(wanted[theirs], abs=1e-6)


def test_labels(evaluate, cli, phantoms, make_mrc, tmp_path):
    labels = phantoms / "labels"
    same = evaluate("labels", labels, labels, "--dataset", phantoms)
    assert same["all", "capsid", "dice"] == same["phantom_01", "mean", "iou"] == 1
    true, found = np.zeros((8, 8, 80), np.int8), np.zeros((8, 8, 80), np.int8)
    true[:, :, :20] = 1
    found[:, :, 10:30] = 1
    files = [make_mrc(f"{n}.mrc", d, 1.0) for n, d in (("found", found), ("true", true))]
    assert evaluate("labels", *files)["all", "any", "dice"] == 0.5
    few = tmp_path / "few"
    few.mkdir()
    for name in ("phantom_00.mrc", "phantom_01.mrc"):
        shutil.copy(labels / name, few)
    told = cli("evaluate", "labels", "--found", few, "--truth", labels)
    told.refused("phantom_02", "names must agree")
    tomograms = phantoms / "tomograms"
    cli("evaluate", "labels", "--found", tomograms, "--truth", labels).refused("is this a tomogram")


def test_nothing_to_compare(cli, tmp_path):
    args = ("evaluate", "particles", "--radius", 5, "--truth", tmp_path / "none.csv", "--found", tmp_path)
    cli(*args).refused("no file")
