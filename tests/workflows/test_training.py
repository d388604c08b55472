import csv
import json
import re
import shutil
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from cryovox.core.errors import RequestError
from cryovox.data.config import PatchConfig
from cryovox.models.card import read_card
from cryovox.simulate.phantom import PhantomConfig
from cryovox.training.config import LoopConfig
from cryovox.training.state import progress_in
from cryovox.workflows.config import NetworkConfig, TrainConfig
from cryovox.workflows.simulation.phantoms import write_phantoms
from cryovox.workflows.training import run as training_run

SMALL = {"widths": [4, 8], "blocks": [0, 0]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = PhantomConfig(shape=(24, 40, 48), count=4, snr=2.0)
    return write_phantoms(tmp_path_factory.mktemp("data") / "phantoms", config, ("train", "val"), 0)


@pytest.fixture
def config():
    def make(steps=4, **more):
        loop = LoopConfig(steps=steps, batch=2, warmup=1, validate_every=2)
        network = NetworkConfig(options=SMALL)
        return TrainConfig(network=network, loop=loop, patches=PatchConfig(patch=16), **more)

    return make


@pytest.fixture
def train(data, config):
    def call(out, settings=None, source=None, **more):
        return training_run.train(source or data, out, settings or config(), device="cpu", **more)

    return call


def alike(a, b):
    """Whether two files hold the same tensors, bit by bit."""
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_run_folder(train, data, config, tmp_path, recorded_steps):
    steps = recorded_steps()
    out = tmp_path / "run"
    model = train(out, on_progress=steps)
    assert steps == [(1, 4, 0.25), (2, 4, 0.5), (3, 4, 0.75), (4, 4, 1.0)]
    names = {"model.safetensors", "state.safetensors", "metrics.csv", "config.yaml", "manifest.json"}
    assert {p.name for p in out.iterdir() if p.is_file()} == names
    assert TrainConfig.model_validate(yaml.safe_load((out / "config.yaml").read_text())) == config()
    card = read_card(model)
    assert (card.network, card.patch, card.voxel_size, card.contrast) == ("heatmap-unet", 16, 14.0, "dark")
    assert set(card.thresholds) == {"capsid", "dumbbell"}
    noted = json.loads((out / "manifest.json").read_text())
    assert noted["steps"] == 4
    assert noted["config"] == config().model_dump(mode="json")
    assert len(noted["inputs"]["entries"][0]["tomogram"]) == 64
    assert torch.__version__.startswith(noted["versions"]["torch"])  # metadata of wheels may lack "+cu130"
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["step"] for r in rows if r["name"] == "val/score"} == {"2", "4"}


def test_the_same_again_gives_the_same(train, tmp_path):
    assert alike(train(tmp_path / "a"), train(tmp_path / "b"))
    assert not alike(
        train(tmp_path / "a"),
        train(
            tmp_path / "c",
            TrainConfig.model_validate(
                {**yaml.safe_load((tmp_path / "a" / "config.yaml").read_text()), "seed": 1}
            ),
        ),
    )


def test_a_finished_training_is_left_as_it_is(train, tmp_path):
    out = tmp_path / "run"
    model = train(out)
    before = {name: (out / name).stat().st_mtime_ns for name in ("model.safetensors", "state.safetensors")}
    steps = []
    assert train(out, on_progress=lambda *now: steps.append(now)) == model
    assert {name for name, *_ in steps} <= {"training data"}
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    with (out / "metrics.csv").open() as file:
        assert sum(r["name"] == "val/score" for r in csv.DictReader(file)) == 2


@pytest.mark.parametrize("at", [1, 3])
def test_an_interrupted_training_goes_on_to_the_same_weights(train, tmp_path, at, recorded_steps):
    whole = train(tmp_path / "whole")

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(out, on_progress=recorded_steps(stop_at=at))
    steps = recorded_steps()
    model = train(out, on_progress=steps)
    assert steps.numbers == ([1, 2, 3, 4] if at == 1 else [3, 4])
    assert alike(model, whole)
    assert alike(out / "state.safetensors", tmp_path / "whole" / "state.safetensors")
    rows = [(f / "metrics.csv").read_text().splitlines() for f in (out, tmp_path / "whole")]
    names = [[(r.split(",")[0], r.split(",")[2]) for r in table] for table in rows]
    assert names[0] == names[1]


def test_another_run_is_not_mixed_in(train, config, data, tmp_path):
    out = tmp_path / "run"
    train(out)
    weights = (out / "model.safetensors").read_bytes()
    with pytest.raises(RequestError, match="other settings"):
        train(out, config(6))
    other = write_phantoms(
        tmp_path / "other", PhantomConfig(shape=(24, 40, 48), count=4), ("train", "val"), 5
    )
    with pytest.raises(RequestError, match="other data"):
        train(out, source=other)
    assert (out / "model.safetensors").read_bytes() == weights
    moved = shutil.copytree(data, tmp_path / "moved")
    train(out, source=moved)
    assert (out / "model.safetensors").read_bytes() == weights
    with safe_open(train(out, config(6), source=other, overwrite=True), "pt") as file:
        assert json.loads(file.metadata()["cryovox"])["training"]["config"]["loop"]["steps"] == 6


def test_a_state_of_another_network_is_refused(train, config, tmp_path):
    train(tmp_path / "a")
    settings = config().model_copy(update={"network": NetworkConfig(options={**SMALL, "widths": [4, 12]})})
    train(tmp_path / "b", settings)
    shutil.copy(tmp_path / "b" / "state.safetensors", tmp_path / "a")
    with pytest.raises(RequestError, match="does not fit this training"):
        train(tmp_path / "a")


def test_starting_from_another_model(train, config, tmp_path):
    first = train(tmp_path / "a")
    network = NetworkConfig(options=SMALL, start=first)
    taught = train(tmp_path / "b", config().model_copy(update={"network": network}))
    assert not alike(first, taught)


def test_without_an_entry_for_validation_a_part_is_held_out(train, data, tmp_path):
    alone = shutil.copytree(data, tmp_path / "alone")
    file = alone / "dataset.yaml"
    found = yaml.safe_load(file.read_text())
    found["entries"] = found["entries"][:1]
    file.write_text(yaml.safe_dump(found))
    model = train(tmp_path / "run", source=alone)
    assert "score" in read_card(model).training["held_out"]


def test_a_training_that_is_finished_says_so(data, tmp_path, capsys):
    from cryovox.cli import main

    def call(out, *more):
        quick = ("--steps", 2, "--batch", 1, "--warmup", 1, "--patch", 16, "--device", "cpu", "--quiet")
        options = ("--options", "{widths: [4, 8], blocks: [0, 0]}", *quick, *more)
        code = main([str(a) for a in ("train", "supervised", "--data", data, "--out", out, *options)])
        return code, capsys.readouterr().err

    out = tmp_path / "run"
    code, err = call(out)
    assert (code, "finished before" in err) == (0, False), err
    state = (out / "state.safetensors").read_bytes()
    code, err = call(out)
    assert code == 0
    assert "finished before, after 2 steps" in err
    assert f"--start {out / 'model.safetensors'}" in err
    assert (out / "state.safetensors").read_bytes() == state
    assert call(tmp_path / "longer", "--start", out / "model.safetensors")[0] == 0
    (tmp_path / "link").symlink_to(out)  # the same model by another path is the same setting
    code, err = call(tmp_path / "longer", "--start", tmp_path / "link" / "model.safetensors")
    assert code == 0, err
    assert "finished before" in err


def test_a_terminated_training_leaves_its_state(data, tmp_path):
    """SIGTERM, as batch systems send it, in the middle of a training in a process of its own."""
    out = tmp_path / "run"
    options = ("--steps", "100000", "--batch", "1", "--patch", "16", "--device", "cpu", "--save-every", "1h")
    network = ("--options", "{widths: [4, 8], blocks: [0, 0]}", "--validate-every", "100000")
    command = [sys.executable, "-m", "cryovox", "train", "supervised", "--data", str(data), "--out", str(out)]
    process = subprocess.Popen([*command, *options, *network], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 200
    while time.monotonic() < until and "loss/" not in _text(out / "metrics.csv"):
        time.sleep(0.1)
    process.terminate()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    found = re.search(r"state of step (\d+) is saved in .*; the same command continues", err)
    assert found, err
    assert progress_in(out).step == int(found[1]) >= 20
    assert not list(out.glob(".cryovox-*"))


def _text(path):
    return path.read_text() if path.exists() else ""
