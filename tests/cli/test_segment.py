import gzip
import json
import os
import shutil

import mrcfile
import numpy as np
import pytest

from cryovox.formats import scores


def everything(folder):
    """Every file but the manifest and the locks, with the time it was written."""
    files = (
        p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json" and p.suffix != ".lock"
    )
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in files}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def segment(cli, model, out):
    def call(*args, using=model):
        return cli("segment", *args, "--model", using, "--out", out, "--device", "cpu", "--quiet")

    return call


@pytest.fixture
def folder(tomogram, tmp_path):
    """Two tomograms, one of them packed, with a broken one between and a file that is none."""
    place = tmp_path / "tomograms"
    place.mkdir()
    shutil.copy(tomogram, place / "a.mrc")
    (place / "b.mrc").write_text("broken\n" * 300)
    (place / "c.rec.gz").write_bytes(gzip.compress(tomogram.read_bytes()))
    (place / "notes.txt").write_text("words")
    return place


def test_one_broken_tomogram_does_not_keep_the_others_from_being_done(segment, folder, out):
    answer = segment(folder)
    assert answer.code == 1
    assert "2 tomograms segmented" in answer.out
    assert answer.err.splitlines()[-2].startswith("failed: b: is not an MRC file")
    assert "what to do" in answer.err.splitlines()[-1]
    assert sorted(p.name for p in (out / "labels").iterdir()) == ["a.mrc", "c.mrc"]
    noted = json.loads((out / "manifest.json").read_text())
    assert sorted(noted["entries"]) == ["a", "c"]


def test_find_with_one_or_all_broken(cli, model, folder, out):
    args = ("--model", model, "--out", out, "--device", "cpu", "--quiet")
    answer = cli("find", folder, *args)
    assert answer.code == 1
    assert answer.err.splitlines()[-2].startswith("failed: b:")
    assert (out / "report.html").exists()
    shutil.copy(folder / "b.mrc", folder / "a.mrc")
    shutil.rmtree(out)
    answer = cli("find", folder / "a.mrc", folder / "b.mrc", *args)
    assert answer.code == 1
    failures = [line for line in answer.err.splitlines() if line.startswith("failed:")]
    assert [line.split(":")[1].strip() for line in failures] == ["a", "b"]
    assert not (out / "report.html").exists()


def test_picking_and_looking_go_on_past_a_broken_file(cli, segmented, folder, out):
    (folder.parent / "a.zarr").mkdir()
    answer = cli("pick", segmented / "scores" / "*.zarr", folder.parent / "a.zarr", "--out", out)
    assert answer.code == 1
    assert "failed: a: is not" in answer.err
    assert (out / "particles" / "phantom_03.star").exists()
    answer = cli("doctor", folder)
    assert answer.code == 1
    assert "a.mrc" in answer.out
    assert answer.err.splitlines()[-2].startswith("failed: b:")


def test_globs_folders_and_files_name_the_same_tomograms(segment, folder, out):
    (folder / "b.mrc").unlink()
    assert "2 tomograms" in segment(folder).out
    before = everything(out)
    assert "1 tomograms" in segment(folder / "*.mrc").out
    assert "2 tomograms" in segment(folder / "a.*", folder / "[bc].rec.gz", folder / "a.mrc").out
    assert everything(out) == before


def test_globs_are_relative_to_where_one_is(segment, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "b.mrc").unlink()
    assert "1 tomograms" in segment("*.mrc").out
    assert "1 tomograms" in segment("../tomograms/c.*").out


def test_what_is_done_is_not_redone(segment, folder, out, other_model):
    path = folder / "a.mrc"
    assert segment(path).code == 0
    first = everything(out)
    assert segment(path, "--batch", 1, "--slab-rows", 2).code == 0
    assert everything(out) == first
    (folder.parent / "link").symlink_to(folder)
    for other in (folder.parent / "link" / "a.mrc", os.path.relpath(path)):
        assert segment(other).code == 0
        assert everything(out) == first
    for change in (("--overwrite",), ("--overlap", 0.25), ("--tta", 4)):
        before = everything(out)
        assert segment(path, *change).code == 0
        after = everything(out)
        assert after.keys() == before.keys()
        assert all(after[name] > before[name] for name in before), change
    before = everything(out)
    assert segment(path, using=other_model).code == 0
    assert everything(out) != before


def test_changed_input_and_missing_output_are_redone(segment, folder, out):
    path = folder / "a.mrc"
    segment(path)
    before = everything(out)
    with mrcfile.open(path, mode="r+") as file:
        file.data[0, 0, 0] += 1
    segment(path)
    changed = everything(out)
    assert all(changed[name] > before[name] for name in before)
    (out / "labels" / "a.mrc").unlink()
    segment(path)
    assert (out / "labels" / "a.mrc").exists()


def test_a_broken_manifest_is_no_reason_to_stop(segment, folder, out):
    segment(folder / "a.mrc")
    (out / "manifest.json").write_text("{")
    assert segment(folder / "a.mrc").code == 0
    assert json.loads((out / "manifest.json").read_text())["entries"]["a"]


def test_interruption_leaves_nothing_half_written(segment, folder, out, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("cryovox.workflows.segment.write_label_map", stop)
    answer = segment(folder / "a.mrc")
    assert answer.code == 130
    monkeypatch.setattr("cryovox.formats.scores.ScoreWriter.write", stop)
    shutil.rmtree(out / "scores")
    assert segment(folder / "a.mrc").code == 130
    assert everything(out) == {}


def test_picks_of_another_input_are_not_replaced(cli, segmented, tmp_path):
    scores_ = segmented / "scores" / "phantom_03.zarr"
    labels = segmented / "labels" / "phantom_03.mrc"
    star = tmp_path / "out" / "particles" / "phantom_03.star"
    assert cli("pick", scores_, "--out", tmp_path / "out").code == 0
    assert cli("pick", scores_, "--out", tmp_path / "out", "--max-count", 1).code == 0
    before = star.read_bytes()
    cli("pick", labels, "--out", tmp_path / "out").refused(scores_, labels, "--overwrite")
    assert star.read_bytes() == before
    assert cli("pick", labels, "--out", tmp_path / "out", "--overwrite").code == 0
    assert star.read_bytes() != before


def test_contrast_and_voxel_size_can_be_forced(segment, folder, out, make_mrc, tomogram):
    with mrcfile.open(tomogram) as file:
        flipped = make_mrc("bright.mrc", -file.data)
        lost = make_mrc("lost.mrc", file.data, 0.0)
    assert segment(folder / "a.mrc", flipped, lost, "--voxel-size", 14).code == 0
    noted = json.loads((out / "manifest.json").read_text())["entries"]
    assert [noted[n]["contrast"] for n in ("a", "bright", "lost")] == ["dark", "bright", "dark"]
    assert "--contrast" in noted["bright"]["notes"][0]
    read = {n: np.asarray(scores.read(out / "scores" / f"{n}.zarr").data) for n in noted}
    assert np.array_equal(read["a"], read["lost"])
    assert np.abs(read["a"] - read["bright"]).max() < 1e-4
    assert segment(flipped, "--contrast", "dark").code == 0
    wrong = np.asarray(scores.read(out / "scores" / "bright.zarr").data)
    assert np.abs(read["a"] - wrong).max() > 1e-3


def test_finished_tomograms_are_not_read_again(segment, folder, out, monkeypatch):
    path = folder / "a.mrc"
    segment(path)
    before = everything(out)

    def refuse(*args):
        raise AssertionError("read")

    with monkeypatch.context() as patched:
        patched.setattr("cryovox.workflows.segment.prepare", refuse)
        patched.setattr("cryovox.workflows.manifest.sha256", refuse)
        assert segment(path).code == 0
    os.utime(path)  # touched, not changed: its contents are compared, once
    assert segment(path).code == 0
    with monkeypatch.context() as patched:
        patched.setattr("cryovox.workflows.manifest.sha256", refuse)
        assert segment(path).code == 0
    assert everything(out) == before


@pytest.mark.parametrize("verb", ["segment", "find", "denoise"])
def test_the_same_name_from_another_folder_is_refused(cli, model, folder, out, verb):
    other = folder.parent / "other" / "a.mrc"
    other.parent.mkdir()
    shutil.copy(folder / "a.mrc", other)
    args = ("--out", out, "--device", "cpu", "--quiet", *(() if verb == "denoise" else ("--model", model)))
    assert cli(verb, folder / "a.mrc", *args).code == 0
    assert cli(verb, other, *args).code == 0  # a copy of it
    before = everything(out)
    with mrcfile.open(other, mode="r+") as file:
        file.data[0, 0, 0] += 1
    done = {name for name in before if verb != "find" or name.startswith("scores")}  # all else is drawn anew
    cli(verb, other, *args).refused(other, folder / "a.mrc", "--overwrite")
    cli(verb, folder / "a.mrc", other, *args).refused("a.mrc", "same name")
    assert {name: everything(out)[name] for name in done} == {name: before[name] for name in done}
    assert cli(verb, other, *args, "--overwrite").code == 0
    assert all(everything(out)[name] > before[name] for name in done)


def test_bfloat16_changes_scores_by_rounding_only(segment, cli, model, tomogram, out, tmp_path):
    assert segment(tomogram).code == 0
    other = tmp_path / "bf16"
    args = ("--model", model, "--out", other, "--device", "cpu", "--quiet", "--precision", "bf16")
    assert cli("segment", tomogram, *args).code == 0
    name = f"scores/{tomogram.stem}.zarr"
    full, rounded = (np.asarray(scores.read(folder / name).data) for folder in (out, other))
    assert 0 < np.abs(full - rounded).max() < 0.05
