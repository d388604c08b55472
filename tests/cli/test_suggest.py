import hashlib
import json
import re

import numpy as np
import pytest
import torch

from cryovox.core.particles import Particles
from cryovox.formats import mrc, read_particles, read_volume, write_particles
from cryovox.models import build
from cryovox.models.card import read_card
from cryovox.models.checkpoint import save_model


@pytest.fixture
def ask(cli, model, tmp_path):
    """Ask what to label in tomograms; everything besides is an option."""

    def call(*args, using=model, name="out"):
        command = ("suggest", *args, "--model", using, "--out", tmp_path / name, "--device", "cpu", "--quiet")
        return cli(*command)

    return call


@pytest.fixture
def suggest(ask, tomogram, tmp_path):
    """What is suggested for the one tomogram, read back."""

    def call(*args, name="out", **more):
        answer = ask(tomogram, *args, name=name, **more)
        assert answer.code == 0, answer.err
        return read_particles(tmp_path / name / "suggested.star", tomogram=read_volume(tomogram))

    return call


@pytest.fixture
def pair(tomogram, tmp_path):
    """The tomogram, and a smaller one cut out of it."""
    volume = read_volume(tomogram)
    small = tmp_path / "cut.mrc"
    with mrc.create(small, (24, 48, 56), "f4", volume.voxel_size) as data:
        data[:] = volume.data[:24, :48, :56]
    return tomogram, small


def test_everything_is_written_and_agrees(suggest, tomogram, model, tmp_path):
    suggestions = suggest("--count", 6, "--json", tmp_path / "list.json", "--contrast", "dark")
    assert len(suggestions) == 6
    assert suggestions.extra["rank"].tolist() == ["1", "2", "3", "4", "5", "6"]
    assert all(0 < float(u) <= 1 for u in suggestions.extra["uncertainty"])
    assert all(float(d) > 0 for d in suggestions.extra["diversity"])
    assert set(suggestions.tomograms) == {"phantom_03"}
    volume = read_volume(tomogram)
    assert (suggestions.positions >= 0).all()
    assert (suggestions.positions <= np.array(volume.shape) * volume.voxel_size).all()
    rows = json.loads((tmp_path / "list.json").read_text())
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["species"] for row in rows] == suggestions.species.tolist()
    assert np.allclose([[row[a] for a in "zyx"] for row in rows], suggestions.positions, atol=0.06)
    star = (tmp_path / "out" / "suggested.star").read_text()
    assert "_rlnCenteredCoordinateXAngst" in star
    assert "_rlnTomoName" in star
    page = (tmp_path / "out" / "suggested.html").read_text()
    assert page.count("<svg") == 6
    assert str(model) in page
    for name in suggestions.species:
        assert f"{name}?" in page


def test_the_manifest_tells_what_was_run_on_what(suggest, tomogram, model, tmp_path):
    labeled = tmp_path / "done.csv"
    labeled.write_text("x,y,z,species\n100,100,100,sphere\n")
    suggest("--count", 3, "--annotated", labeled)
    noted = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert noted["suggest"]["count"] == 3
    assert noted["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert noted["labelled"] == {str(labeled): hashlib.sha256(labeled.read_bytes()).hexdigest()}
    assert noted["outputs"] == {"suggested": "suggested.star", "report": "suggested.html"}
    assert {"command", "device", "segment", "seconds", "versions"} <= set(noted)
    entry = noted["entries"]["phantom_03"]
    assert entry["suggested"]["count"] == 3 <= entry["suggested"]["candidates"]
    assert entry["suggested"]["labelled"] == 1
    assert entry["key"]["input_sha256"] == hashlib.sha256(tomogram.read_bytes()).hexdigest()


def test_what_is_labeled_is_not_suggested_again(suggest, tomogram, tmp_path):
    first = suggest("--count", 5)
    stored = tmp_path / "out" / "scores" / "phantom_03.zarr" / "zarr.json"
    before = stored.stat().st_mtime_ns
    done = tmp_path / "done.star"
    done.write_text((tmp_path / "out" / "suggested.star").read_text())
    second = suggest("--count", 5, "--annotated", done, "--overwrite")
    gap = np.linalg.norm(first.positions[:, None] - second.positions[None], axis=-1)
    radii = {row["name"]: row["radius"] for row in _species(tmp_path / "out")}
    assert (gap > np.array([radii[str(name)] for name in second.species])).all()
    assert stored.stat().st_mtime_ns == before


def _species(out):
    group = json.loads((out / "scores" / "phantom_03.zarr" / "zarr.json").read_text())
    return group["attributes"]["cryovox"]["species"]


def test_the_same_question_has_the_same_answer(suggest, tmp_path):
    suggest("--count", 4)
    star = tmp_path / "out" / "suggested.star"
    before = star.read_bytes()
    suggest("--count", 4, "--overwrite")
    assert star.read_bytes() == before


def test_more_than_there_are_and_none_at_all(ask, suggest, tomogram, tmp_path):
    everything = suggest("--count", 5000, "--min-score", 1e-9, "--max-candidates", 10)
    noted = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert len(everything) == noted["entries"]["phantom_03"]["suggested"]["candidates"] <= 20
    volume = read_volume(tomogram)
    step = min(row["radius"] for row in _species(tmp_path / "out")) * 1.1
    sides = [np.arange(0, n * volume.voxel_size + step, step) for n in volume.shape]
    all_over = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3)
    write_particles(tmp_path / "all.star", Particles.of(all_over, "x"), tomogram=volume)
    answer = ask(tomogram, "--annotated", tmp_path / "all.star", name="none")
    assert answer.code == 0
    assert "no candidates are left" in answer.out
    assert "There are no suggestions" in (tmp_path / "none" / "suggested.html").read_text()


def test_a_mask_network(suggest, model, tmp_path):
    card = read_card(model).model_copy(
        update={
            "network": "voxresnet",
            "options": {"widths": [4, 8]},
            "out_channels": 3,
            "activation": "softmax",
            "kind": "mask",
            "output_stride": 1,
            "thresholds": {},
        }
    )
    torch.manual_seed(0)
    save_model(tmp_path / "mask.safetensors", build("voxresnet", card.options, 1, 3), card)
    suggestions = suggest("--count", 4, using=tmp_path / "mask.safetensors")
    assert 0 < len(suggestions) <= 4


def test_tomograms_of_unlike_size_share_one_list(ask, pair, tmp_path):
    answer = ask(*pair, "--count", 10, "--json", tmp_path / "list.json", "--contrast", "dark")
    assert answer.code == 0, answer.err
    rows = json.loads((tmp_path / "list.json").read_text())
    assert {row["tomogram"] for row in rows} == {"phantom_03", "cut"}
    for path, name in zip(pair, ("phantom_03", "cut"), strict=True):
        star = tmp_path / "out" / "suggested.star"
        suggestions = read_particles(star, tomogram=read_volume(path), tomogram_names=[name])
        listed = [[row[a] for a in "zyx"] for row in rows if row["tomogram"] == name]
        assert np.allclose(suggestions.positions, listed, atol=0.06)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "any.star").write_text((tmp_path / "out" / "suggested.star").read_text())
    (lists / "cut.csv").write_text("x,y,z\n100,100,100\n")
    assert ask(*pair, "--annotated", lists, "--contrast", "dark", "--overwrite").code == 0
    entries = json.loads((tmp_path / "out" / "manifest.json").read_text())["entries"]
    in_cut = sum(row["tomogram"] == "cut" for row in rows)
    assert entries["cut"]["suggested"]["labelled"] == in_cut + 1
    assert entries["phantom_03"]["suggested"]["labelled"] == 10 - in_cut


def test_one_broken_tomogram_of_two(ask, tomogram, make_mrc, noise, tmp_path):
    noise[0, 0, 0] = np.nan
    broken = make_mrc("broken.mrc", noise, float(read_volume(tomogram).voxel_size))
    answer = ask(tomogram, broken, "--count", 3, "--contrast", "dark")
    assert answer.code == 1
    assert "broken" in answer.err
    assert (tmp_path / "out" / "suggested.html").exists()


def test_bad_requests_leave_things_as_they_are(ask, tomogram, pair, tmp_path):
    ask(tmp_path / "none.mrc").refused("none.mrc", "no such file")
    ask(tomogram, using=tomogram).refused("is not a cryovox model")
    ask(tomogram, "--annotated", tmp_path / "none.star").refused("none.star", "no such file")
    (tmp_path / "other.csv").write_text("x,y,z\n100,100,100\n")
    ask(*pair, "--annotated", tmp_path / "other.csv").refused("other.csv", "names none of the tomograms")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "suggested.html").write_text("the page of find")
    ask(tomogram).refused("suggested.html", "already", "--overwrite")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["suggested.html"]


def test_names_as_relion_and_warp_write_them(ask, pair, tmp_path):
    volume = read_volume(pair[0])
    for name in ("rec_phantom_03", "phantom_03.mrc.tomostar"):
        file = tmp_path / "picks.star"
        picks = Particles.of([[100, 100, 100]], "a", tomograms=name)
        write_particles(file, picks, tomogram=volume)
        assert ask(*pair, "--annotated", file, "--overwrite", "--contrast", "dark", "--count", 1).code == 0
        entries = json.loads((tmp_path / "out" / "manifest.json").read_text())["entries"]
        assert [entries[n]["suggested"]["labelled"] for n in ("phantom_03", "cut")] == [1, 0]


def test_the_list_of_another_tomogram_is_refused(ask, tomogram, tmp_path):
    picks = tmp_path / "picks.csv"
    picks.write_text("x,y,z,tomogram\n100,100,100,TS_01\n")
    ask(tomogram, "--annotated", picks).refused("picks.csv", "names none of the tomograms")


def test_help_names_the_options(cli):
    answer = " ".join(cli("suggest", "--help-all").out.split())
    for option in ("--model", "--out", "--annotated", "--count", "--min-score", "--overwrite", "--tta"):
        assert re.search(rf"{option}\b", answer)
