"""A short training says what it is worth, wherever its model is used."""

import json
import re
import time

import pytest

from cryovox.models.card import read_card
from cryovox.training.evaluation import model_selection as quality_module
from cryovox.training.evaluation.model_selection import Quality


@pytest.fixture(scope="module")
def short(phantoms, tmp_path_factory):
    """Arguments of a training of twenty steps, with everything else as it comes."""
    folder = tmp_path_factory.mktemp("short")
    config = folder / "settings.yaml"
    config.write_text("network: {options: {widths: [4, 8], blocks: [0, 0]}}\n")
    return ("train", "supervised", "--data", phantoms, "--out", folder / "run", "--config", config, "--steps",
            20, "--validate-every", 10, "--batch", 2, "--warmup", 50, "--patch", 16, "--device",
            "cpu")  # fmt: skip


def test_twenty_steps_tell_the_truth_about_themselves(cli, short, tomogram, tmp_path):
    trained = cli(*short)
    assert trained.code == 0
    model = short[5] / "model.safetensors"
    assert len(re.findall(r"held-out F1 \d\.\d\d \(DoG picker \d\.\d\d\)", trained.err)) == 2
    assert re.search(r"capsid: held-out F1 \d\.\d\d; DoG picker \d\.\d\d; n = \d+ particles", trained.out)
    warnings = read_card(model).warnings
    assert any("20 of 50 warm-up steps" in w for w in warnings)
    assert any("is not above" in w and "of a DoG picker" in w for w in warnings)
    assert trained.err.splitlines()[-len(warnings) :] == [f"warning: {model}: {w}" for w in warnings]

    found = cli("find", tomogram, "--model", model, "--out", tmp_path / "found", "--device", "cpu", "--quiet")
    page = (tmp_path / "found" / "report.html").read_text()
    assert "nothing to worry about" not in page
    for warning in warnings:
        assert f"warning: {model}: {warning}" in found.err
        assert warning in page


def test_nothing_above_the_threshold_is_no_reason_not_to_worry(cli, model, tomogram, tmp_path):
    out = tmp_path / "found"
    cli("find", tomogram, "--model", model, "--out", out, "--threshold", 1.0, "--device", "cpu", "--quiet")
    page = (out / "report.html").read_text()
    assert "no score is above the threshold" in page
    assert "nothing to worry about" not in page


def test_the_same_command_again_repeats_the_warnings(cli, short):
    first, again = cli(*short), cli(*short)
    assert "20 of 50 warm-up steps" in first.err
    assert again.err.count("warning: ") == first.err.count("warning: ") > 1


def adapting(data, out, *more):
    target = data / "tomograms" / "phantom_03.mrc"
    where = ("--source", data, "--target", target, "--out", out)
    return ("train", "vox-uda", *where, "--device", "cpu", *more)


def test_two_models_that_find_nothing_are_not_chosen_between(cli, phantoms, tmp_path, monkeypatch):
    def blind(*_, **__):
        return Quality(0.1, None, 0.1, 0.0, 0.01, 0.0, 15.0)

    monkeypatch.setattr(quality_module, "quality", blind)
    config = tmp_path / "settings.yaml"
    config.write_text("network: {model: voxresnet, options: {widths: [4, 8]}}\nloop: {steps: 2, batch: 2}\n")
    out = tmp_path / "run"
    answer = cli(*adapting(phantoms, out, "--config", config, "--patch", 16, "--noise-test-patches", 0))
    assert answer.code == 1
    assert "no model predicts foreground in the target; the source model was kept" in answer.out
    assert "comparing" in answer.err or "validation" in answer.err
    choice = json.loads((out / "choice.json").read_text())
    assert (choice["chosen"], choice["undecided"]) == ("source", True)
    page = (out / "report.html").read_text()
    assert "neither model predicts foreground in the target" in page
    assert "adapted model was kept" not in page
    model = out / "model.safetensors"
    first, *others = read_card(model).warnings
    assert first == "neither the source model nor the adapted model predicts foreground in the target"
    assert any("is not above" in w for w in others)
    assert answer.err.splitlines()[-len(others) - 1] == f"warning: {model}: {first}"


@pytest.mark.slow
def test_an_adaptation_of_one_minute_takes_one_minute_and_tells_the_truth(cli, phantoms, tmp_path):
    """By the clock of the processor, so that other work on the machine changes nothing; the warm-up is longer
    than any minute."""
    out = tmp_path / "run"
    began = time.process_time()
    answer = cli(*adapting(phantoms, out, "--max-time", "1m", "--clock", "processor", "--warmup", 100_000))
    assert time.process_time() - began < 75
    choice = json.loads((out / "choice.json").read_text())
    assert answer.code == int(choice["undecided"])
    for phase in ("training", "validation", "comparing the models on the target"):
        assert phase in answer.err
    card = read_card(out / "model.safetensors")
    assert any("warm-up steps" in w for w in card.warnings)
    network, blobs = (card.training[key]["score"] for key in ("held_out", "blob_picker"))
    assert any("not above" in w for w in card.warnings) == (network <= blobs)
    page = (out / "report.html").read_text()
    assert ("neither model predicts foreground" in page) == choice["undecided"]
