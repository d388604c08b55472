import json
import re
import shutil

import numpy as np
import pytest

from cryovox.core.particles import Particles
from cryovox.formats import write_particles


@pytest.fixture
def evaluate(cli, tmp_path):
    """Rows of the table as {(tomogram, species, metric): value}."""

    def call(what, predicted, truth, *args):
        table = tmp_path / "table.json"
        option = "--picks" if what == "particles" else "--predictions"
        answer = cli("evaluate", what, option, predicted, "--truth", truth, "--json", table, *args)
        assert answer.code == 0, answer.err
        written = json.loads(table.read_text(), parse_constant=lambda name: pytest.fail(name))
        rows = written["rows"]
        assert all(str(row["species"]) in answer.out for row in rows)
        assert "nan" not in answer.out
        assert len({(row["tomogram"], row["species"]) for row in rows}) == len(rows)
        return {(r["tomogram"], r["species"], metric): value for r in rows for metric, value in r.items()}

    return call


def csv(path, *rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["x,y,z,particle_type", *rows]) + "\n")
    return path


def test_by_radius(evaluate, tmp_path):
    truth = csv(tmp_path / "truth.csv", "0,0,0,a", "100,0,0,a", "0,500,0,b")
    predicted = csv(tmp_path / "found.csv", "30,0,0,a", "300,0,0,a", "0,500,0,a")
    wide = evaluate("particles", predicted, truth, "--radius", 40)
    assert wide["all", "a", "hits"] == 1
    assert wide["all", "a", "f1"] == pytest.approx(2 / 5)
    assert wide["all", "b", "recall"] == 0
    assert ("all", "b", "mean_distance") not in wide
    narrow = evaluate("particles", predicted, truth, "--radius", 40, "--fraction", 0.5)
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


@pytest.mark.parametrize("unnamed", ["truth.csv", "picks.csv"])
def test_a_list_without_species_takes_the_only_one_of_the_other(evaluate, cli, tmp_path, unnamed):
    for name in ("truth.csv", "picks.csv"):
        csv(tmp_path / name, "1,2,3,ribosome", "4,5,60,ribosome")
    (tmp_path / unnamed).write_text("x,y,z\n1,2,3\n40,5,60\n")
    lists = (tmp_path / "picks.csv", tmp_path / "truth.csv")
    table = evaluate("particles", *lists, "--radius", 5)
    assert table["all", "ribosome", "hits"] == table["all", "any", "hits"] == 1
    assert ("all", "particle", "hits") not in table
    args = ("--picks", lists[0], "--truth", lists[1], "--radius", 5)
    assert f"{unnamed} names no species" in cli("evaluate", "particles", *args).err


def test_a_list_without_species_stays_apart_from_several(evaluate, tmp_path):
    csv(tmp_path / "picks.csv", "1,2,3,ribosome", "4,5,60,proteasome")
    (tmp_path / "truth.csv").write_text("x,y,z\n1,2,3\n")
    table = evaluate("particles", tmp_path / "picks.csv", tmp_path / "truth.csv", "--radius", 5)
    assert (table["all", "particle", "hits"], table["all", "any", "hits"]) == (0, 1)


def test_lists_that_name_their_tomogram_differently(evaluate, cli, tmp_path):
    def write(name, tomograms):
        positions = [[0.0, 0.0, 100.0 * i] for i in range(len(tomograms))]
        write_particles(tmp_path / name, Particles.of(positions, "a", tomograms=tomograms))
        return tmp_path / name

    truth, other = write("truth.csv", ["TS_01"]), write("other.csv", ["TS_01_10A"])
    assert evaluate("particles", other, truth, "--radius", 5)["all", "a", "f1"] == 1
    many = write("many.csv", ["TS_02", "TS_03"])
    answer = cli("evaluate", "particles", "--picks", many, "--truth", truth, "--radius", 5)
    answer.refused("many.csv", "TS_01", "TS_02")


def test_what_a_rule_needs(cli, phantoms, tmp_path):
    truth = csv(tmp_path / "truth.csv", "0,0,0,dragon")
    lists = ("evaluate", "particles", "--truth", truth, "--picks", truth)
    cli(*lists).refused("--radius", "--dataset")
    cli(*lists, "--rule", "czii").refused("--radius", "dragon")
    cli(*lists, "--rule", "shrec").refused("--occupancy")
    cli(*lists, "--dataset", phantoms).refused("dragon", "no radius")
    star = phantoms / "particles" / "phantom_03.star"
    cli("evaluate", "particles", "--truth", star, "--picks", star, "--radius", 9).refused("--tomogram")
    answer = cli(*lists, "--rule", "czii", "--radius", 30)
    assert answer.code == 0


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
    localized = {m: v for (_, species, m), v in table.items() if species == "any"}
    wanted = cases[f"{case}_skip"]["localization"]
    names = {"recall": "recall", "f1": "F1 score", "precision": "Precision", "hits": "TP", "misses": "FN"}
    for ours, theirs in names.items():
        assert localized[ours] == pytest.approx(wanted[theirs], abs=1e-6)


def test_labels(evaluate, cli, phantoms, make_mrc, tmp_path):
    labels = phantoms / "labels"
    same = evaluate("labels", labels, labels, "--dataset", phantoms)
    assert same["all", "capsid", "dice"] == same["phantom_01", "mean", "iou"] == 1
    true, predicted = np.zeros((8, 8, 80), np.int8), np.zeros((8, 8, 80), np.int8)
    true[:, :, :20] = 1
    predicted[:, :, 10:30] = 1
    files = [make_mrc(f"{n}.mrc", d, 1.0) for n, d in (("found", predicted), ("true", true))]
    assert evaluate("labels", *files)["all", "any", "dice"] == 0.5
    few = tmp_path / "few"
    few.mkdir()
    for name in ("phantom_00.mrc", "phantom_01.mrc"):
        shutil.copy(labels / name, few)
    answer = cli("evaluate", "labels", "--predictions", few, "--truth", labels)
    answer.refused("phantom_02", "names must agree")
    tomograms = phantoms / "tomograms"
    cli("evaluate", "labels", "--predictions", tomograms, "--truth", labels).refused("is this a tomogram")


def test_nothing_to_compare(cli, tmp_path):
    args = ("evaluate", "particles", "--radius", 5, "--truth", tmp_path / "none.csv", "--picks", tmp_path)
    cli(*args).refused("holds no particle list")


def test_one_list_names_tomograms_and_the_other_does_not(evaluate, cli, tmp_path):
    named, bare = tmp_path / "named.csv", tmp_path / "bare.csv"
    named.write_text("x,y,z,tomogram\n0,0,0,TS_01\n100,0,0,TS_02\n")
    bare.write_text("x,y,z\n0,0,0\n100,0,0\n")
    for predicted, truth in ((named, bare), (bare, named)):
        message = cli("evaluate", "particles", "--picks", predicted, "--truth", truth, "--radius", 5)
        message.refused("bare.csv", "names no tomograms", "TS_01, TS_02", "rlnTomoName")
    named.write_text("x,y,z,tomogram\n0,0,0,TS_01\n100,0,0,TS_01\n")
    for predicted, truth in ((named, bare), (bare, named)):
        table = evaluate("particles", predicted, truth, "--radius", 5)
        assert (table["all", "any", "true"], table["all", "any", "hits"]) == (2, 2)
    none = tmp_path / "none.csv"
    none.write_text("x,y,z\n")
    assert evaluate("particles", none, named, "--radius", 5)["all", "any", "true"] == 2


def test_lists_of_several_tomograms_count_from_the_center_of_each(evaluate, shared_data):
    folder = shared_data / "field_bugs" / "several-tomograms"
    star, truth = folder / "particles.star", folder / "truth.csv"
    for more in (("--dataset", folder), ("--tomogram", folder / "tomos", "--radius", 30)):
        table = evaluate("particles", star, truth, *more)
        for name in ("TS_01", "TS_02"):
            assert table[name, "particle", "hits"] == table[name, "particle", "true"] == 1
            assert table[name, "particle", "mean_distance"] == pytest.approx(0, abs=1e-3)


def test_what_is_not_annotated_exhaustively_has_no_precision(evaluate, cli, make_mrc, tmp_path):
    make_mrc("one.mrc", np.random.default_rng(0).normal(size=(20, 30, 40)).astype(np.float32), 10.0)
    config = tmp_path / "dataset.yaml"
    config.write_text(
        "voxel_size: 10\nspecies: [{name: a, label: 1, radius: 20}, {name: b, label: 2, radius: 20}]\n"
        "entries: [{name: one, tomogram: one.mrc, exhaustive: {a: false}, box: {x: [0, 20]}}]\n"
    )
    truth = csv(tmp_path / "truth.csv", "100,100,100,a", "50,50,50,b", "350,100,100,b")
    rows = ["50,50,50,b,0.9", "100,100,100,a,0.8", "120,200,100,a,0.9", "390,100,100,b,0.9"]
    predicted = tmp_path / "found.csv"
    predicted.write_text("\n".join(["x,y,z,particle_type,score", *rows]) + "\n")
    table = evaluate("particles", predicted, truth, "--dataset", config)
    assert (table["all", "b", "true"], table["all", "b", "found"], table["all", "b", "precision"]) == (
        1,
        1,
        1,
    )
    for species in ("a", "any"):
        assert not {
            ("all", species, m) for m in ("precision", "f1", "average_precision", "false_picks")
        } & set(table)
    assert ("all", "mean", "precision") not in table
    assert (table["all", "a", "recall_at_1x"], table["all", "a", "recall_at_2x"]) == (0, 1)
    message = cli("evaluate", "particles", "--picks", predicted, "--truth", truth, "--dataset", config)
    assert "annotation of a is not exhaustive (in one)" in message.err


def test_curves_and_recall_at_budgets(cli, tmp_path):
    truth = csv(tmp_path / "truth.csv", "0,0,0,a", "100,0,0,a")
    predicted, table = tmp_path / "found.csv", tmp_path / "table.json"
    rows = ["0,0,0,a,0.9", "300,0,0,a,0.8", "100,0,0,a,0.7", "400,0,0,a,0.6"]
    predicted.write_text("\n".join(["x,y,z,particle_type,score", *rows]) + "\n")
    message = cli(
        "evaluate", "particles", "--picks", predicted, "--truth", truth, "--radius", 5, "--json", table
    )
    written = json.loads(table.read_text())
    curve = written["precision_recall"]["a"]
    assert curve["recall"] == [0.5, 0.5, 1, 1]
    assert curve["precision"] == [1, 0.5, pytest.approx(2 / 3, abs=1e-6), 0.5]
    assert curve["picks"] == [1, 2, 3, 4]
    row = next(row for row in written["rows"] if row["species"] == "a")
    assert [row[f"recall_at_{k}x"] for k in (1, 2, 4)] == [0.5, 1, 1]
    assert row["average_precision"] == pytest.approx(0.5 + 0.5 * 2 / 3)
    lines = [line for line in message.out.splitlines() if line.split()[1:2] == ["a"]]
    assert len(lines) == 1
    assert "recall@4x" in message.out.splitlines()[0]


def test_a_page_shows_the_scores_and_the_curve(cli, tmp_path):
    truth, predicted, page = tmp_path / "t.csv", tmp_path / "f.csv", tmp_path / "page.html"
    truth.write_text("x,y,z,species\n100,100,100,a\n300,300,300,a\n")
    predicted.write_text("x,y,z,species,score\n101,100,100,a,0.9\n700,700,700,a,0.8\n300,301,300,a,0.7\n")
    args = ("--truth", truth, "--picks", predicted, "--radius", 50, "--report", page)
    assert cli("evaluate", "particles", *args).code == 0
    text = page.read_text(encoding="utf-8")
    assert "Evaluation of picks" in text
    assert "data:image/svg+xml" in text
    assert re.search(r"<td[^>]*>1\.000</td>", text)  # recall of all picks
    assert re.search(r"<td[^>]*>0\.667</td>", text)  # precision of all picks
    cli("evaluate", "particles", *args[:-1], tmp_path).refused(tmp_path, "--report")
