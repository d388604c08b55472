import json

import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import write_volume
from cryovox.models.card import Card
from cryovox.workflows.devices import choose_device
from cryovox.workflows.inputs import expand, frame, prepare
from cryovox.workflows.manifest import Manifest, sha256, versions
from cryovox.workflows.model_grid import mask_on_grid, on_model_grid

CARD = Card(
    network="heatmap-unet",
    options={},
    out_channels=1,
    activation="sigmoid",
    kind="heatmap",
    patch=16,
    species=(),
    voxel_size=10.0,
    contrast="dark",
)


def write(path, voxel_size=10.0, sign=-1, seed=0):
    """Rare balls in noise."""
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((48, 48, 48)).astype(np.float32)
    for center in rng.integers(8, 40, (12, 3)):
        distance = np.linalg.norm(np.indices(data.shape).T[..., ::-1].T - center[:, None, None, None], axis=0)
        data += sign * 4 * (distance < 5)
    write_volume(path, Volume(data, voxel_size))
    return path


def test_expand(tmp_path):
    for name in ("b.mrc", "a.rec", "a.st", "a.ali", "c.mrcs", ".hidden.mrc", "notes.txt"):
        (tmp_path / name).touch()
    assert list(expand([tmp_path])) == ["a", "b"]
    assert list(expand([tmp_path / "*.mrc"])) == list(expand([tmp_path / "b*"])) == ["b"]
    assert expand([tmp_path / "b.mrc", tmp_path]) == {"b": tmp_path / "b.mrc", "a": tmp_path / "a.rec"}
    (tmp_path / "[odd].mrc").touch()
    assert list(expand([tmp_path / "[odd].mrc"])) == ["[odd]"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.mrc").touch()
    with pytest.raises(RequestError, match="same name"):
        expand([tmp_path, tmp_path / "sub"])
    assert list(expand([tmp_path / "**" / "a.mrc"])) == ["a"]


@pytest.mark.parametrize(("voxel_size", "notes"), [(10.0, 0), (10.1, 0), (10.5, 1)])
def test_voxel_sizes_that_nearly_fit(tmp_path, voxel_size, notes):
    prepared = prepare(write(tmp_path / "a.mrc", voxel_size), CARD, None, "auto")
    assert len(prepared.notes) == notes


def test_voxel_sizes_that_do_not(tmp_path):
    with pytest.raises(RequestError, match="--resample 10"):
        prepare(write(tmp_path / "a.mrc", 13.0), CARD, None, "auto")
    for voxel_size in (1.2, 31.0):
        with pytest.raises(RequestError, match=r"1\.25 to 30 Å are resampled"):
            prepare(write(tmp_path / "b.mrc", voxel_size), CARD, None, "auto", resample=True)
    assert prepare(tmp_path / "a.mrc", CARD, 10.0, "auto").volume.voxel_size == 10


@pytest.mark.parametrize(("voxel_size", "side"), [(5.0, 24), (20.0, 95)])
def test_other_voxel_sizes_are_resampled_on_access(tmp_path, voxel_size, side):
    prepared = prepare(write(tmp_path / "a.mrc", voxel_size), CARD, None, "dark", resample=True)
    assert prepared.original.shape == (48, 48, 48)
    assert prepared.original.voxel_size == voxel_size
    assert prepared.volume.shape == (side, side, side)
    assert prepared.volume.voxel_size == 10
    normalized = prepared.normalize(prepared.volume.data[:, :, :])
    assert abs(normalized.mean()) < 1e-3
    assert abs(normalized.std() - 1) < 1e-3
    (note,) = prepared.notes
    assert f"resampled from {voxel_size:g} to 10 Å" in note
    assert ("missing" in note) == (voxel_size > 10)


def test_masks_follow_the_grid_of_the_model(tmp_path):
    fine = Volume(np.zeros((20, 30, 41), np.float32), 5.0)
    coarse, _ = on_model_grid(tmp_path, fine, CARD)
    inside = np.zeros(fine.shape, bool)
    inside[4:11, 8:, :21] = True
    mask = mask_on_grid(inside, fine, coarse)
    assert mask.shape == coarse.shape == (10, 15, 21)
    assert np.array_equal(mask, inside[::2, ::2, ::2])
    assert mask_on_grid(inside, fine, fine) is inside


def test_contrast_is_seen_or_said(tmp_path):
    dark, bright = write(tmp_path / "a.mrc"), write(tmp_path / "b.mrc", sign=1)
    assert prepare(dark, CARD, None, "auto").normalize.sign == -1
    prepared = prepare(bright, CARD, None, "auto")
    assert (prepared.contrast, prepared.normalize.sign) == ("bright", 1)
    assert "--contrast" in prepared.notes[0]
    forced = prepare(bright, CARD, None, "dark")
    assert (forced.contrast, forced.normalize.sign, forced.notes) == ("dark", -1, ())


def test_where_contrast_is_unclear_that_of_the_training_is_taken(tmp_path):
    noise = np.random.default_rng(1).standard_normal((40, 40, 40)).astype(np.float32)
    write_volume(tmp_path / "a.mrc", Volume(noise, 10.0))
    for contrast in ("dark", "bright"):
        card = CARD.model_copy(update={"contrast": contrast})
        assert prepare(tmp_path / "a.mrc", card, None, "auto").contrast == contrast


def test_frame_reads_no_voxels(tmp_path):
    volume = frame(write(tmp_path / "a.mrc.gz", 12.5))
    assert (volume.shape, volume.voxel_size) == ((48, 48, 48), 12.5)


def test_manifest(tmp_path):
    manifest = Manifest(tmp_path, {"command": "test"})
    (tmp_path / "a.txt").write_text("made")
    assert not manifest.done("a", {"k": 1})
    manifest.note("a", {"k": 1}, {"made": tmp_path / "a.txt"}, 1.234, more=2)
    again = Manifest(tmp_path, {"command": "again"})
    assert again.done("a", {"k": 1})
    assert not again.done("a", {"k": 2})
    assert not again.done("b", {"k": 1})
    (tmp_path / "a.txt").unlink()
    assert not again.done("a", {"k": 1})
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert content["command"] == "test"
    files, size, _ = content["entries"]["a"].pop("stamps")["made"]
    assert (files, size) == (1, 4)
    assert content["entries"]["a"] == {
        "key": {"k": 1},
        "outputs": {"made": "a.txt"},
        "seconds": 1.23,
        "more": 2,
    }
    assert content["versions"] == versions()
    for text in ("", "[]", '{"entries": 3}'):
        (tmp_path / "manifest.json").write_text(text)
        assert Manifest(tmp_path, {}).entries == {}


def test_hashes_of_files_and_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = sha256(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert sha256(tmp_path / "a") != first
    assert sha256(tmp_path / "a" / "y") == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"


def test_the_processor_is_always_there():
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") in ("cpu", "cuda", "mps")
