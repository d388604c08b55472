import json

import mrcfile
import pytest

from cryovox.cli import main
from cryovox.formats import read_particles, read_volume, scores
from cryovox.models import MODELS


def run(*args: object) -> None:
    assert main([str(a) for a in args]) == 0


@pytest.mark.parametrize("network", list(MODELS))
def test_from_training_to_particles(phantoms, tomogram, tmp_path, network, tiny):
    found = tiny(network)
    out = tmp_path / "out"
    run("segment", tomogram, "--model", found, "--out", out, "--device", "cpu", "--quiet")
    volume = read_volume(tomogram)
    answer = scores.read(out / "scores" / "phantom_03.zarr")
    assert [s.name for s in answer.species] == ["capsid", "dumbbell"]
    assert answer.tomogram_shape == volume.shape
    assert answer.tomogram_voxel_size == volume.voxel_size
    with mrcfile.open(out / "labels" / "phantom_03.mrc", permissive=False) as labels:
        assert labels.data.shape == volume.shape
        assert float(labels.voxel_size.x) == pytest.approx(volume.voxel_size)
        assert set(labels.data.ravel().tolist()) <= {0, 1, 2}
    counts = out / "counts.json"
    run("pick", out / "scores", "--out", out, "--json", counts, "--threshold", 0.05, "--max-count", 5)
    picks = read_particles(out / "particles" / "phantom_03.star", tomogram=volume)
    assert len(picks) == sum(row["particles"] for row in json.loads(counts.read_text()))
    assert 0 < len(picks) <= 10
    low, high = -0.5 * volume.voxel_size, max(volume.shape) * volume.voxel_size
    assert ((picks.positions >= low) & (picks.positions <= high)).all()
    run("pick", out / "labels" / "phantom_03.mrc", "--out", out / "again", "--dataset", phantoms)
    assert (out / "again" / "particles" / "phantom_03.star").exists()


def test_a_network_that_learned_for_ten_seconds_finds_what_it_never_saw(phantoms, tomogram, tmp_path):
    steps = ("--steps", 60, "--validate-every", 60, "--batch", 4, "--patch", 32)
    rate = ("--lr", 5e-3, "--warmup", 5, "--device", "cpu", "--quiet")
    run("train", "supervised", "--data", phantoms, "--out", tmp_path / "run", *steps, *rate)
    model = tmp_path / "run" / "model.safetensors"
    found = ("--out", tmp_path / "found", "--device", "cpu", "--quiet")
    run("find", tomogram, "--model", model, *found)
    picks, truth = tmp_path / "found/particles/phantom_03.star", phantoms / "particles/phantom_03.star"
    table = tmp_path / "table.json"
    run("evaluate", "particles", "--truth", truth, "--picks", picks, "--dataset", phantoms, "--json", table)
    f1 = {r["species"]: r["f1"] for r in json.loads(table.read_text())["rows"] if "f1" in r}
    assert f1["any"] > 0.5
    assert f1["capsid"] > 0.5
