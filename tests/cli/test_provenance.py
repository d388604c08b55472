"""`cryovox explain` and `cryovox rerun`."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from cryovox.formats import read_particles, read_volume, write_particles, write_volume


@pytest.fixture
def found(cli, tomogram, model, tmp_path, monkeypatch):
    """A result of `find`, of paths relative to a folder."""
    (tmp_path / "work").mkdir()
    shutil.copy(tomogram, tmp_path / "work" / "TS_01.mrc")
    shutil.copy(model, tmp_path / "work" / "own.safetensors")
    monkeypatch.chdir(tmp_path / "work")
    asked = ("find", "TS_01.mrc", "--model", "own.safetensors", "--out", "found", "--json", "found.json")
    assert cli(*asked, "--device", "cpu", "--quiet").code == 0
    return tmp_path / "work"


def test_every_output_is_explained(cli, found, tmp_path):
    for file in (
        "particles/TS_01.star",
        "labels/TS_01.mrc",
        "scores/TS_01.zarr",
        "scores/TS_01.zarr/0/zarr.json",
    ):
        answer = cli("explain", found / "found" / file, "--json", tmp_path / "facts.json")
        assert answer.code == 0, answer.err
        facts = json.loads((tmp_path / "facts.json").read_text())
        assert facts["of"] == "TS_01"
        assert facts["state"] == "unchanged"
        assert facts["command"][:3] == ["cryovox", "find", "TS_01.mrc"]
        assert set(facts["inputs"].values()) == {"unchanged"}
        assert sorted(path.rpartition("/")[2] for path in facts["inputs"]) == ["TS_01.mrc", "own.safetensors"]
        assert facts["versions"]["cryovox"]
        assert "cryovox find TS_01.mrc" in answer.out
    assert cli("explain", found / "found" / "report.html").out.startswith("file")


def test_changes_are_seen(cli, found):
    (found / "own.safetensors").unlink()
    with (found / "TS_01.mrc").open("r+b") as file:
        file.seek(2000)
        file.write(b"other")
    with (found / "found" / "particles" / "TS_01.star").open("a") as file:
        file.write("\n")
    told = cli("explain", found / "found" / "particles" / "TS_01.star").out
    assert "state      changed" in told
    assert "TS_01.mrc" in told
    assert "  changed" in told
    assert "  missing" in told
    cli("rerun", "found", "--out", "again").refused("TS_01.mrc", "has changed since")
    assert not (found / "again").exists()


@pytest.fixture
def curated(cli, found):
    """A result of `find` with a mask, half tomograms and a curated list."""
    volume = read_volume("TS_01.mrc")
    write_volume("mask.mrc", volume.with_data(np.ones(volume.shape, np.int8)))
    for half in ("even.mrc", "odd.mrc"):
        shutil.copy("TS_01.mrc", half)
    picks = read_particles("found/particles/TS_01.star", tomogram=volume)
    keep = np.array(["1", "0"] * len(picks))[: len(picks)]
    write_particles("list.star", replace(picks, extra={"keep": keep}), tomogram=volume, tomogram_name="TS_01")
    words = ("find", "TS_01.mrc", "--model", "own.safetensors", "--out", "curated", "--mask", "mask.mrc")
    words += ("--halves", "even.mrc", "odd.mrc", "--curated", "list.star", "--noise-control", 0)
    answer = cli(*words, "--device", "cpu", "--quiet")
    assert answer.code == 0, answer.err
    return found


def test_masks_halves_and_curated_lists_are_inputs(cli, curated):
    files = ("TS_01.mrc", "own.safetensors", "mask.mrc", "even.mrc", "odd.mrc", "list.star")

    def states():
        assert cli("explain", "curated/particles/TS_01.star", "--json", "facts.json").code == 0
        inputs = json.loads((curated / "facts.json").read_text())["inputs"]
        return {path.rpartition("/")[2]: state for path, state in inputs.items()}

    assert states() == dict.fromkeys(files, "unchanged")
    for name in files:
        before = (curated / name).read_bytes()
        (curated / name).write_bytes(before + b"\n")
        assert states() == dict.fromkeys(files, "unchanged") | {name: "changed"}
        cli("rerun", "curated", "--out", "again").refused(name, "has changed since")
        (curated / name).unlink()
        cli("rerun", "curated", "--out", "again").refused(name, "is missing")
        (curated / name).write_bytes(before)
    assert not (curated / "again").exists()
    assert cli("rerun", "curated", "--out", "again").code == 0


def test_what_no_manifest_records_is_refused(cli, found, tmp_path):
    cli("explain", found / "TS_01.mrc").refused("TS_01.mrc", "recorded in no manifest")
    cli("explain", found / "nothing").refused("does not exist")
    (tmp_path / "manifest.json").write_text("[1]")
    cli("rerun", tmp_path / "manifest.json", "--out", tmp_path / "b").refused("manifest.json", "no manifest")


def test_a_rerun_gives_the_same_bytes(cli, found, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    answer = cli("rerun", found / "found" / "manifest.json", "--out", "again", "--json", "same.json")
    assert answer.code == 0, answer.out + answer.err
    states = json.loads((tmp_path / "same.json").read_text())
    assert set(states.values()) == {"identical"}
    assert {"labels/TS_01.mrc", "scores/TS_01.zarr", "particles/TS_01.star"} <= set(states)
    with (found / "found" / "particles" / "TS_01.star").open("a") as file:
        file.write("\n")
    answer = cli("rerun", found / "found", "--out", "again")
    assert answer.code == 1
    assert "different  particles/TS_01.star" in answer.out


def test_a_rerun_starts_nothing_else(cli, found, tmp_path):
    noted = json.loads((found / "found" / "manifest.json").read_text())
    for one in noted["invocations"].values():
        one["words"] = ["fetch", "structure", "1ABC", "--out", "somewhere"]
    (found / "found" / "manifest.json").write_text(json.dumps(noted))
    cli("rerun", found / "found", "--out", tmp_path / "again").refused(
        "fetch structure", "cannot be run again"
    )
    cli("rerun", found / "found", "--out", found / "found").refused("folder of the manifest")


@pytest.mark.parametrize("verb", ["denoise", "simulate"])
def test_other_commands_are_run_again(cli, found, verb, tmp_path):
    asked = {
        "denoise": ("denoise", "TS_01.mrc", "--method", "ngm"),
        "simulate": (
            "simulate", "--scene.shape", 16, 32, 32, "--scene.voxel-size", 14, "--tilts.step", 30,
            "--species", "groel", "--scene.counts", "groel", 1,
        ),
    }[verb]  # fmt: skip
    assert cli(*asked, "--out", "first", "--device", "cpu", "--quiet").code == 0
    answer = cli("rerun", "first", "--out", "second")
    assert answer.code == 0, answer.out + answer.err
    assert "outputs are identical" in answer.out
    assert cli("rerun", "first", "--out", "third", "--dry-run").code == 0
    assert not (found / "third").exists()
