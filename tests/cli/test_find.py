import hashlib
import json

import numpy as np
import pytest

from cryovox.formats import read_particles, read_volume, scores
from cryovox.models.card import read_card
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


def test_picks_near_the_faces_are_left_out_and_said(cli, model, tomogram, without_page, tmp_path):
    args = ("find", tomogram, "--model", model, "--device", "cpu", "--quiet", "--threshold", "0.01")
    cut = cli(*args, "--out", tmp_path / "cut")
    whole = cli(*args, "--out", tmp_path / "whole", "--border", "0")
    assert (cut.code, whole.code) == (0, 0), cut.err + whole.err
    volume = read_volume(tomogram)
    radii = {s.name: s.radius for s in read_card(model).species}
    depths = {}
    for name in ("cut", "whole"):
        picks = read_particles(tmp_path / name / "particles" / "phantom_03.star", tomogram=volume)
        high = (np.array(volume.shape) - 0.5) * volume.voxel_size
        low = picks.positions + 0.5 * volume.voxel_size
        depth = np.minimum(low, high - picks.positions).min(axis=1)
        depths[name] = depth / np.array([radii[str(s)] for s in picks.species])
    assert depths["cut"].min() >= 0.5 - 1e-3
    assert depths["whole"].min() < 0.5
    entry = json.loads((tmp_path / "cut" / "manifest.json").read_text())["entries"]["phantom_03"]
    count = entry["particles"]["left_out"]["at_faces"]
    assert count > 0
    assert f"{count} picks near the faces" in cut.err
    assert "--border 0 keeps them" in cut.err
    assert "near the faces" not in whole.err
