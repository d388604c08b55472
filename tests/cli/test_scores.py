"""Probabilities, cuts for a purpose, false discovery rates and the noise control of `find` and `pick`."""

import json

import numpy as np
import pytest

from cryovox.formats import read_particles, read_volume, scores
from cryovox.models.card import read_card
from cryovox.models.checkpoint import load_model, save_model
from cryovox.picking.calibration import Calibration
from cryovox.picking.rated import PROBABILITY, Q_VALUE

NAME = "phantom_03"


@pytest.fixture
def find(cli, tomogram, model, tmp_path):
    def call(name, *args, model=model):
        out = tmp_path / name
        options = (
            "--model",
            model,
            "--out",
            out,
            "--device",
            "cpu",
            "--quiet",
            "--json",
            tmp_path / "rows.json",
        )
        answer = cli("find", tomogram, *options, *args)
        assert answer.code == 0, answer.err
        picks = read_particles(out / "particles" / f"{NAME}.star", tomogram=read_volume(tomogram))
        entry = json.loads((out / "manifest.json").read_text())["entries"][NAME]
        return picks, entry, json.loads((tmp_path / "rows.json").read_text()), answer

    return call


@pytest.fixture
def without_page(monkeypatch):
    monkeypatch.setattr("cryovox.workflows.find.write_report", lambda *args: None)


def column(picks, name):
    return np.array(picks.extra[name], float)


def test_a_training_calibrates_its_model(model):
    card = read_card(model)
    calibration = Calibration.model_validate(card.calibration)
    assert set(calibration.species) == {s.name for s in card.species}
    assert calibration.basis == "held-out"
    assert all(own.peaks > 0 for own in calibration.species.values())
    assert card.calibration_domain["limit"] >= 2


def test_each_pick_has_a_probability_and_the_report_a_table(find, tmp_path):
    picks, entry, rows, answer = find("out", "--threshold", 0.05)
    probability = column(picks, PROBABILITY)
    assert ((probability >= 0) & (probability <= 1)).all()
    for name in np.unique(picks.species):
        own = picks.species == name
        order = np.argsort(picks.scores[own], kind="stable")
        assert (np.diff(probability[own][order]) >= -1e-4).all()
        summary = entry["particles"]["expected"][name]
        assert summary["threshold"] == 0.05
        # those on dense objects are dropped later, so the two may differ by a few picks
        assert summary["expected_precision"] == pytest.approx(probability[own].mean(), abs=0.1)
    assert {row["species"] for row in rows} == set(picks.species.tolist())
    assert all(0 <= row["expected_precision"] <= 1 for row in rows)
    assert {"averaging", "counting", "czii", "in use"} <= {cut["cut"] for cut in rows[0]["cuts"]}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Expected precision and recall" in page
    assert "noise control" in page
    assert f"note: {NAME}: noise control: " in answer.err
    assert "expected precision" in answer.out


@pytest.mark.usefixtures("without_page")
def test_a_purpose_chooses_the_threshold(find, cli, tmp_path):
    counts = {}
    for purpose in ("averaging", "counting", "czii"):
        picks, entry, _, _ = find(purpose, "--for", purpose, "--noise-control", 0)
        counts[purpose] = len(picks)
        for name, own in entry["particles"]["expected"].items():
            wanted = next(cut["score"] for cut in own["cuts"] if cut["cut"] == purpose)
            assert own["threshold"] == wanted
            if len(mine := picks.named(name).scores):
                assert mine.min() >= wanted - 1e-4
    assert counts["averaging"] <= counts["czii"]
    assert counts["counting"] <= counts["czii"]
    again = tmp_path / "again"
    answer = cli("pick", tmp_path / "czii" / "scores", "--out", again, "--for", "czii")
    assert answer.code == 0
    assert "only `cryovox find` tests whether the probabilities hold" in answer.err
    first, second = (f / "particles" / f"{NAME}.star" for f in (tmp_path / "czii", again))
    assert (
        abs(len(second.read_text().splitlines()) - len(first.read_text().splitlines()))
        <= 0.2 * counts["czii"]
    )


@pytest.mark.usefixtures("without_page")
def test_a_false_discovery_rate_cuts_at_its_q_value(find):
    loose, entry, _, answer = find("out", "--fdr", 0.5)
    assert (column(loose, Q_VALUE) <= 0.5 + 1e-3).all()
    assert entry["noise"]["share"] == 1
    assert "by calibrated probabilities" in answer.err  # the tomogram is like those of the training
    for name, own in entry["particles"]["expected"].items():
        if own["picks"]:
            assert own["expected_precision"] >= 0.5 - 1e-3
        assert own["picks"] == (loose.species == name).sum()
    strict, _, _, answer = find("out", "--fdr", 0.05)
    assert len(strict) <= len(loose)
    assert (column(strict, Q_VALUE) <= 0.05 + 1e-3).all()
    assert "the power of the tomogram beside its strongest picks" in answer.err


@pytest.mark.usefixtures("without_page")
def test_a_noise_control_is_kept_and_repeated_only_where_it_differs(find, tmp_path):
    _, first, _, _ = find("out")
    stored = tmp_path / "out" / "noise" / f"{NAME}.json"
    written = stored.stat().st_mtime_ns
    assert 0.1 < first["noise"]["share"] < 0.15
    find("out", "--threshold", 0.2)
    assert stored.stat().st_mtime_ns == written
    _, other, _, _ = find("out", "--noise-control", 0.5)
    assert stored.stat().st_mtime_ns > written
    assert other["noise"]["share"] > first["noise"]["share"]
    _, without, _, answer = find("new", "--noise-control", 0)
    assert "noise" not in without
    assert "noise control" not in answer.err


@pytest.mark.usefixtures("without_page")
def test_the_output_says_where_the_calibration_does_not_transfer(find, model, tmp_path):
    network, card = load_model(model)
    domain = json.loads(json.dumps(card.calibration_domain))
    domain["fingerprint"]["spectrum"] = [-3.0] * 24
    save_model(tmp_path / "far.safetensors", network, card.model_copy(update={"calibration_domain": domain}))
    _, entry, _, answer = find("far", model=tmp_path / "far.safetensors")
    assert "calibrated on other data" in answer.err
    assert ["warning", "calibration"] in [finding[:2] for finding in entry["particles"]["findings"]]
    _, _, _, near = find("near")
    assert "calibrated on other data" not in near.err


@pytest.mark.usefixtures("without_page")
def test_models_without_a_calibration_find_as_before(find, model, cli, tomogram, tmp_path):
    network, card = load_model(model)
    plain = tmp_path / "plain.safetensors"
    save_model(plain, network, card.model_copy(update={"calibration": None, "calibration_domain": None}))
    picks, _, rows, _ = find("plain", model=plain)
    calibrated, _, _, _ = find("calibrated")
    assert PROBABILITY not in picks.extra
    assert len(picks) == len(calibrated)
    np.testing.assert_allclose(picks.positions, calibrated.positions, atol=1e-3)
    assert "expected_precision" not in rows[0]
    assert scores.read(tmp_path / "plain" / "scores" / f"{NAME}.zarr").calibration is None
    args = ("--out", tmp_path / "no", "--quiet", "--for", "counting")
    cli("find", tomogram, "--model", plain, *args).refused("--for", "calibrat", "--threshold")
    decoys, entry, _, answer = find("decoys", "--fdr", 0.9, model=plain)
    assert Q_VALUE in decoys.extra
    assert entry["noise"]["share"] == 1
    assert "by picks in noise" in answer.err


def test_rules_that_contradict_each_other_are_refused(cli, model, tomogram, tmp_path):
    args = ("find", tomogram, "--model", model, "--out", tmp_path / "out", "--quiet")
    cli(*args, "--for", "counting", "--threshold", 0.3).refused("--threshold", "--for")
    cli(*args, "--fdr", 0.05, "--threshold", 0.3).refused("--threshold", "--fdr")
    cli(*args, "--fdr", 0.05, "--for", "czii").refused("--for", "--fdr")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_page")
def test_masks_are_calibrated_and_controlled_too(find, tiny):
    model = tiny("voxresnet")
    card = read_card(model)
    for name, own in (card.calibration or {"species": {}})["species"].items():
        assert own["floor"] == card.thresholds.get(name, 0.5)
    _, entry, _, _ = find("out", model=model)
    assert set(entry["particles"]["expected"]) == {s.name for s in card.species}


@pytest.mark.usefixtures("without_page")
def test_decoys_have_the_power_beside_strong_picks(find, model):
    network, card = load_model(model)
    plain = model.parent / "uncalibrated.safetensors"
    save_model(plain, network, card.model_copy(update={"calibration": None, "calibration_domain": None}))
    _, entry, _, answer = find("background", "--fdr", 0.5, model=plain)
    assert entry["noise"]["source"] == "background"
    assert "the power of the tomogram beside its strongest picks" in answer.err
    _, entry, _, _ = find("whole", model=plain)
    assert entry["noise"]["source"] == "tomogram"
