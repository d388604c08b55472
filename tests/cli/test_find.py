import hashlib
import json

import numpy as np
import pytest

from cryovox.formats import read_particles, read_volume, scores
from cryovox.picking import pick


@pytest.fixture
def find(cli, tomogram, model, tmp_path):
    def call(name, *args):
        out = tmp_path / name
        told = cli("find", tomogram, "--model", model, "--out", out, "--device", "cpu", "--quiet", *args)
        assert told.code == 0, told.err
        return out

    return call


@pytest.fixture
def without_page(monkeypatch):
    """Leave the page out, which takes seconds to draw."""
    monkeypatch.setattr("cryovox.workflows.find._report", lambda *args: None)


def test_everything_is_written_and_agrees(find, tomogram, model, tmp_path):
    out = find("found", "--json", tmp_path / "counts.json", "--seed", 7)
    page = (out / "report.html").read_text()
    assert "phantom_03" in page
    assert "capsid" in page
    star = (out / "particles" / "phantom_03.star").read_text()
    assert "_rlnCenteredCoordinateXAngst" in star
    assert "_rlnTomoName" in star
    volume = read_volume(tomogram)
    picks = read_particles(out / "particles" / "phantom_03.star", tomogram=volume)
    again = pick(scores.read(out / "scores" / "phantom_03.zarr"))
    assert len(picks) == len(again) > 0
    assert np.allclose(picks.positions, again.positions, atol=1e-3)
    assert picks.species.tolist() == again.species.tolist()
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert sum(row["particles"] for row in counts) == len(picks)


@pytest.mark.usefixtures("without_page")
def test_the_manifest_tells_what_was_run_on_what(find, tomogram, model):
    out = find("found", "--seed", 7, "--tta", 4, "--max-count", 3)
    noted = json.loads((out / "manifest.json").read_text())
    assert noted["command"]
    assert noted["seed"] == 7
    assert noted["segment"]["tta"] == 4
    assert noted["pick"]["max_count"] == 3
    assert noted["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert {"cryovox", "python", "numpy", "torch"} <= set(noted["versions"])
    entry = noted["entries"]["phantom_03"]
    assert entry["key"]["input_sha256"] == hashlib.sha256(tomogram.read_bytes()).hexdigest()
    assert entry["key"]["model_sha256"] == noted["model_sha256"]
    assert entry["seconds"] > 0
    assert entry["contrast"] == "dark"
    assert set(entry["outputs"]) == {"scores", "labels"}
    assert entry["particles"]["file"] == "particles/phantom_03.star"
    assert (out / entry["particles"]["file"]).exists()
    assert 0 < entry["particles"]["count"] <= 6


@pytest.mark.usefixtures("without_page")
def test_finding_again_picks_again_but_does_not_segment_again(find):
    out = find("found")
    stored = out / "scores" / "phantom_03.zarr" / "zarr.json"
    before = stored.stat().st_mtime_ns
    find("found", "--max-count", 1)
    assert stored.stat().st_mtime_ns == before
    noted = json.loads((out / "manifest.json").read_text())
    assert noted["entries"]["phantom_03"]["particles"]["count"] <= 2


@pytest.mark.usefixtures("without_page")
def test_batch_and_slabs_do_not_change_the_picks(find):
    def rows(out):
        return (out / "particles" / "phantom_03.star").read_text()

    reference = rows(find("plain"))
    for number, args in enumerate([("--batch", 1), ("--batch", 7, "--slab-rows", 2), ("--slab-rows", 9)]):
        assert rows(find(f"other{number}", *args)) == reference


@pytest.mark.usefixtures("without_page")
def test_older_dialects(find, tomogram):
    new, old = find("new"), find("old", "--flavour", "relion3")
    assert "_rlnCoordinateX" in (old / "particles" / "phantom_03.star").read_text()
    volume = read_volume(tomogram)
    a, b = (read_particles(f / "particles" / "phantom_03.star", tomogram=volume) for f in (new, old))
    assert np.allclose(a.positions, b.positions, atol=0.01)


def test_no_particle_at_all(find, tomogram, tmp_path):
    out = find("none", "--threshold", 1, "--json", tmp_path / "counts.json")
    assert (out / "report.html").exists()
    assert json.loads((tmp_path / "counts.json").read_text())[0]["particles"] == 0
    assert len(read_particles(out / "particles" / "phantom_03.star", tomogram=read_volume(tomogram))) == 0
