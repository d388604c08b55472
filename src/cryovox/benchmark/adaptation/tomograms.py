"""Adaptation of tomograms from our simulator to another one, regardless of the species.

The target is the user's dataset or the four third-party simulations `sim_deepfinder` (in the folder of the
environment variable CRYOVOX_TEST_DATA). Without either, and in the tier `smoke`, it is a tomogram of other
species under another microscope from our simulator. All tomograms of the target are used without labels. The
last one, or those of the test split, are held out from the supervised upper bound.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cryovox.benchmark.adaptation.suite import (
    AdaptationMethod,
    AdaptationSuite,
    MethodsOfSize,
    SubsetScores,
    TrainingData,
    as_chosen,
    smoke_plan,
    uda_methods,
)
from cryovox.benchmark.suite import Budget, Plan, Scores, Tier
from cryovox.benchmark.tomograms import Scale, scaled_preset, shrec2021, stand_in
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import LabelMap
from cryovox.data.targets import ball_labels
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_labels, read_particles, read_volume, stem, write_labels, write_particles
from cryovox.metrics.matching import greedy
from cryovox.picking import PickConfig, pick_labels
from cryovox.picking.blobs import dog
from cryovox.picking.components import connected_components
from cryovox.workflows.devices import Device

PARTICLE = "particle"
SOURCES: dict[Tier, Scale] = {
    "smoke": Scale((32, 64, 64), count=1, n_train=1),
    "cpu": Scale((96, 192, 192), count=8, n_train=4),
    "gpu": Scale((200, 512, 512), count=125, n_train=9),
}
"""Source data of each tier, with the voxel size of the target."""
DOG_PICKER = "difference-of-Gaussians picker, given the true count and mean size"


class TomogramAdaptationSuite(AdaptationSuite):
    """Segmentation of particles of any species against the background.

    Parameters
    ----------
    methods
        Function that returns the methods of a size.
    """

    source = "our own protocol; the target is that of DeepFinder's examples"
    headlines = ("dice", "iou", "mean_iou", "localisation_f1")

    def __init__(self, name: str, title: str, methods: MethodsOfSize) -> None:
        self.name, self.title, self.methods = name, title, methods

    def plan(self, tier: Tier) -> Plan:
        if tier == "smoke":
            return smoke_plan(self.methods("s"))
        if tier == "cpu":
            return Plan(self.methods("s"), (Budget(time="5m"),))
        return Plan(self.methods("paper"), (Budget(time="9m"),))

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        scale, config = SOURCES[tier], shrec2021(SOURCES[tier])
        simulations, metadata = stand_in(folder / "simulated", config, scale.n_train, 0)
        dataset_files.write(folder / "source", merge_species(simulations, config.species, folder / "source"))
        target, description = self._read_target(folder, tier, data)
        truth = merge_species(target, [s.name for s in target.species], folder / "truth")
        dataset_files.write(folder / "truth", truth)
        for entry in target.entries:
            write_centers(folder / "truth" / "centres" / f"{entry.name}.csv", entry, target)
        dataset_files.write(folder / "target", without_annotations(truth))
        labeled = tuple(e for e in truth.entries if e.split == "train")
        dataset_files.write(folder / "labelled", truth.model_copy(update={"entries": labeled}))
        return {"source": metadata, "target": description}

    def _read_target(self, folder: Path, tier: Tier, data: Path | None) -> tuple[Dataset, str]:
        """Labeled tomograms, at least one of which is held out, and their description."""
        if data is not None:
            return hold_out_last(dataset_files.read(data), data), data.name
        if (test_data := data_folder("sim_deepfinder")) is not None and tier != "smoke":
            return hold_out_last(sim_deepfinder(test_data), test_data), "sim_deepfinder"
        scale = SOURCES[tier]
        dataset, _ = stand_in(folder / "elsewhere", scaled_preset("czii-phantom", scale), scale.n_train, 1)
        return dataset, "simulated: preset czii-phantom in a smaller box"

    def training_data(self, method: AdaptationMethod, folder: Path) -> TrainingData:
        return TrainingData(folder / "source", (folder / "target",), folder / "labelled")

    def score(
        self, model: Path, method: AdaptationMethod, folder: Path, out: Path, device: Device
    ) -> SubsetScores:
        from cryovox.workflows.segment import segment

        truth = dataset_files.read(folder / "truth")
        _, failures = segment([e.tomogram for e in truth.entries], model, out, device=device)
        for error in failures.values():
            raise error
        return subset_scores(truth, folder, out)

    def references(self, folder: Path) -> dict[str, Scores]:
        """Balls of the mean particle size at the blobs of a difference-of-Gaussians picker."""
        truth = dataset_files.read(folder / "truth")
        with tempfile.TemporaryDirectory() as out:
            for entry in truth.entries:
                write_dog_baseline(entry, truth, folder, Path(out) / "labels" / f"{stem(entry.tomogram)}.mrc")
            return {DOG_PICKER: as_chosen(subset_scores(truth, folder, Path(out)))}


def subset_scores(truth: Dataset, folder: Path, out: Path) -> SubsetScores:
    """Scores of the label maps in *out* on the held-out entries and on all entries."""
    subsets, centers = {"": truth.split("test"), "all": truth.entries}, folder / "truth" / "centres"
    return {
        name: {**overlap(entries, out), "localisation_f1": localization(entries, centers, out, truth.species)}
        for name, entries in subsets.items()
    }


def write_dog_baseline(entry: Entry, truth: Dataset, folder: Path, path: Path) -> None:
    """Write balls of the mean particle size at the strongest blobs of a difference of Gaussians."""
    volume, (kind,) = read_volume(entry.tomogram), truth.species
    true = read_particles(folder / "truth" / "centres" / f"{entry.name}.csv")
    radius = kind.radius / volume.voxel_size
    sign = 1 if entry.contrast == "bright" else -1
    blobs = dog(np.asarray(volume.data), volume.voxel_size, radius / 2, sign=sign, max_count=len(true))
    centers = blobs.positions / volume.voxel_size
    balls = ball_labels(centers, [1] * len(centers), [radius] * len(centers), volume.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_labels(path, LabelMap(balls, volume.voxel_size, truth.species, volume.origin))


def data_folder(name: str) -> Path | None:
    """A folder of the test data, or None without it."""
    root = os.environ.get("CRYOVOX_TEST_DATA")
    folder = None if root is None else Path(root) / name
    return folder if folder is not None and folder.is_dir() else None


def sim_deepfinder(folder: Path) -> Dataset:
    """The third-party simulations with their label maps; classes have numbers as names."""
    files = sorted(folder.glob("tomo*_f16.mrc"))
    if not files:
        raise RequestError(folder, "holds no tomo*_f16.mrc", "add the test data, or set --data DATASET")
    entries = tuple(
        Entry(
            name=path.stem,
            tomogram=path.resolve(),
            labels=folder.resolve() / f"{path.stem.removesuffix('_f16')}_labels.mrc.gz",
            contrast="dark",
        )
        for path in files
    )
    first = read_labels(entries[0].labels or files[0])
    labels = [int(k) for k in np.unique(first.data) if k]
    species = tuple(Species(name=f"class{k}", label=k, radius=first.voxel_size) for k in labels)
    return Dataset(voxel_size=first.voxel_size, species=species, entries=entries)


def hold_out_last(dataset: Dataset, path: Path) -> Dataset:
    """Assign the last entry to the test split if no entry is in it."""
    if any(e.labels is None for e in dataset.entries):
        raise RequestError(
            path, "has entries without label maps", "add `labels:`, which are used for scoring"
        )
    if len(dataset.entries) < 2:
        raise RequestError(path, "holds one tomogram", "use at least two; the last one is held out")
    if dataset.split("test"):
        return dataset
    last = dataset.entries[-1].model_copy(update={"split": "test"})
    return dataset.model_copy(update={"entries": (*dataset.entries[:-1], last)})


def merge_species(dataset: Dataset, names: Iterable[str], folder: Path) -> Dataset:
    """The dataset with the named species merged into one, "particle"; masks are written to *folder*."""
    merged_labels = [s.label for s in dataset.species if s.name in set(names)]
    entries, voxels, objects = [], 0, 0
    for entry in dataset.entries:
        labels = required_labels(entry, dataset)
        mask = np.isin(np.asarray(labels.data), merged_labels).astype(np.uint8)
        path = folder / "masks" / f"{entry.name}.mrc"
        write_labels(path, LabelMap(mask, labels.voxel_size))
        entries.append(entry.model_copy(update={"labels": path.resolve(), "particles": None}))
        voxels, objects = voxels + int(mask.sum()), objects + int(ndimage.label(mask)[1])
    radius = dataset.voxel_size * (3 * max(1, voxels) / max(1, objects) / (4 * np.pi)) ** (1 / 3)
    particle = Species(name=PARTICLE, label=1, radius=round(radius, 1))
    return dataset.model_copy(update={"species": (particle,), "entries": tuple(entries)})


def required_labels(entry: Entry, dataset: Dataset) -> LabelMap:
    """The label map of an entry; an error without one."""
    labels, _ = dataset_files.load_annotations(entry, dataset)
    if labels is None:
        raise RequestError(entry.name, "has no label map", "this suite trains on masks")
    return labels


def without_annotations(dataset: Dataset) -> Dataset:
    """The tomograms without annotations, all in the training split."""
    none = {"labels": None, "particles": None, "split": "train"}
    entries = tuple(e.model_copy(update=none) for e in dataset.entries)
    return dataset.model_copy(update={"species": (), "entries": entries})


def overlap(entries: Iterable[Entry], out: Path) -> dict[str, float]:
    """Dice and IoU of particles, and mean IoU with the background, pooled over the tomograms."""
    intersection, union, voxels = 0, 0, 0
    for entry in entries:
        if entry.labels is None:
            raise RequestError(entry.name, "has no label map to score with", "add `labels:` in dataset.yaml")
        true = np.asarray(read_labels(entry.labels).data) > 0
        predicted = np.asarray(read_labels(out / "labels" / f"{stem(entry.tomogram)}.mrc").data) > 0
        intersection += int((true & predicted).sum())
        union += int((true | predicted).sum())
        voxels += true.size
    iou, background = intersection / max(1, union), (voxels - union) / max(1, voxels - intersection)
    row = {
        "dice": 2 * intersection / max(1, intersection + union),
        "iou": iou,
        "mean_iou": (iou + background) / 2,
    }
    return {name: round(value, 5) for name, value in row.items()}


def write_centers(path: Path, entry: Entry, dataset: Dataset) -> None:
    """Write the centers of the connected components of each label of an entry."""
    labels = required_labels(entry, dataset)
    data = np.asarray(labels.data)
    ids, count = connected_components(np.where(np.isin(data, [s.label for s in dataset.species]), data, 0))
    centers = ndimage.center_of_mass(ids > 0, ids, range(1, count + 1))
    positions = labels.voxel_size * np.reshape(centers, (-1, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_particles(path, Particles.of(positions, PARTICLE))


def localization(entries: Iterable[Entry], centers: Path, out: Path, species: tuple[Species, ...]) -> float:
    """F1 of picks from the predicted masks, matched one to one within the radius of an object."""
    hits, n_picks, n_objects = 0, 0, 0
    for entry in entries:
        predicted = read_labels(out / "labels" / f"{stem(entry.tomogram)}.mrc")
        picks = pick_labels(replace(predicted, species=species), PickConfig(border=0.0))
        true = read_particles(centers / f"{entry.name}.csv")
        hits += len(greedy(picks.positions, true.positions, species[0].radius))
        n_picks, n_objects = n_picks + len(picks), n_objects + len(true)
    return round(2 * hits / max(1, n_picks + n_objects), 5)


TOMOGRAMS = TomogramAdaptationSuite(
    "uda-tomograms", "Adaptation from our simulated tomograms to those of another simulator", uda_methods
)
