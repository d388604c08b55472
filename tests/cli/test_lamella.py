"""Picks are limited to the sample by default, where its faces are clear."""

import json

import numpy as np
import pytest

from cryovox.core.volume import Volume
from cryovox.formats import read_mask, read_particles, read_volume, write_volume
from cryovox.models.card import read_card
from cryovox.picking.lamella import Lamella

SHAPE = (96, 72, 80)
LOWER, UPPER = (25.0, 0.05), (66.0, -0.05)
"""Faces of the sample, z = offset + slope * x in voxels."""


@pytest.fixture
def slab(model, tmp_path):
    """A sample of higher spread between two tilted planes, in voxels of the model."""
    z, x = np.ogrid[: SHAPE[0], : SHAPE[2]]
    inside = (z >= LOWER[0] + LOWER[1] * x) & (z <= UPPER[0] + UPPER[1] * x)
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    size = read_card(model).voxel_size
    data = (noise * np.where(inside, 3.0, 1.0)[:, None, :]).astype(np.float32)
    path = tmp_path / "slab.mrc"
    write_volume(path, Volume(data, size))
    return path


@pytest.fixture
def find(cli, model, slab, tmp_path, monkeypatch):
    monkeypatch.setattr("cryovox.workflows.find.write_report", lambda *args: None)

    def call(name, *args):
        out = tmp_path / name
        options = ("--threshold", "0.01", "--border", "0", "--keep-dense", "--noise-control", "0")
        answer = cli("find", slab, "--model", model, "--out", out, "--device", "cpu", *options, *args)
        assert answer.code == 0, answer.err
        record = json.loads((out / "manifest.json").read_text())["entries"]["slab"]["particles"]
        picks = read_particles(out / "particles" / "slab.star", tomogram=read_volume(slab))
        return picks.positions, record, answer.err

    return call


def test_find_leaves_out_picks_outside_the_sample(find, model, slab, tmp_path):
    inside, record, err = find("inside")
    everywhere, other, _ = find("everywhere", "--no-lamella")
    radius, size = max(s.radius for s in read_card(model).species), read_volume(slab).voxel_size
    lamella = Lamella.from_dict(record["lamella"])
    low, high = lamella.faces
    assert low == pytest.approx((LOWER[0], LOWER[0] + LOWER[1] * SHAPE[2]), abs=2)
    assert high == pytest.approx((UPPER[0] + UPPER[1] * SHAPE[2], UPPER[0]), abs=2)
    assert record["lamella"]["margin"] == pytest.approx(radius, abs=0.01)
    assert lamella.contain(inside, radius + size).all()
    left_out = int((~lamella.contain(everywhere, radius)).sum())
    assert record["left_out"]["lamella"] == left_out > 0
    assert f"{left_out} picks more than a radius outside" in err
    assert "--no-lamella keeps them" in err
    # those at least a radius inside the faces do not depend on the mask
    clear = [tuple(p) for p in everywhere.round(2) if lamella.contain(p[None], -radius)[0]]
    assert clear
    assert set(clear) <= {tuple(p) for p in inside.round(2)}
    assert other["left_out"]["lamella"] == 0
    assert other["lamella"] == {}
    assert not (tmp_path / "everywhere" / "masks").exists()


def test_the_mask_is_written_and_selects_the_same_picks(find, slab, tmp_path):
    inside, record, _ = find("inside")
    mask = tmp_path / "inside" / record["lamella"]["mask"]
    assert mask == tmp_path / "inside" / "masks" / "slab.mrc"
    assert read_mask(mask).shape == SHAPE
    assert read_volume(mask).voxel_size == pytest.approx(read_volume(slab).voxel_size)
    assert record["lamella"]["fraction"] == pytest.approx(read_mask(mask).mean(), abs=1e-3)
    again, _, _ = find("again", "--no-lamella", "--mask", mask)
    assert np.array_equal(inside, again)


def test_a_mask_of_the_user_applies_as_well(find, slab, tmp_path):
    given = np.zeros(SHAPE, np.int8)
    given[:, :, :40] = 1
    path = tmp_path / "masks" / "slab.mrc"
    path.parent.mkdir()
    write_volume(path, Volume(given, read_volume(slab).voxel_size))
    positions, record, _ = find("both", "--mask", path.parent)
    assert len(positions)
    assert (positions[:, 2] < 39.5 * read_volume(slab).voxel_size).all()
    lamella = Lamella.from_dict(record["lamella"])
    assert lamella.contain(positions, record["lamella"]["margin"] + read_volume(slab).voxel_size).all()
    assert record["left_out"]["lamella"] > 0


def test_a_mask_outside_the_sample_has_priority_and_is_not_overwritten(find, slab, tmp_path):
    given = np.zeros(SHAPE, np.int8)
    given[:3] = 1
    path = tmp_path / "own" / "masks" / "slab.mrc"
    path.parent.mkdir(parents=True)
    write_volume(path, Volume(given, read_volume(slab).voxel_size))
    before = path.read_bytes()
    _, record, _ = find("own", "--mask", path.parent)
    assert "only the mask is used" in record["lamella"]["note"]
    given[:] = 1
    write_volume(path, Volume(given, read_volume(slab).voxel_size))
    before = path.read_bytes()
    _, record, _ = find("own", "--mask", path.parent)
    assert record["left_out"]["lamella"] > 0
    assert path.read_bytes() == before


def test_without_a_clear_boundary_nothing_is_left_out(find, slab):
    size = read_volume(slab).voxel_size
    noise = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    write_volume(slab, Volume(noise, size))
    default, record, err = find("default")
    everywhere, _, _ = find("everywhere", "--no-lamella")
    assert np.array_equal(default, everywhere)
    assert len(default) > 0
    assert record["lamella"] == {"note": "there is no clear boundary of the sample along z"}
    assert ["ok", "sample boundary", record["lamella"]["note"], ""] in record["findings"]
    assert "outside the estimated boundary" not in err


def test_match_leaves_out_particles_outside_the_sample(cli, tmp_path):
    z, x = np.ogrid[: SHAPE[0], : SHAPE[2]]
    inside = (z >= LOWER[0] + LOWER[1] * x) & (z <= UPPER[0] + UPPER[1] * x)
    noise = np.random.default_rng(2).standard_normal(SHAPE)
    path = tmp_path / "slab.mrc"
    data = (noise * np.where(inside, 3.0, 1.0)[:, None, :]).astype(np.float32)
    write_volume(path, Volume(data, 25.0))
    options = ("--angle", 60, "--threshold", 0.02, "--border", 0, "--contrast", "dark", "--device", "cpu")
    options += ("--noise-control", 0, "--no-refine")
    entries = {}
    for name, args in (("inside", ()), ("everywhere", ("--no-lamella",))):
        answer = cli("match", "ribosome-70s", path, "--out", tmp_path / name, *options, "--quiet", *args)
        assert answer.code == 0, answer.err
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        entries[name] = manifest["match"]["entries"]["slab"]
        assert ("--no-lamella keeps them" in answer.err) == (name == "inside")
    lamella, margin = Lamella.from_dict(entries["inside"]["lamella"]), entries["inside"]["lamella"]["margin"]
    star = "particles/slab.star"
    there = [read_particles(tmp_path / name / star, tomogram=read_volume(path)).positions for name in entries]
    assert lamella.contain(there[0], margin + 25.0).all()
    assert not lamella.contain(there[1], margin).all()
    assert (tmp_path / "inside" / entries["inside"]["outputs"]["sample mask"]).exists()
    assert "the sample lies between" in (tmp_path / "inside" / "report.html").read_text()
    assert "the sample lies between" not in (tmp_path / "everywhere" / "report.html").read_text()
