"""`--max-ram`, `--dry-run` and `--precision auto`."""

import json

import numpy as np
import pytest

from cryovox.formats import scores
from cryovox.inference import precision
from cryovox.inference.precision import Comparison


@pytest.fixture
def run(cli, model, tomogram):
    def call(command, out, *args):
        return cli(command, tomogram, "--model", model, "--out", out, "--device", "cpu", "--quiet", *args)

    return call


@pytest.mark.parametrize("command", ["segment", "find"])
def test_too_little_memory_is_refused_before_anything_is_written(run, tmp_path, command):
    answer = run(command, tmp_path / "out", "--max-ram", "20M")
    answer.refused("--max-ram", "20M is too little")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("amount", ["4", "much", "-2G"])
def test_an_amount_has_a_unit(run, tmp_path, amount):
    run("segment", tmp_path / "out", f"--max-ram={amount}").refused("800M or 4G")


def test_a_limit_changes_no_score_and_no_need_to_start_again(run, segmented, tomogram, tmp_path):
    name = tomogram.stem
    before = np.asarray(scores.read(segmented / "scores" / f"{name}.zarr").data)
    assert run("segment", tmp_path / "out", "--max-ram", "90G").code == 0
    again = np.asarray(scores.read(tmp_path / "out" / "scores" / f"{name}.zarr").data)
    assert np.array_equal(again, before)
    written = (tmp_path / "out" / "labels" / f"{name}.mrc").stat().st_mtime_ns
    assert run("segment", tmp_path / "out", "--max-ram", "80G", "--batch", "2").code == 0
    assert (tmp_path / "out" / "labels" / f"{name}.mrc").stat().st_mtime_ns == written


def test_a_dry_run_predicts_and_writes_nothing(run, segmented, tomogram, tmp_path):
    answer = run("find", tmp_path / "out", "--dry-run", "--json", tmp_path / "plan.json")
    assert answer.code == 0
    assert not (tmp_path / "out").exists()
    (row,) = json.loads((tmp_path / "plan.json").read_text())
    assert row["name"] in answer.out
    assert row["shape"] == [32, 64, 64]
    written = sum(
        p.stat().st_size for p in segmented.rglob("*") if p.suffix not in (".json", ".lock") and p.is_file()
    )
    assert 0.2 * row["output"] < written < 1.1 * row["output"] + 20_000
    assert row["seconds"] > 0
    assert 1e8 < row["ram"] < 4e9
    fewer = run("find", tmp_path / "out", "--dry-run", "--overlap", "0", "--json", tmp_path / "fewer.json")
    assert fewer.code == 0
    assert json.loads((tmp_path / "fewer.json").read_text())[0]["tiles"] < row["tiles"]


def test_a_dry_run_counts_half_tomograms(run, tomogram, tmp_path):
    even, odd = tmp_path / "even.mrc", tmp_path / "odd.mrc"
    for half in (even, odd):
        half.write_bytes(tomogram.read_bytes())
    rows = []
    for options in ((), ("--halves", even, odd)):
        file = tmp_path / "plan.json"
        assert run("find", tmp_path / "out", *options, "--dry-run", "--json", file).code == 0
        rows += json.loads(file.read_text())
    assert rows[1]["tiles"] == 3 * rows[0]["tiles"]
    assert rows[1]["output"] == 3 * rows[0]["output"]
    out = tmp_path / "out"
    options = ("--halves", even, odd, "--noise-control", 0, "--max-count", 1)
    assert run("find", out, *options).code == 0
    volumes = [p for p in out.rglob("*.mrc") if p.parent.name == "labels"]
    stored = [p for p in out.rglob("scores/*.zarr/**/*") if p.is_file()]
    written = sum(p.stat().st_size for p in volumes + stored)
    assert 0.2 * rows[1]["output"] < written < 1.1 * rows[1]["output"] + 60_000


WRONG = {
    "two rules": (("--for", "counting", "--fdr", "0.1"), "--for"),
    "no size": (("--by-contrast",), "--by-contrast"),
    "unknown species": (("--species", "80S"), "80S"),
    "nothing decided": (("--curated", "empty.csv"), "empty.csv"),
    "no template": (("--poses", "nothere.pdb"), "nothere.pdb"),
    "unknown template": (("--poses", "nothing-like-this"), "nothing-like-this"),
    "other template": (("--poses", "empty.csv"), "neither a structure nor a map"),
}


@pytest.mark.parametrize("dry", [("--dry-run",), ()])
@pytest.mark.parametrize("case", WRONG)
def test_a_dry_run_refuses_what_the_run_refuses(run, tmp_path, monkeypatch, case, dry):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("x,y,z,keep\n")
    options, named = WRONG[case]
    run("find", tmp_path / "out", *options, *dry).refused(named)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("gain", "chosen"), [(1.5, "bf16"), (1.1, "fp32")])
def test_the_measured_precision_is_that_of_the_run(run, tomogram, tmp_path, monkeypatch, gain, chosen):
    monkeypatch.setattr(precision, "cached_comparison", lambda *_: Comparison(gain, 0.001))
    out = tmp_path / "out"
    assert run("segment", out, "--precision", "auto").code == 0
    entry = json.loads((out / "manifest.json").read_text())["entries"][tomogram.stem]
    assert entry["key"]["settings"]["precision"] == chosen
    written = (out / "labels" / f"{tomogram.stem}.mrc").stat().st_mtime_ns
    assert run("segment", out, "--precision", chosen).code == 0
    assert (out / "labels" / f"{tomogram.stem}.mrc").stat().st_mtime_ns == written
