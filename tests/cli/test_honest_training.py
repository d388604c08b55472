"""A short training says what it is worth, wherever its model is used."""

import re

import pytest

from cryovox.models.card import read_card


@pytest.fixture(scope="module")
def short(phantoms, tmp_path_factory):
    """Arguments of a training of twenty steps, with everything else as it comes."""
    folder = tmp_path_factory.mktemp("short")
    config = folder / "settings.yaml"
    config.write_text("network: {options: {widths: [4, 8], blocks: [0, 0]}}\n")
    return ("train", "supervised", "--data", phantoms, "--out", folder / "run", "--config", config, "--steps",
            20, "--validate-every", 10, "--batch", 2, "--patch", 16, "--device", "cpu")  # fmt: skip


def test_twenty_steps_tell_the_truth_about_themselves(cli, short, tomogram, tmp_path):
    trained = cli(*short)
    assert trained.code == 0
    model = short[5] / "model.safetensors"
    assert len(re.findall(r"held-out F1 \d\.\d\d \(blob picker \d\.\d\d\)", trained.err)) == 2
    assert re.search(r"capsid: held-out F1 \d\.\d\d; blob picker \d\.\d\d; n = \d+ particles", trained.out)
    warnings = read_card(model).warnings
    assert any("20 of 50 warm-up steps" in w for w in warnings)
    assert any("is not above" in w and "of a blob picker" in w for w in warnings)
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
