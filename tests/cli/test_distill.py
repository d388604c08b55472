"""`cryovox train distill`, from a trained model and tomograms to picks."""

import csv
import json
import shutil

import pytest
import yaml

from cryovox.models.card import read_card
from cryovox.models.checkpoint import update_card

TINY = ("--options", "{widths: [4, 8], blocks: [0, 0], norm: batch}", "--patch", 16)
QUICK = ("--steps", 2, "--batch", 2, "--warmup", 1, "--device", "cpu", "--quiet")


def losses(run):
    with (run / "metrics.csv").open(newline="") as file:
        return {row["name"] for row in csv.DictReader(file) if row["name"].startswith("loss/")}


def test_tomograms_without_annotations_train_a_student(cli, phantoms, model, tmp_path):
    run = tmp_path / "run"
    tomograms = phantoms / "tomograms"
    answer = cli("train", "distill", "--teacher", model, "--data", tomograms, "--out", run, *TINY, *QUICK)
    assert answer.code == 0, answer.err
    assert "not with annotations" in answer.err
    assert losses(run) == {"loss/teacher-main"}
    teacher, student = read_card(model), read_card(run)
    for same in ("species", "voxel_size", "kind", "contrast"):
        assert getattr(student, same) == getattr(teacher, same)
    assert set(student.thresholds) == {kind.name for kind in teacher.species}
    assert student.calibration is None  # probabilities would be those of agreeing with the teacher
    assert student.training["truth"] == "picks of the teacher"
    assert student.training["teacher"]["sha256"]
    assert student.training["strategy"] == "distill"
    assert any("picks of the teacher" in text for text in student.warnings)
    assert {f"of the teacher: {text}" for text in teacher.warnings} <= set(student.warnings)
    asked = ("--model", run, "--out", tmp_path / "found", "--device", "cpu", "--quiet")
    found = cli("find", tomograms / "phantom_03.mrc", *asked)
    assert found.code == 0, found.err
    assert (tmp_path / "found" / "particles" / "phantom_03.star").exists()
    again = cli("train", "distill", "--teacher", model, "--data", tomograms, "--out", run, *TINY, *QUICK)
    assert "was finished before" in again.err


def test_annotations_are_learned_too_and_validate(cli, phantoms, model, tmp_path):
    run = tmp_path / "run"
    answer = cli("train", "distill", "--teacher", model, "--data", phantoms, "--out", run, *TINY, *QUICK)
    assert answer.code == 0, answer.err
    assert losses(run) == {"loss/main", "loss/teacher-main"}
    card = read_card(run)
    assert "truth" not in card.training
    assert not any("picks of the teacher" in text for text in card.warnings)
    assert card.training["blob_picker"]


def test_entries_without_annotations_keep_their_splits(cli, phantoms, model, tmp_path):
    described = yaml.safe_load((phantoms / "dataset.yaml").read_text())
    for entry in described["entries"]:
        entry["tomogram"] = str(phantoms / entry["tomogram"])
        for known in ("labels", "particles", "exhaustive"):
            entry.pop(known, None)
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(described))
    run = tmp_path / "run"
    asked = ("--teacher", model.parent, "--data", tmp_path / "bare.yaml", "--out", run)
    answer = cli("train", "distill", *asked, *TINY, *QUICK)
    assert answer.code == 0, answer.err
    inputs = json.loads((run / "manifest.json").read_text())["inputs"]
    assert set(inputs["tomograms"]) == {
        "phantom_00",
        "phantom_01",
        "phantom_02",
    }  # not that of the split "test"


@pytest.fixture
def changed(model, tmp_path):
    """The teacher with another card."""

    def change(**fields):
        path = tmp_path / "teacher.safetensors"
        shutil.copy(model, path)
        update_card(path, fields)
        return path

    return change


def test_a_student_whitens_as_its_teacher_does(cli, phantoms, changed, tmp_path):
    asked = ("--teacher", changed(whitened=True), "--out", tmp_path / "run")
    answer = cli("train", "distill", *asked, "--data", phantoms, *TINY, *QUICK)
    assert answer.code == 0, answer.err
    assert read_card(tmp_path / "run").whitened
    bare = ("--data", phantoms / "tomograms", "--out", tmp_path / "bare")
    answer = cli("train", "distill", "--teacher", changed(whitened=True), *bare, *TINY, *QUICK)
    assert answer.code == 0, answer.err
    assert read_card(tmp_path / "bare").whitened


def test_what_does_not_fit_the_teacher_is_refused(cli, phantoms, model, changed, tmp_path):
    def refused(*words, data=phantoms / "tomograms", more=(), teacher=model):
        named = () if teacher is None else ("--teacher", teacher)
        answer = cli("train", "distill", *named, "--data", data, "--out", tmp_path / "run", *QUICK, *more)
        answer.refused(*words)
        assert not (tmp_path / "run" / "model.safetensors").exists()

    refused("--teacher", "run folder", teacher=None)
    refused("no such", teacher=tmp_path / "none.safetensors")
    refused("no such file", data=tmp_path / "none.mrc")
    refused("14 Å", "trained at 20 Å", teacher=changed(voxel_size=20.0))
    refused("14 Å", "trained at 20 Å", data=phantoms, teacher=changed(voxel_size=20.0))
    refused("subtomograms", teacher=changed(normalisation="cube-zscore"))
    species = read_card(model).species
    refused("dumbbell, capsid", "without annotations", data=phantoms, teacher=changed(species=species[::-1]))
    refused("the teacher predicts", data="stream:toy")
    refused("--model heatmap-unet", more=("--model", "voxresnet", "--size", "xs"))
    refused("no size 'light'", more=("--model", "voxresnet"))
    refused("finds nothing", teacher=changed(thresholds=dict.fromkeys((k.name for k in species), 1.0)))


def test_a_student_that_is_not_light_is_noted(cli, phantoms, model, tmp_path):
    wide = ("--options", "{widths: [8, 160], blocks: [0, 1], norm: batch}", "--patch", 16)
    data = ("--data", phantoms / "tomograms" / "phantom_00.mrc", "--out", tmp_path / "run")
    answer = cli("train", "distill", "--teacher", model, *data, *wide, *QUICK)
    assert answer.code == 0, answer.err
    assert "million weights" in answer.err
