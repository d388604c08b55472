import base64
import hashlib
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, scores, write_volume
from cryovox.models.card import read_card
from cryovox.picking import PickConfig, pick


@pytest.fixture
def find(cli, tomogram, model, tmp_path):
    def call(name, *args, tomogram=tomogram):
        out = tmp_path / name
        answer = cli("find", tomogram, "--model", model, "--out", out, "--device", "cpu", "--quiet", *args)
        assert answer.code == 0, answer.err
        return out

    return call


@pytest.fixture
def without_page(monkeypatch):
    """Leave the page out, which takes seconds to draw."""
    monkeypatch.setattr("cryovox.workflows.find.write_report", lambda *args: None)


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
    new, old = find("new"), find("old", "--convention", "relion3")
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
    assert f"{count} picks near the volume edges" in cut.err
    assert "--border 0 keeps them" in cut.err
    assert "near the volume edges" not in whole.err


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize("threshold", [0.02, 0.3])
def test_the_label_map_shows_the_picks_of_this_threshold(find, tomogram, threshold):
    find("found", "--threshold", 1)  # what is painted first is painted anew
    out = find("found", "--threshold", threshold, "--max-count", 3)
    volume = read_volume(tomogram)
    picks = read_particles(out / "particles" / "phantom_03.star", tomogram=volume)
    labels = read_volume(out / "labels" / "phantom_03.mrc", 1.0).data
    score_map = scores.read(out / "scores" / "phantom_03.zarr")
    radii = {s.name: s.radius for s in score_map.species}
    z, y, x = np.indices(volume.shape) * volume.voxel_size
    near = np.zeros(volume.shape, bool)
    for center, name in zip(picks.positions, picks.species, strict=True):
        squared = (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2
        near |= squared <= radii[str(name)] ** 2 * (1 - 1e-3)
    assert (len(picks) > 0) == (threshold < 0.1)
    assert (labels[near] > 0).all()
    assert (labels > 0).sum() <= near.sum() * 1.02


def pictures(page):
    """Gray pictures inside the figures of a page, which are SVG."""
    figures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page.read_text())
    text = "".join(base64.b64decode(figure).decode() for figure in figures)
    raw = re.findall(r'href="data:image/(?!png)\w+;base64,([^"]+)"', text)  # those of scores are PNG
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(p))).convert("L"), float) for p in raw]


def test_bright_tomograms_are_shown_like_dark_ones(find, tomogram, tmp_path):
    volume = read_volume(tomogram)
    write_volume(tmp_path / "bright" / "phantom_03.mrc", Volume(-np.asarray(volume.data), volume.voxel_size))
    dark = pictures(find("dark", "--threshold", 0.02, "--contrast", "dark") / "report.html")
    args = ("--threshold", 0.02, "--contrast", "bright")
    bright = pictures(find("bright", *args, tomogram=tmp_path / "bright" / "phantom_03.mrc") / "report.html")
    assert len(dark) == len(bright) > 1
    for a, b in zip(dark, bright, strict=True):
        assert np.abs(a - b).mean() < 2
        assert a.std() > 5


def half_mask(tomogram, tmp_path):
    """Half of the tomogram along x, and a voxel in the other half."""
    volume = read_volume(tomogram)
    inside = np.zeros(volume.shape, np.int8)
    inside[:, :, : volume.shape[2] // 2] = 1
    write_volume(tmp_path / "mask.mrc", Volume(inside, volume.voxel_size))
    return tmp_path / "mask.mrc", inside != 0


@pytest.mark.usefixtures("without_page")
def test_what_a_mask_skips_changes_no_pick_inside(find, tomogram, tmp_path):
    mask, inside = half_mask(tomogram, tmp_path)
    args = ("--threshold", 0.02, "--keep-dense")
    plain, masked = find("plain", *args), find("masked", *args, "--mask", mask)
    wanted = pick(scores.read(plain / "scores" / "phantom_03.zarr"), PickConfig(threshold=0.02), inside)
    picks = read_particles(masked / "particles" / "phantom_03.star", tomogram=read_volume(tomogram))
    assert len(picks) == len(wanted) > 0
    a, b = (p.take(np.lexsort(np.rint(p.positions * 10).T)) for p in (wanted, picks))
    assert np.allclose(a.positions, b.positions, atol=1e-3)
    assert np.allclose(a.scores, b.scores, atol=1e-4)


@pytest.mark.usefixtures("without_page")
def test_what_a_mask_skips_changes_no_label_inside(cli, tiny, tomogram, tmp_path):
    mask, inside = half_mask(tomogram, tmp_path)
    args = ("segment", tomogram, "--model", tiny("voxresnet"), "--device", "cpu", "--quiet")
    for name, more in (("plain", ()), ("masked", ("--mask", mask))):
        assert cli(*args, "--out", tmp_path / name, *more).code == 0
    plain, masked = (
        np.asarray(read_volume(tmp_path / name / "labels" / "phantom_03.mrc", 1.0).data)
        for name in ("plain", "masked")
    )
    assert plain[~inside].any()
    assert np.array_equal(masked, np.where(inside, plain, 0))


@pytest.mark.usefixtures("without_page")
def test_another_mask_segments_again(find, tomogram, tmp_path):
    mask, inside = half_mask(tomogram, tmp_path)
    out = find("found", "--mask", mask)
    stored = out / "scores" / "phantom_03.zarr" / "zarr.json"
    before = stored.stat().st_mtime_ns
    find("found", "--mask", mask)
    assert stored.stat().st_mtime_ns == before
    write_volume(mask, Volume((~inside).astype(np.int8), 10.0))
    find("found", "--mask", mask)
    assert stored.stat().st_mtime_ns > before


@pytest.mark.parametrize("command", ["find", "segment", "suggest"])
def test_masks_that_do_not_fit_are_refused(cli, model, tomogram, tmp_path, command):
    shape = read_volume(tomogram).shape
    write_volume(tmp_path / "small.mrc", Volume(np.ones((8, 8, 8), np.int8), 10.0))
    write_volume(tmp_path / "empty.mrc", Volume(np.zeros(shape, np.int8), 10.0))
    write_volume(tmp_path / "masks" / "other.mrc", Volume(np.ones(shape, np.int8), 10.0))
    args = (command, tomogram, "--model", model, "--out", tmp_path / "out", "--quiet")
    cli(*args, "--mask", tmp_path / "small.mrc").refused("--mask", "(8, 8, 8)", str(shape))
    cli(*args, "--mask", tmp_path / "empty.mrc").refused("--mask", "0 everywhere")
    cli(*args, "--mask", tmp_path / "masks").refused("--mask", "phantom_03")
    cli(*args, "--mask", tmp_path / "none.mrc").refused("none.mrc")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_masks_serves_each_tomogram_its_own(cli, model, tomogram, tmp_path):
    _, inside = half_mask(tomogram, tmp_path)
    for name, values in (("phantom_03", inside), ("b", ~inside)):
        write_volume(tmp_path / "masks" / f"{name}.mrc", Volume(values.astype(np.int8), 10.0))
    shutil.copy(tomogram, tmp_path / "b.mrc")
    args = ("--model", model, "--out", tmp_path / "out", "--device", "cpu", "--quiet")
    answer = cli("segment", tomogram, tmp_path / "b.mrc", *args, "--mask", tmp_path / "masks")
    assert answer.code == 0, answer.err
    labels = [read_volume(tmp_path / "out" / "labels" / f"{n}.mrc", 1.0).data for n in ("phantom_03", "b")]
    assert not labels[0][~inside].any()
    assert not labels[1][inside].any()


def test_the_report_shows_what_other_runs_found(cli, model, tomogram, tmp_path):
    shutil.copy(tomogram, tmp_path / "b.mrc")
    out = tmp_path / "out"
    for path, threshold in ((tomogram, 0.02), (tmp_path / "b.mrc", 0.05)):
        args = ("--model", model, "--out", out, "--device", "cpu", "--quiet", "--threshold", threshold)
        assert cli("find", path, *args).code == 0
    page = (out / "report.html").read_text()
    assert all(f">{name}<" in page for name in ("phantom_03", "b"))
    assert "0.02" in page
    assert "0.05" in page
    (tmp_path / "b.mrc").unlink()  # then it cannot be shown any more
    assert cli("find", tomogram, *args).code == 0
    assert "b.mrc" not in (out / "report.html").read_text()


def test_picking_takes_a_folder_of_masks_as_finding_does(cli, model, tomogram, find, tmp_path):
    mask, _ = half_mask(tomogram, tmp_path)
    masks = tmp_path / "masks"
    masks.mkdir()
    mask.rename(masks / "phantom_03.mrc")
    out = find("found", "--mask", masks, "--threshold", 0.02, "--keep-dense")
    args = ("pick", out / "scores", "--out", tmp_path / "picks", "--threshold", 0.02, "--mask")
    assert cli(*args, masks).code == 0
    again, first = (folder / "particles" / "phantom_03.star" for folder in (tmp_path / "picks", out))
    assert again.read_text() == first.read_text()
    (masks / "phantom_03.mrc").rename(masks / "other.mrc")
    cli(*args, masks).refused("--mask", "phantom_03")


@pytest.mark.usefixtures("without_page")
def test_picks_of_a_species_get_poses(find, tomogram):
    out = find("posed", "--poses", "capsid=ribosome-70s", "--pose-angle", 40, "--pose-symmetry", "D4")
    volume = read_volume(tomogram)
    picks = read_particles(out / "particles" / "phantom_03.star", tomogram=volume)
    plain = pick(scores.read(out / "scores" / "phantom_03.zarr"))
    is_capsid = picks.species == "capsid"
    coefficients = picks.extra["rlnLCCmax"].astype(float)
    assert is_capsid.any()
    assert (coefficients[is_capsid] != 0).all()
    assert not coefficients[~is_capsid].any()
    assert np.allclose(picks.scores, plain.scores, atol=1e-4)
    assert np.allclose(picks.positions[~is_capsid], plain.positions[~is_capsid], atol=1e-3)
    assert np.allclose(picks.rotations[~is_capsid], np.eye(3))


def test_poses_of_unknown_species_are_refused_before_any_work(cli, tomogram, model, tmp_path):
    out = tmp_path / "out"
    cli("find", tomogram, "--model", model, "--out", out, "--poses", "capsit=vlp").refused(
        "--poses", "capsid"
    )
    assert not out.exists()
