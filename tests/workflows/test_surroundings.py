"""Masks of membranes and other surroundings beside the scores of particles."""

import numpy as np
import pytest
import torch

from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.volume import Volume
from cryovox.formats import read_volume, scores, write_volume
from cryovox.inference import stream
from cryovox.models import build
from cryovox.models.card import Card, SurroundingsCard
from cryovox.models.checkpoint import load_model, save_model
from cryovox.models.surroundings import WithSurroundings
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.find import find
from cryovox.workflows.manifest import Manifest
from cryovox.workflows.segment import SEGMENTATIONS, load_job, segment

KINDS = (
    Species(name="membrane", label=2, radius=25.0, extended=True),
    Species(name="empty", label=3, radius=100.0, extended=True),
)
THRESHOLDS = {"membrane": 0.008, "empty": 0.012}
SHAPE, VOXEL = (40, 36, 44), 10.0
ASKED = SegmentConfig(surroundings=True)


def model_file(folder, surroundings):
    """A random network, with a head of surroundings or without one."""
    torch.manual_seed(1)
    options = {"widths": [4, 8, 8], "blocks": [0, 0, 0], "norm": "batch"}
    network = build("heatmap-unet", options, 1, 1)
    card = Card(
        network="heatmap-unet", options=options, out_channels=1, activation="sigmoid", kind="heatmap",
        output_stride=2, patch=24, species=(Species(name="ball", label=1, radius=40.0),),
        voxel_size=VOXEL, contrast="dark", thresholds={"ball": 0.008},
    )  # fmt: skip
    if surroundings:
        options = options | {"surroundings": 2}
        grown = build("heatmap-unet", options, 1, 1)
        grown.load_state_dict(network.state_dict(), strict=False)
        head = SurroundingsCard(species=KINDS, thresholds=THRESHOLDS)
        network, card = grown, card.model_copy(update={"options": options, "surroundings": head})
    path = folder / f"model-{surroundings}.safetensors"
    save_model(path, network.eval(), card)
    return path


@pytest.fixture
def model(tmp_path):
    return model_file(tmp_path, True)


@pytest.fixture
def tomogram(tmp_path):
    path = tmp_path / "t.mrc"
    write_volume(path, Volume(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), VOXEL))
    return path


def stored(out, folder="scores"):
    return np.asarray(scores.read(out / folder / "t.zarr").data)


def test_masks_stand_beside_scores_that_stay_the_same_to_the_bit(model, tomogram, tmp_path):
    plain = model_file(tmp_path, False)  # as files of earlier versions
    outs = {}
    picks = {}
    for name, file, config in (("old", plain, None), ("not-asked", model, None), ("asked", model, ASKED)):
        outs[name] = tmp_path / name
        picks[name], failures = find([tomogram], file, outs[name], config, device="cpu", report=False)
        assert not failures
        assert set(picks[name]["t"].species) == {"ball"}
    files = {
        name: sorted(
            (path.relative_to(out), path.read_bytes())
            for folder in ("scores", "labels")
            for path in (out / folder).rglob("*")
            if path.is_file()
        )
        for name, out in outs.items()
    }
    assert files["old"] == files["not-asked"] == files["asked"]
    assert not (outs["not-asked"] / "surroundings").exists()
    assert not (outs["not-asked"] / SEGMENTATIONS).exists()
    for name in ("old", "not-asked"):
        assert np.array_equal(picks[name]["t"].positions, picks["asked"]["t"].positions)
        assert np.array_equal(picks[name]["t"].scores, picks["asked"]["t"].scores)


def test_masks_are_those_of_the_head(model, tomogram, tmp_path):
    segment([tomogram], model, tmp_path / "out", ASKED, device="cpu")
    maps = scores.read(tmp_path / "out" / "surroundings" / "t.zarr")
    assert [kind.name for kind in maps.species] == ["membrane", "empty"]
    assert maps.thresholds == THRESHOLDS
    assert maps.kind == "mask"
    outputs = Manifest(tmp_path / "out", {}).entries["t"]["outputs"]
    for kind in ("membrane", "empty"):
        mask = read_volume(tmp_path / "out" / outputs[f"mask of {kind}"])
        assert mask.shape == SHAPE
        assert set(np.unique(mask.data)) == {0, 1}
    assert outputs["scores of surroundings"] == "surroundings/t.zarr"
    job = load_job(model, tmp_path / "out", ASKED, "cpu")
    prepared, _, tiles = job.load("t", tomogram)
    every = np.zeros((3, *maps.data.shape[1:]), np.float32)

    def keep(first, block):
        every[:, first : first + block.shape[1]] = block

    network = WithSurroundings(load_model(model)[0])
    stream.stream(network, prepared.volume.data, prepared.normalize, tiles, keep)
    assert np.allclose(stored(tmp_path / "out"), every[:1], atol=1e-5)
    assert np.allclose(np.asarray(maps.data), every[1:], atol=1e-5)


def test_an_interrupted_run_continues_in_both_stores(model, tomogram, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "out"
    segment([tomogram], model, whole, ASKED, device="cpu")
    score, calls = stream.score_on_device, []

    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == limit:
            raise KeyboardInterrupt
        return score(*args, **kwargs)

    monkeypatch.setattr(stream, "score_on_device", dying)
    limit = -1
    segment([tomogram], model, tmp_path / "counted", ASKED, device="cpu")
    limit, count = 2 * len(calls) // 3, len(calls)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        segment([tomogram], model, out, ASKED, device="cpu")
    limit = -1
    calls.clear()
    segment([tomogram], model, out, ASKED, device="cpu")
    assert 0 < len(calls) < count
    for folder in ("scores", "surroundings"):
        assert np.array_equal(stored(out, folder), stored(whole, folder))
        assert not [*(out / folder).glob(".*.unfinished")]


def test_asking_later_writes_the_masks(model, tomogram, tmp_path):
    segment([tomogram], model, tmp_path / "out", device="cpu")
    before = stored(tmp_path / "out")
    segment([tomogram], model, tmp_path / "out", ASKED, device="cpu")
    assert np.array_equal(stored(tmp_path / "out"), before)
    assert (tmp_path / "out" / SEGMENTATIONS / "membrane" / "t.mrc").exists()


def test_results_without_surroundings_keep_the_key_of_earlier_versions(model, tmp_path):
    key = load_job(model, tmp_path / "out", None, "cpu").key("t")
    assert "surroundings" not in key["settings"]
    asked = load_job(model, tmp_path / "out", ASKED, "cpu").key("t")
    assert asked["settings"] == key["settings"] | {"surroundings": True}


def test_a_model_without_such_channels_is_refused(tomogram, tmp_path):
    with pytest.raises(RequestError, match=r"--surroundings.*no channels of membranes"):
        segment([tomogram], model_file(tmp_path, False), tmp_path / "out", ASKED, device="cpu")
    assert not (tmp_path / "out").exists()
