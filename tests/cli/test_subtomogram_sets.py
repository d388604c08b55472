import json

import numpy as np
import pytest

from cryovox.formats import subtomograms
from cryovox.models.card import read_card


@pytest.fixture(scope="module")
def cut(phantoms, tmp_path_factory):
    """A set with masks from the command line."""
    from cryovox.cli import main

    out = tmp_path_factory.mktemp("sets") / "cut.zarr"
    name = "phantom_00"
    args = ("extract", phantoms / "particles" / f"{name}.star", phantoms / "tomograms" / f"{name}.mrc")
    more = ("--labels", phantoms / "labels" / f"{name}.mrc", "--dataset", phantoms, "--box", 16, "--pad")
    assert main([str(a) for a in (*args, *more, "--out", out)]) == 0
    return out


def test_extract_records_species_and_contrast(cut):
    subvolumes = subtomograms.read(cut)
    assert [s.name for s in subvolumes.species] == ["capsid", "dumbbell"]
    assert subvolumes.contrast in ("dark", "auto")
    assert len(subvolumes) > 4


def test_train_segment_and_evaluate_a_set(cli, cut, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    args = (
        "--model",
        "voxresnet",
        "--options",
        "{widths: [4, 8]}",
        "--steps",
        2,
        "--batch",
        2,
        "--warmup",
        1,
        "--device",
        "cpu",
    )
    answer = cli("train", "supervised", "--data", cut, "--out", run, "--set-contrast", "dark", *args)
    assert answer.code == 0, answer.err
    assert "cryovox segment SET" in answer.out
    assert read_card(run / "model.safetensors").normalisation == "cube-zscore"
    answer = cli("segment", cut, "--model", run / "model.safetensors", "--out", out, "--device", "cpu")
    assert answer.code == 0, answer.err
    assert "1 subtomogram sets segmented" in answer.out
    labeled = out / "labels" / "cut.zarr"
    answer = cli(
        "evaluate", "labels", "--truth", cut, "--predictions", labeled, "--json", tmp_path / "e.json"
    )
    assert answer.code == 0, answer.err
    assert "mean_iou_per_sample" in answer.out
    rows = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert {"capsid", "dumbbell", "foreground", "any", "mean"} <= {r["species"] for r in rows}
    answer = cli("evaluate", "labels", "--truth", cut, "--predictions", cut)
    header, *lines = (line.split() for line in answer.out.splitlines())
    (line,) = [line for line in lines if line[1:2] == ["foreground"]]
    assert float(line[header.index("iou")]) == 1


def test_what_cannot_be_compared(cli, cut, tmp_path):
    subvolumes = subtomograms.read(cut)
    other = subtomograms.Subtomograms(
        None,
        np.zeros((len(subvolumes), 8, 8, 8), np.uint8),
        subvolumes.voxel_size,
        subvolumes.particles,
        subvolumes.species,
    )
    subtomograms.write(tmp_path / "small.zarr", other)
    cli("evaluate", "labels", "--truth", cut, "--predictions", tmp_path / "small.zarr").refused(
        "small", "shape"
    )
    cli("evaluate", "labels", "--truth", cut, "--predictions", tmp_path / "none.zarr").refused("none.zarr")


def test_wrong_requests(cli, cut, phantoms, tmp_path):
    def train(*args):
        return cli("train", "supervised", "--out", tmp_path / "run", "--device", "cpu", "--steps", 1, *args)

    train("--data", "stream:toi").refused("--data", "toi", "toy", "FILE.yaml")
    train("--data", tmp_path / "none.zarr").refused("none.zarr")
    train("--data", phantoms, "--freeze", "encoder").refused("--freeze", "--start")
    train("--data", cut, "--options", "{width: 3}").refused("width", "widths")
    train("--data", cut, "--patch", 10).refused("--patch", "16")
    assert not (tmp_path / "run").exists()
