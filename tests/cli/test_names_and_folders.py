import json

import numpy as np
import pytest

from cryovox.core.volume import Volume
from cryovox.formats import read_volume, write_volume


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (("find", "x.mrc", "--model", "m", "--out", "o", "--threshold", "5"), "--threshold"),
        (("simulate", "--out", "o", "--scene.slab", "-5"), "--scene.slab"),
        (("train", "supervised", "--data", "d", "--out", "o", "--batch", "0"), "--batch"),
    ],
)
def test_values_out_of_range_are_refused_in_our_words(cli, args, option):
    answer = cli(*args).refused(option)
    assert "pydantic" not in answer.err


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (("fnid", "x.mrc"), "find"),
        (("train", "supervized", "--data", "d", "--out", "o"), "supervised"),
        (("train", "supervised", "--data", "d", "--out", "o", "--preset", "mvgformr"), "mvgformer"),
        (("train", "supervised", "--data", "d", "--out", "o", "--model", "voxresnett"), "voxresnet"),
        (("simulate", "--out", "o", "--preset", "toi"), "toy"),
        (("simulate", "--out", "o", "--species", "ribosom-80s"), "ribosome-80s"),
        (("benchmark", "subtomogram", "--out", "o"), "subtomograms"),
        (("fetch", "dataset", "shrec-2021", "--out", "o"), "shrec2021"),
    ],
)
def test_misspelled_names_are_recognized(cli, args, meant):
    cli(*args).refused(f"did you mean {meant!r}")


def test_a_run_folder_stands_for_its_model(cli, model, tomogram, tmp_path):
    assert cli("models", model.parent).out == cli("models", model).out
    assert cli("doctor", tomogram, "--model", model.parent).code == 0
    keys = []
    for name, given in (("file", model), ("folder", model.parent)):
        out = tmp_path / name
        assert cli("segment", tomogram, "--model", given, "--out", out, "--quiet").code == 0
        keys.append(json.loads((out / "manifest.json").read_text())["entries"]["phantom_03"]["key"])
    assert keys[0]["model_sha256"] == keys[1]["model_sha256"]


@pytest.mark.parametrize("command", ["find", "segment", "suggest", "doctor", "models"])
def test_a_folder_without_a_model_is_refused(cli, tomogram, tmp_path, command):
    (tmp_path / "empty").mkdir()
    where = (tmp_path / "empty",) if command == "models" else (tomogram, "--model", tmp_path / "empty")
    out = ("--out", tmp_path / "out") if command in ("find", "segment", "suggest") else ()
    cli(command, *where, *out).refused("empty", "model.safetensors")
    assert not (tmp_path / "out").exists()


def test_a_training_keeps_to_its_mask(cli, phantoms, model, tmp_path):
    shape = read_volume(phantoms / "tomograms" / "phantom_00.mrc").shape
    write_volume(tmp_path / "mask.mrc", Volume(np.ones(shape, np.int8), 10.0))
    args = ("train", "supervised", "--data", phantoms, "--start", model.parent, "--patch", 16, "--batch", 2)
    args += ("--steps", 1, "--warmup", 1, "--options", '{"widths": [4, 8], "blocks": [0, 0]}', "--quiet")
    assert cli(*args, "--out", tmp_path / "run", "--mask", tmp_path / "mask.mrc", "--device", "cpu").code == 0
    entries = json.loads((tmp_path / "run" / "manifest.json").read_text())["inputs"]["entries"]
    assert all(entry["mask"] for entry in entries)


def test_masks_of_a_training_are_checked_first(cli, phantoms, tmp_path):
    write_volume(tmp_path / "small.mrc", Volume(np.ones((8, 8, 8), np.int8), 10.0))
    args = (
        "train",
        "supervised",
        "--out",
        tmp_path / "run",
        "--mask",
        tmp_path / "small.mrc",
        "--device",
        "cpu",
    )
    cli(*args, "--data", phantoms).refused("--mask", "(8, 8, 8)")
    cli(*args, "--data", "stream:toy").refused("--mask", "stream:toy")
    assert not (tmp_path / "run").exists()


def test_doctor_writes_a_mask_and_replaces_nothing(cli, tomogram, tmp_path):
    answer = cli("doctor", tomogram, "--write-masks", tmp_path / "masks")
    assert answer.code == 0
    assert f"--mask {tmp_path / 'masks' / 'phantom_03.mrc'}" in answer.out
    mask = read_volume(tmp_path / "masks" / "phantom_03.mrc")
    assert mask.shape == read_volume(tomogram).shape
    assert mask.voxel_size == read_volume(tomogram).voxel_size
    assert set(np.unique(np.asarray(mask.data))) <= {0, 1}
    assert np.asarray(mask.data).any()
    before = tomogram.read_bytes()
    cli("doctor", tomogram, "--write-masks", tomogram.parent).refused("is there already", "--write-masks")
    assert tomogram.read_bytes() == before
