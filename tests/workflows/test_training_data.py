"""What else a network can learn from than tomograms: sets, the stream, and what another network knows."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.data.config import AugmentConfig, PatchConfig
from cryovox.data.cubes import hold_out_cubes, load_cubes
from cryovox.data.patches import TargetSpec
from cryovox.formats import subtomograms, write_volume
from cryovox.formats.subtomograms import Subtomograms
from cryovox.metrics.subtomograms import evaluate_masks
from cryovox.models.card import read_card
from cryovox.training.config import LoopConfig
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.workflows.config import NetworkConfig, SetConfig, TrainConfig
from cryovox.workflows.label_sets import label_set
from cryovox.workflows.segment import segment_files
from cryovox.workflows.training.data import SetData
from cryovox.workflows.training.run import train
from cryovox.workflows.training.simulated import SimulatedData, of_preset
from cryovox.workflows.training.stream_config import STREAMS

TINY = {"voxresnet": {"widths": [4, 8]}, "heatmap-unet": {"widths": [4, 8], "blocks": [0, 0]}}
SPECIES = (Species(name="light", label=1, radius=30), Species(name="heavy", label=2, radius=40))


def balls(n=24, side=16, sign=-1.0, seed=0) -> Subtomograms:
    """Balls off the middle, one kind twice as strong as the other."""
    rng = np.random.default_rng(seed)
    centers = side / 2 + rng.uniform(-3, 3, (n, 3))
    distance = ((np.indices((side,) * 3)[None] - centers[:, :, None, None, None]) ** 2).sum(1)
    kinds = np.arange(n) % 2
    inside = distance <= (3 + kinds[:, None, None, None]) ** 2
    images = rng.normal(size=inside.shape) + sign * 4 * inside
    masks = inside * (kinds + 1)[:, None, None, None]
    particles = Particles.of(centers * 10, [SPECIES[k].name for k in kinds])
    corners = np.zeros((n, 3), np.intp)
    return Subtomograms(images.astype("f4"), masks.astype("u1"), 10.0, particles, SPECIES, corners)


@pytest.fixture
def given(tmp_path):
    subtomograms.write(tmp_path / "set.zarr", balls())
    return tmp_path / "set.zarr"


def config(network="voxresnet", steps=4, every=2, start=None, freeze="none", merge=False, **more):
    return TrainConfig(
        network=NetworkConfig(model=network, options=TINY[network], start=start, freeze=freeze),
        loop=LoopConfig(steps=steps, batch=4, warmup=1, validate_every=every, lr=0.01),
        supervised=SupervisedConfig(ema=more.pop("ema", 0.9)),
        sets=SetConfig(merge_species=merge),
        augment=AugmentConfig(flips=False),
        **more,
    )


def alike(a, b):
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_network_learns_from_a_set(given, tmp_path):
    model = train(given, tmp_path / "run", config(steps=60, every=60), device="cpu")
    card = read_card(model)
    assert (card.voxel_size, card.contrast, card.normalisation) == (10.0, "dark", "cube-zscore")
    assert card.species == SPECIES
    assert card.patch == 16
    assert card.training["held_out"]["score"] > 0.3
    unseen = balls(16, seed=9)
    found = label_set(model, unseen, "cpu")
    rows = evaluate_masks(found, unseen.masks, SPECIES, SPECIES)
    value = {(r["species"], r["metric"]): r["value"] for r in rows}
    assert value["any", "iou"] > 0.5
    bright = replace(unseen, images=-unseen.images)
    assert np.array_equal(label_set(model, bright, "cpu"), found)  # the sign is seen
    noted = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert {len(digest) for digest in noted["inputs"].values()} == {64}


def test_heatmaps_learn_from_places_without_masks(tmp_path):
    path = tmp_path / "places.h5"
    subtomograms.write(path, replace(balls(), masks=None))
    out = tmp_path / "run"
    model = train(path, out, config("heatmap-unet"), device="cpu")
    told = read_card(model)
    assert {"recall@1x/light", "recall@1x/heavy"} <= set(told.training["held_out"])
    assert set(told.thresholds) == {"light", "heavy"}
    with pytest.raises(RequestError, match="no masks"):
        train(path, tmp_path / "other", config("voxresnet"), device="cpu")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", ["set", "stream"])
def test_an_interrupted_training_goes_on_to_the_same_weights(given, toy, tmp_path, kind, recorded_steps):
    data = {"set": given, "stream": f"stream:{toy}"}[kind]

    settings = config(patches=PatchConfig(patch=16))
    whole = train(data, tmp_path / "whole", settings, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", settings, device="cpu", on_progress=recorded_steps(stop_at=3))
    steps = recorded_steps()
    model = train(data, tmp_path / "run", settings, device="cpu", on_progress=steps)
    assert steps.numbers == [3, 4]
    assert alike(model, whole)


def test_other_data_are_not_mixed_in(given, toy, tmp_path):
    train(given, tmp_path / "run", config(), device="cpu")
    subtomograms.write(given, balls(seed=3))
    for other in (given, f"stream:{toy}"):
        with pytest.raises(RequestError, match="other data"):
            train(other, tmp_path / "run", config(), device="cpu")


def test_open_data_are_taken_as_they_are(tmp_path):
    cubes = load_cubes(balls(), merge=True)
    data = SetData("made here", *hold_out_cubes(cubes, 0.5))
    model = train(data, tmp_path / "run", config(), device="cpu")
    assert [s.name for s in read_card(model).species] == ["particle"]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["data"] == "made here"


# from one training to the next


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    subtomograms.write(folder / "set.zarr", balls())
    return train(folder / "set.zarr", folder / "run", config(merge=True), device="cpu")


def test_from_one_class_to_several(first, given, tmp_path):
    model = train(given, tmp_path / "run", config(steps=1, start=first), device="cpu")
    noted = json.loads((tmp_path / "run" / "manifest.json").read_text())["start"]
    assert noted == read_card(model).training["start"]
    assert len(noted["sha256"]) == 64
    own = load_file(model)
    old = load_file(first)
    assert sorted(noted["new"]) == sorted(key for key in own if own[key].shape != old[key].shape)
    assert noted["weights"] - noted["weights_taken"] == sum(own[key].numel() for key in noted["new"])


@pytest.mark.parametrize("part", ["encoder", "all-but-head"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_what_is_frozen_stays_and_the_rest_moves(first, given, tmp_path, part, ema, recorded_steps):
    settings = config(start=first, freeze=part, ema=ema)

    with pytest.raises(KeyboardInterrupt):
        train(given, tmp_path / "run", settings, device="cpu", on_progress=recorded_steps(stop_at=3))
    model = train(given, tmp_path / "run", settings, device="cpu")
    old, new = load_file(first), load_file(model)
    same = {key for key in new if old[key].shape == new[key].shape and torch.equal(old[key], new[key])}
    if part == "all-but-head":
        assert set(new) - same == {f"side.{i}.1.{what}" for i in range(4) for what in ("weight", "bias")}
    else:
        assert {key for key in new if key.startswith(("stem", "down"))} <= same
        assert {f"side.{i}.0.weight" for i in range(4)} <= set(new) - same
    whole = train(given, tmp_path / "whole", settings, device="cpu")
    assert alike(model, whole)
    assert read_card(model).training["start"]["weights_frozen"] > 0


def test_without_a_start_there_is_nothing_to_freeze(given, tmp_path):
    with pytest.raises(RequestError, match="random weights"):
        train(given, tmp_path / "run", config(freeze="encoder"), device="cpu")


# segmenting sets


def test_a_set_and_a_tomogram_at_once(first, given, tmp_path):
    (tmp_path / "broken.h5").write_text("nothing")
    inputs = [given, tmp_path / "broken.h5"]
    done, failed = segment_files(inputs, first, tmp_path / "out", device="cpu")
    assert done["subtomogram sets"] == ["set"]
    assert not done.get("tomograms")
    assert list(failed) == ["broken"]
    made = subtomograms.read(tmp_path / "out" / "labels" / "set.zarr")
    assert made.images is None
    assert made.contrast == "dark"
    assert made.particles.positions.tolist() == balls().particles.positions.tolist()
    assert np.array_equal(made.masks[:], label_set(first, balls(), "cpu"))
    noted = (tmp_path / "out" / "labels" / "set.zarr" / "zarr.json").stat().st_mtime_ns
    segment_files([given], first, tmp_path / "out", device="cpu")
    assert (tmp_path / "out" / "labels" / "set.zarr" / "zarr.json").stat().st_mtime_ns == noted
    with pytest.raises(RequestError, match="no images"):
        segment_files([tmp_path / "out" / "labels" / "set.zarr"], first, tmp_path / "again", device="cpu")


def test_a_set_of_other_voxels_is_refused(first, tmp_path):
    subtomograms.write(tmp_path / "coarse.zarr", replace(balls(), voxel_size=14.0))
    with pytest.raises(RequestError, match="trained at 10"):
        segment_files([tmp_path / "coarse.zarr"], first, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


# the stream


@pytest.fixture
def toy(tmp_path):
    domain = {"block": [24, 24, 24], "patches": 4, "blocks": 2, "poses": 1, "voxel_sizes": 1, "step": [8, 9]}
    file = tmp_path / "toy.yaml"
    told = {"species": ["apo-ferritin"], "voxel_size": 20.0, "held_out": 1, "domain": domain}
    file.write_text(yaml.safe_dump(told))
    return file


def test_a_network_learns_from_a_stream(toy, tmp_path):
    settings = config(steps=2, patches=PatchConfig(patch=16))
    model = train(f"stream:{toy}", tmp_path / "run", settings, device="cpu")
    card = read_card(model)
    assert [s.name for s in card.species] == ["apo-ferritin"]
    assert (card.voxel_size, card.contrast, card.patch) == (20.0, "dark", 16)
    noted = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert noted["inputs"]["stream"]["domain"]["block"] == [24, 24, 24]
    assert noted["data"] == f"stream:{toy}"


def test_what_judges_is_never_learned_from(toy):
    from cryovox.data.sampling import SamplingConfig
    from cryovox.workflows.training.simulated import HELD_OUT_SEED

    data = SimulatedData.read(f"stream:{toy}", config())
    draw = SamplingConfig(TargetSpec("mask"), 16, 2)
    one, other = data.stream(draw), data.stream(replace(draw, seed=HELD_OUT_SEED))
    try:
        assert not (one.batch(0).image == other.batch(0).image).all()
    finally:
        one.close()
        other.close()


def test_presets_give_their_species_and_their_microscope():
    from cryovox.simulate.presets import PRESETS

    found, particles = of_preset(PRESETS["toy"])
    assert tuple(t.name for t in particles) == found.species
    assert (found.species, found.voxel_size) == (PRESETS["toy"].species, 10.0)
    assert found.domain.tilt[0] < 60 < found.domain.tilt[1]
    low, high = found.domain.occupancy
    assert 0 < low < 0.05 < high < 0.3


def test_unknown_streams_name_what_there_is(tmp_path):
    with pytest.raises(RequestError, match="toi") as no:
        train("stream:toi", tmp_path / "run", config(), device="cpu")
    assert "toy" in no.value.remedy
    file = tmp_path / "s.yaml"
    file.write_text("species: [ribosom-80s]\n")
    with pytest.raises(RequestError, match="ribosom-80s"):
        SimulatedData.read(f"stream:{file}", config())
    file.write_text("specie: []\n")
    with pytest.raises(RequestError, match="specie"):
        SimulatedData.read(f"stream:{file}", config())
    assert not (tmp_path / "run").exists()


def test_a_file_changes_a_named_stream(tmp_path):
    base = STREAMS["embedded"]
    (tmp_path / "mine").mkdir()
    write_ball(tmp_path / "mine" / "bead.mrc", 50)
    write_ball(tmp_path / "mine" / "speck.mrc", 14)
    file = tmp_path / "s.yaml"
    file.write_text(
        "base: embedded\nstructures: [mine]\nlibrary: false\nvoxel_size: 12\ndomain: {noise: [1, 2]}\n"
    )
    data = SimulatedData.read(f"stream:{file}", config())
    assert ([t.name for t in data.templates], data.channels) == (["bead"], [1])
    assert "diameter" in data.inputs()["left_out"]["speck"]
    assert (data.voxel_size, data.config.domain.noise) == (12.0, (1.0, 2.0))
    assert data.config.domain.surroundings == base.domain.surroundings
    assert data.config.sizes == base.sizes
    assert data.species[0].name == "particle-40-70"
    file.write_text(file.read_text() + "abundance: {bead: 20}\n")
    assert SimulatedData.read(f"stream:{file}", config()).config.abundance == {"bead": 20}
    file.write_text(file.read_text().replace("bead: 20", "bad: 20"))
    with pytest.raises(RequestError, match="abundance names bad"):
        SimulatedData.read(f"stream:{file}", config())
    file.write_text("abundance: {bead: 20}\n")
    with pytest.raises(RequestError, match="species_per_box"):
        SimulatedData.read(f"stream:{file}", config())
    file.write_text("base: embeded\n")
    with pytest.raises(RequestError, match="embedded"):
        SimulatedData.read(f"stream:{file}", config())
    file.write_text("base: embedded\nexclude: [ribosom]\n")
    with pytest.raises(RequestError, match="ribosom"):
        SimulatedData.read(f"stream:{file}", config())


def test_the_embedded_stream_has_every_size_and_trains(tmp_path):
    file = tmp_path / "s.yaml"
    domain = {"block": [24, 24, 24], "patches": 4, "blocks": 2, "poses": 1, "voxel_sizes": 1, "step": [8, 9]}
    kept = ["esterase", "proteasome-20s", "ribosome-80s"]
    settings = {"base": "embedded", "species": kept, "voxel_size": 20.0, "held_out": 1, "domain": domain}
    file.write_text(yaml.safe_dump(settings))
    data = SimulatedData.read(f"stream:{file}", config("heatmap-unet"))
    assert dict(zip([t.name for t in data.templates], data.channels, strict=True)) == {
        "esterase": 0,
        "proteasome-20s": 2,
        "ribosome-80s": 3,
    }
    model = train(
        data, tmp_path / "run", config("heatmap-unet", 2, patches=PatchConfig(patch=16)), device="cpu"
    )
    card = read_card(model)
    assert [s.name for s in card.species] == [s.name for s in data.species]
    assert card.kind == "heatmap"


def write_ball(path, radius):
    """A map of a ball of protein, of a radius in Å."""
    distance = np.linalg.norm(np.mgrid[:33, :33, :33] - 16, axis=0) * 5.0
    write_volume(path, Volume((distance < radius).astype(np.float32), 5.0))
