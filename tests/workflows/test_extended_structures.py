"""Membranes and filaments: segmented and scored, never picked."""

import json

import mrcfile
import numpy as np
import pytest

from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import LabelMap, Volume
from cryovox.data.config import PatchConfig
from cryovox.data.patches import TargetSpec, mask_target, sample_corner
from cryovox.data.regions import load_regions
from cryovox.data.targets import IGNORE_INDEX
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_labels, read_volume, write_labels, write_particles, write_volume
from cryovox.metrics.segmentation import evaluate_labels
from cryovox.picking import pick_labels
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.evaluate import evaluate_particle_files
from cryovox.workflows.find import find
from cryovox.workflows.training.data import TomogramData
from cryovox.workflows.training.run import train

SHAPE, VOXEL = (24, 44, 36), 10.0
MEMBRANE = Species(name="membrane", label=7, radius=20.0, extended=True)
BALL = Species(name="ball", label=3, radius=40.0)
BALLS = ((8, 8, 8), (15, 30, 9), (7, 36, 27), (16, 9, 28), (8, 22, 30), (16, 34, 20))


def sample(seed):
    """A membrane across the volume, and balls beside it; dark in noise."""
    z, y, x = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    labels[np.abs(y - 16 - 3 * np.sin(x / 6 + seed)) <= 1.5] = MEMBRANE.label
    for center in BALLS:
        labels[sum((a - b) ** 2 for a, b in zip((z, y, x), center, strict=True)) <= 16] = BALL.label
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    return (0.6 * noise - 2.0 * (labels > 0)).astype(np.float32), labels


def write(folder, species=(BALL, MEMBRANE), **entry):
    entries = []
    for number, split in enumerate(("train", "val")):
        data, labels = sample(number)
        files = {kind: folder / kind / f"t{number}.mrc" for kind in ("tomogram", "labels")}
        write_volume(files["tomogram"], Volume(data, VOXEL))
        known = np.isin(labels, [one.label for one in species])
        write_labels(files["labels"], LabelMap(np.where(known, labels, 0), VOXEL, species))
        facts = {"name": f"t{number}", "contrast": "dark", "split": split, **files, **entry}
        entries.append(Entry.model_validate({k: v for k, v in facts.items() if v is not None}))
    dataset_files.write(folder, Dataset(voxel_size=VOXEL, species=species, entries=tuple(entries)))
    return folder


def settings(model, steps, **network):
    loop = {"steps": steps, "warmup": 2, "batch": 2, "validate_every": steps, "lr": 3e-3}
    return TrainConfig(loop=loop, network={"model": model, **network}, patches={"patch": 16})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended")
    small = {"options": {"widths": [8, 16], "blocks": [0, 1]}}
    return train(write(folder / "data"), folder / "run", settings("residual-unet", 60, **small), device="cpu")


def test_regions_of_extended_labels_are_not_picked():
    _, labels = sample(0)
    picks = pick_labels(LabelMap(labels, VOXEL, (BALL, MEMBRANE)))
    assert set(picks.species) == {"ball"}
    assert len(picks) == len(BALLS)


def test_a_membrane_is_segmented_and_never_picked(model, tmp_path):
    tomograms = sorted((model.parents[1] / "data" / "tomogram").glob("*.mrc"))
    picks, failures = find(tomograms, model, tmp_path, device="cpu")
    assert not failures
    assert {name for own in picks.values() for name in own.species} == {"ball"}
    with mrcfile.open(tmp_path / "segmentations" / "membrane" / "t1.mrc", permissive=False) as file:
        mask, voxel = file.data.copy(), float(file.voxel_size.x)
    assert voxel == pytest.approx(VOXEL)
    labels = np.asarray(read_volume(tmp_path / "labels" / "t1.mrc").data)
    assert np.array_equal(mask == 1, labels == MEMBRANE.label)
    assert set(np.unique(mask)) == {0, 1}
    found = read_labels(tmp_path / "labels" / "t1.mrc", (BALL, MEMBRANE), VOXEL)
    truth = LabelMap(sample(1)[1], VOXEL, (BALL, MEMBRANE))
    rows = {(r["species"], r["metric"]): r["value"] for r in evaluate_labels(found, truth)}
    assert rows["membrane", "surface_dice"] > 0.9
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["entries"]["t1"]["outputs"]["mask of membrane"] == "segmentations/membrane/t1.mrc"
    assert "membrane" not in manifest["entries"]["t1"]["particles"]["expected"]


def test_held_out_figures_of_a_membrane_count_voxels(model):
    from cryovox.models.card import read_card
    from cryovox.training.evaluation.summary import species_lines

    card = read_card(model)
    held_out = card.training["held_out"]
    assert held_out["n/membrane"] == (sample(1)[1] == MEMBRANE.label).sum()
    assert held_out["dice/membrane"] > 0.7
    assert "dice/membrane" not in card.training["blob_picker"]
    assert "threshold/membrane" not in card.thresholds
    lines = species_lines(held_out, card.training["blob_picker"], ["membrane"])
    assert any(line.startswith("membrane: held-out Dice") and line.endswith("voxels") for line in lines)


def test_a_dataset_of_membranes_alone_trains(tmp_path):
    folder = write(tmp_path / "data", (MEMBRANE,))
    small = {"options": {"widths": [4, 8], "blocks": [0, 0]}}
    model = train(folder, tmp_path / "run", settings("residual-unet", 3, **small), device="cpu")
    picks, failures = find([folder / "tomogram" / "t1.mrc"], model, tmp_path / "found", device="cpu")
    assert not failures
    assert len(picks["t1"]) == 0
    assert (tmp_path / "found" / "segmentations" / "membrane" / "t1.mrc").exists()
    assert "no score is above" not in (tmp_path / "found" / "report.html").read_text()


def test_networks_that_mark_centers_are_refused(tmp_path):
    data = TomogramData(write(tmp_path), settings("residual-unet", 1).validation)
    data.check(TargetSpec("mask"))
    with pytest.raises(RequestError, match=r"(?s)membrane is extended.*residual-unet"):
        data.check(TargetSpec("heatmap", 2))


def test_patches_lie_on_the_membrane(tmp_path):
    folder = write(tmp_path, (MEMBRANE,))
    dataset = dataset_files.read(folder)
    regions = load_regions(dataset, dataset.entries[:1])
    rng = np.random.default_rng(0)
    config = PatchConfig(foreground=1.0, jitter=0.0)
    labels = sample(0)[1]
    for _ in range(20):
        _, (z, y, x) = sample_corner(regions, config, 8, rng)
        assert (labels[z : z + 8, y : y + 8, x : x + 8] == MEMBRANE.label).any()


def test_where_not_all_membranes_are_labeled_only_their_surroundings_are_background(tmp_path):
    dataset = dataset_files.read(write(tmp_path, (MEMBRANE,), exhaustive=False))
    (region,) = load_regions(dataset, dataset.entries[:1])
    target, labels = mask_target(region, (0, 0, 0), SHAPE), sample(0)[1] == MEMBRANE.label
    assert (target[labels] == 1).all()
    assert (target[:, 40:] == IGNORE_INDEX).all()
    # 1.5 times 2 voxels beside the membrane
    edge = np.zeros(SHAPE, bool)
    edge[:, 1:] = labels[:, :-1] & ~labels[:, 1:]
    assert (target[edge] == 0).all()
    assert 0.1 < (target == 0).mean() < 0.4


def test_picks_say_nothing_about_membranes(tmp_path):
    """Without a label map the membrane is unknown, not background, and its picks are left out."""
    places = tmp_path / "t.csv"
    positions = VOXEL * np.array([BALLS[0], BALLS[1]])
    write_particles(places, Particles.of(positions, ["ball", "membrane"]))
    dataset = dataset_files.read(write(tmp_path, labels=None, particles=places))
    (region,) = load_regions(dataset, dataset.entries[:1])
    assert region.truth().species.tolist() == ["ball"]
    assert region.exhaustive.tolist() == [True, False]
    outcome = evaluate_particle_files(places, places, dataset=tmp_path / "dataset.yaml")
    assert {r["species"] for r in outcome.rows} == {"ball", "any", "mean"}


def test_opening_of_tomograms_is_reported(tmp_path):
    steps = []
    TomogramData(
        write(tmp_path), settings("residual-unet", 1).validation, on_progress=lambda *step: steps.append(step)
    )
    assert steps == [("training data", 0.0, "t0"), ("training data", 0.0, "t1")]
