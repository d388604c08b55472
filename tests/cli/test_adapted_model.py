"""A model that was adapted to other tomograms says so, wherever it is asked."""

import json

import pytest

from cryovox.formats import read_volume
from cryovox.metrics.fingerprint import Domain, fingerprint_of
from cryovox.models.card import read_card
from cryovox.models.checkpoint import load_model, save_model
from cryovox.workflows.inputs import IDENTITY


@pytest.fixture
def adapted(model, tomogram, tmp_path):
    """The model, as if adapted to something of that distance from the tomogram."""

    def make(shift):
        measured = fingerprint_of(read_volume(tomogram).data, IDENTITY, 10.0)
        spectrum = [a + shift * max(s, 0.02) for a, s in zip(measured.spectrum, measured.spread, strict=True)]
        known = measured.model_copy(update={"spectrum": spectrum})
        network, card = load_model(model)
        domain = Domain(fingerprint=known, tomograms=[{"name": "tomo_171", "sha256": "0"}])
        path = tmp_path / f"adapted{shift}.safetensors"
        save_model(path, network, card.model_copy(update={"domain": domain.model_dump(mode="json")}))
        assert read_card(path).domain["limit"] == 2
        return path

    return make


@pytest.mark.parametrize(("shift", "warned"), [(1, False), (5, True)])
def test_segment_warns(cli, adapted, tomogram, tmp_path, shift, warned):
    args = ("segment", tomogram, "--model", adapted(shift), "--out", tmp_path / "out", "--device", "cpu")
    for _ in range(2):  # and again where nothing is left to be done
        answer = cli(*args, "--quiet")
        assert answer.code == 0
        lines = [line for line in answer.err.splitlines() if "domain distance" in line]
        assert len(lines) == warned
    if warned:
        assert lines[0].startswith("note: phantom_03: domain distance 5.0 (limit 2.0)")
        assert "adapted to tomo_171; adapt it again with `cryovox train" in lines[0]
    noted = json.loads((tmp_path / "out" / "manifest.json").read_text())["entries"]["phantom_03"]["notes"]
    assert len([note for note in noted if "domain" in note]) == warned


def test_find_warns_on_its_page_and_the_doctor_agrees(cli, adapted, tomogram, tmp_path):
    path, out = adapted(5), tmp_path / "found"
    answer = cli("find", tomogram, "--model", path, "--out", out, "--device", "cpu", "--quiet")
    assert "domain distance 5.0" in answer.err
    assert "domain distance 5.0 (limit 2.0)" in (out / "report.html").read_text()
    looked = cli("doctor", tomogram, "--model", path)
    assert "domain distance 5.0 (limit 2.0)" in looked.out
    assert "--source DATASET" in looked.out
