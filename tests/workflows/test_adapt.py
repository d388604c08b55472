import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.data.config import PatchConfig
from cryovox.data.patches import TargetSpec
from cryovox.data.sampling import SamplingConfig
from cryovox.formats import mrc, subtomograms
from cryovox.formats.subtomograms import Subtomograms
from cryovox.models.card import read_card
from cryovox.models.checkpoint import load_model, save_model
from cryovox.simulate.phantom import PhantomConfig
from cryovox.training.config import LoopConfig
from cryovox.workflows.config import NetworkConfig, StageConfig, TrainConfig, train_config
from cryovox.workflows.simulation.phantoms import write_phantoms
from cryovox.workflows.training.adapt import adapt
from cryovox.workflows.training.run import train
from cryovox.workflows.training.target import open_target

NETWORK = NetworkConfig(model="voxresnet", options={"widths": [4, 8]})
LOOP = LoopConfig(steps=4, batch=2, warmup=1, validate_every=2, keep="last")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = PhantomConfig(shape=(24, 40, 48), count=4, snr=2.0)
    return write_phantoms(tmp_path_factory.mktemp("data") / "source", config, ("train", "val"), 0)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    config = PhantomConfig(shape=(24, 40, 48), count=4, snr=0.2)
    return write_phantoms(tmp_path_factory.mktemp("data") / "target", config, ("train", "test"), 5)


def settings(strategy="vox-uda", network=NETWORK, **more):
    stages = StageConfig(selection_patches=4)
    return train_config(strategy)(
        network=network, loop=LOOP, patches=PatchConfig(patch=16), stages=stages, **more
    )


@pytest.fixture(scope="module")
def run(data, target, tmp_path_factory, recorded_steps):
    out = tmp_path_factory.mktemp("run") / "run"
    steps = recorded_steps()
    model = adapt(data, [target], out, settings(), device="cpu", on_progress=steps)
    return out, model, [fraction for _, _, fraction in steps]


def alike(a, b):
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_run_folder(run, target):
    out, model, seen = run
    assert seen == [0.25, 0.5, 0.75, 1.0]  # half of the steps for the source
    wanted = {"model.safetensors", "choice.json", "report.html", "config.yaml", "manifest.json"}
    assert wanted <= {p.name for p in out.iterdir()}
    choice = json.loads((out / "choice.json").read_text())
    chosen = out / choice["chosen"] / "model.safetensors"
    assert alike(model, chosen)
    assert not alike(out / "source" / "model.safetensors", out / "adapted" / "model.safetensors")
    card = read_card(model)
    assert card.training["adaptation"]["chosen"] == choice["chosen"]
    assert card.training["adaptation"]["strategy"] == "vox-uda"
    assert (card.domain is not None) == (choice["chosen"] == "adapted")
    noted = json.loads((out / "manifest.json").read_text())["inputs"]
    assert list(noted["target"]) == ["phantom_00"]  # what is to be tested on is left alone
    page = (out / "report.html").read_text()
    assert choice["reasons"][0].split(":")[0][:30] in page


def test_a_finished_adaptation_is_left_as_it_is(run, data, target):
    out, _, _ = run
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/state.safetensors")}
    again = []
    adapt(data, [target], out, settings(), device="cpu", on_progress=lambda name, *_: again.append(name))
    assert "training" not in again
    assert before == {p: p.stat().st_mtime_ns for p in out.glob("*/state.safetensors")}


def test_labels_of_the_target_are_never_looked_at(run, data, target, tmp_path):
    """The same tomograms without any annotation give the same weights."""
    out, _, _ = run
    bare = tmp_path / "phantom_00.mrc"
    described = yaml.safe_load((target / "dataset.yaml").read_text())
    source = target / described["entries"][0]["tomogram"]
    bare.symlink_to(source)
    again = tmp_path / "run"
    adapt(data, [bare], again, settings(), device="cpu")
    assert alike(out / "adapted" / "model.safetensors", again / "adapted" / "model.safetensors")


@pytest.mark.parametrize("target_weight", [0.0, 0.5, 1.0])
def test_one_unlabeled_tomogram_is_enough_to_lean_on(data, target, tmp_path, target_weight):
    (tomogram,) = (target / "tomograms").glob("phantom_00.mrc")
    config = settings("vox-zsda-few")
    graph = config.own.graph.model_copy(update={"clusters": 4, "tokens": 8})
    config = config.model_copy(
        update={"own": config.own.model_copy(update={"target_weight": target_weight, "graph": graph})}
    )
    model = adapt(data, [tomogram], tmp_path / "run", config, device="cpu")
    assert read_card(model).training["adaptation"]["strategy"] == "vox-zsda-few"


def test_too_many_nodes_are_refused_before_anything_is_trained(data, target, tmp_path):
    config = settings("vox-zsda-few")
    graph = config.own.graph.model_copy(update={"clusters": 600})
    config = config.model_copy(update={"own": config.own.model_copy(update={"graph": graph})})
    with pytest.raises(RequestError, match="600 nodes cannot be made"):
        adapt(data, [target], tmp_path / "run", config, device="cpu")
    assert not (tmp_path / "run").exists()


def test_from_a_model_that_knows_the_source(run, data, target, tmp_path, recorded_steps):
    """All steps go to the adaptation, and the source model is the one that was given."""
    out, _, _ = run
    start = out / "source" / "model.safetensors"
    config = settings("coral", NETWORK.model_copy(update={"start": start}))
    steps = recorded_steps()
    adapt(data, [target], tmp_path / "run", config, device="cpu", on_progress=steps)
    assert [step[:2] for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert alike(start, tmp_path / "run" / "source" / "model.safetensors")


def test_another_run_is_not_mixed_in(run, data, target):
    out, _, _ = run
    with pytest.raises(RequestError, match="other settings"):
        adapt(data, [target], out, settings("dann"), device="cpu")
    with pytest.raises(RequestError, match="other data"):
        adapt(data, [data], out, settings(), device="cpu")


def test_an_interrupted_adaptation_goes_on_to_the_same_weights(run, data, target, tmp_path, recorded_steps):
    out, _, _ = run

    class Stop(Exception):
        pass

    with pytest.raises(Stop):
        adapt(
            data,
            [target],
            tmp_path / "run",
            settings(),
            device="cpu",
            on_progress=recorded_steps(stop_at=0.75, error=Stop),
        )
    adapt(data, [target], tmp_path / "run", settings(), device="cpu")
    for stage in ("source", "adapted"):
        assert alike(out / stage / "model.safetensors", tmp_path / "run" / stage / "model.safetensors")


def test_a_target_of_other_voxels_is_refused_before_anything_is_trained(data, tmp_path):
    wrong = tmp_path / "wrong.mrc"
    rng = np.random.default_rng(0)
    mrc.write(wrong, Volume(rng.standard_normal((16, 16, 16)).astype(np.float32), 3.0))
    with pytest.raises(RequestError, match="voxels of 3"):
        adapt(data, [wrong], tmp_path / "run", settings(), device="cpu")
    assert not (tmp_path / "run" / "source").exists()


def test_a_network_that_cannot_be_adapted_is_refused_before_anything_is_trained(data, target, tmp_path):
    config = settings(network=NetworkConfig(options={"widths": [4, 8], "blocks": [0, 0]}))
    with pytest.raises(RequestError, match="probabilities of classes"):
        adapt(data, [target], tmp_path / "run", config, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_start_that_knows_other_species_is_refused(run, data, target, tmp_path):
    out, _, _ = run
    network, card = load_model(out / "source" / "model.safetensors")
    renamed = tuple(s.model_copy(update={"name": f"{s.name}-2"}) for s in card.species)
    other = tmp_path / "other.safetensors"
    save_model(other, network, card.model_copy(update={"species": renamed}))
    config = settings(network=NETWORK.model_copy(update={"start": other}))
    with pytest.raises(RequestError, match="the source has"):
        adapt(data, [target], tmp_path / "run", config, device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def cubes(tmp_path):
    """A set of ten subtomograms with bright balls, and its path."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((10, 16, 16, 16)).astype(np.float32)
    images[:, 5:11, 5:11, 5:11] += 3
    found = Subtomograms(images, None, 10.0, Particles.of(np.full((10, 3), 75.0), "ball"))
    subtomograms.write(tmp_path / "set.zarr", found)
    return tmp_path / "set.zarr"


def test_a_set_as_target(run, cubes):
    card = read_card(run[1])
    card = card.model_copy(update={"voxel_size": 10.0, "contrast": "bright"})
    found = open_target([cubes], card)
    draw = SamplingConfig(TargetSpec("mask"), 16, 4, PatchConfig(foreground=0.0), seed=(1, 0))
    batch = found.stream(draw).batch(0)
    assert (batch.target == 255).all()
    assert batch.valid_mask.all()  # of a subtomogram nothing lies beyond a region
    middle = batch.image[:, 0, 5:11, 5:11, 5:11]
    assert float(middle.mean()) > 1  # bright stays bright
    assert found.halves(draw) is None
    assert "taken as bright" in found.notes[0]


def test_what_is_no_target(run, cubes, tmp_path):
    card = read_card(run[1]).model_copy(update={"voxel_size": 10.0})
    with pytest.raises(RequestError, match="beside other targets"):
        open_target([cubes, tmp_path / "more.mrc"], card)
    rng = np.random.default_rng(0)
    volume = Volume(rng.standard_normal((16, 16, 16)).astype(np.float32), 10.0)
    mrc.write(tmp_path / "a.mrc", volume)
    with pytest.raises(RequestError, match="given twice"):
        open_target([tmp_path / "a.mrc", tmp_path / "a.mrc"], card)
    entry = {"name": "b", "tomogram": "a.mrc", "contrast": "dark", "box": {"z": [20, 30]}}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump({"voxel_size": 10.0, "entries": [entry]}))
    with pytest.raises(RequestError, match="holds no voxel"):
        open_target([tmp_path / "dataset.yaml"], card)


def test_halves_show_the_same_places(data, target, tmp_path):
    """Two halves that add up to the tomogram do so patch by patch."""
    rng = np.random.default_rng(0)
    even = rng.standard_normal((20, 24, 28)).astype(np.float32)
    for name, values in (("whole", even), ("even", even), ("odd", -even)):
        mrc.write(tmp_path / f"{name}.mrc", Volume(values, 10.0))
    entry = {"name": "a", "tomogram": "whole.mrc", "even": "even.mrc", "odd": "odd.mrc", "contrast": "bright"}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump({"voxel_size": 10.0, "entries": [entry]}))
    card = read_card(train_source(data, tmp_path)).model_copy(update={"voxel_size": 10.0})
    found = open_target([tmp_path], card)
    draw = SamplingConfig(TargetSpec("mask"), 16, 4, PatchConfig(foreground=0.0), seed=(1, 0))
    first, second = found.halves(draw)
    np.testing.assert_allclose(first, -second, atol=1e-5)
    np.testing.assert_array_equal(first, found.sample(draw))


def train_source(data, folder):
    config = settings()
    plain = {n: getattr(config, n) for n in ("network", "loop", "patches")}
    return train(data, folder / "model", TrainConfig(**plain), device="cpu")
