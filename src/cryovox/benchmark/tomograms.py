"""Segmentation and picking in tomograms with thirteen species, vesicles and gold beads as in SHREC 2021."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.benchmark import subtomograms
from cryovox.benchmark.subtomograms import segmentation_methods
from cryovox.benchmark.suite import Budget, Job, Method, Plan, Scores, Suite, Tier
from cryovox.benchmark.template_matching import read_rows, write_rows
from cryovox.benchmark.training import train
from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, concatenate
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_labels, read_particles, read_volume
from cryovox.metrics.evaluation import evaluate_particles
from cryovox.metrics.segmentation import FOREGROUND, evaluate_labels
from cryovox.metrics.table import ANY, MEAN, POOLED, Row
from cryovox.picking.blobs import dog
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.presets import PRESETS
from cryovox.workflows.devices import Device

VOXELS = (("pooled", FOREGROUND), ("any class", ANY), ("mean over classes", MEAN))
OBJECTS = (("any class", ANY), ("mean over classes", MEAN))
DOG_PICKER = "difference-of-Gaussians picker, given the true particle count"


@dataclass(frozen=True)
class Scale:
    """Amount of data of a tier: shape, particles per species, number of tomograms, and voxel size in Å."""

    shape: tuple[int, int, int]
    count: int
    n_train: int
    n_test: int = 1
    voxel_size: float = 10.0


SCALES: dict[Tier, Scale] = {
    "smoke": Scale((32, 64, 64), count=1, n_train=1),
    "cpu": Scale((64, 128, 128), count=20, n_train=4, voxel_size=20.0),
    "gpu": Scale((200, 512, 512), count=125, n_train=9),
}


def scaled_preset(preset: str, scale: Scale, **scene: Any) -> SimulationConfig:
    """A preset with the shape and counts of *scale*, and other changes of the scene."""
    preset_config = PRESETS[preset]
    depth = 0.9 * scale.shape[0] * scale.voxel_size
    counts = dict.fromkeys(preset_config.species, scale.count)
    changes = {"shape": scale.shape, "voxel_size": scale.voxel_size, "slab": depth, "counts": counts, **scene}
    return preset_config.model_copy(update={"scene": preset_config.scene.model_copy(update=changes)})


def shrec2021(scale: Scale) -> SimulationConfig:
    """The preset `shrec2021-slab` in a smaller box."""
    scene = PRESETS["shrec2021-slab"].scene
    share = scale.shape[1] * scale.shape[2] * (scale.voxel_size / (512 * scene.voxel_size)) ** 2
    counts = {"count": round(2 * share), "max_count": max(1, round(7 * share))}
    vesicles = scene.vesicles.model_copy(update=counts | {"radius": (120.0, 250.0)})
    fiducials = scene.fiducials.model_copy(update=counts)
    return scaled_preset("shrec2021-slab", scale, vesicles=vesicles, fiducials=fiducials)


class TomogramSuite(Suite):
    """Voxel overlap and object scores on test tomograms.

    Parameters
    ----------
    methods
        Function that returns the methods of a size.
    simulation
        Function that returns the configuration of the simulated data of a scale.
    scales
        Amount of data of each tier.
    """

    headlines = ("dice", "f1")

    def __init__(
        self,
        name: str,
        title: str,
        source: str,
        methods: Callable[[str], tuple[Method, ...]],
        reference: str = "voxresnet",
        simulation: Callable[[Scale], SimulationConfig] = shrec2021,
        scales: Mapping[Tier, Scale] = SCALES,
    ) -> None:
        self.name, self.title, self.source, self.methods = name, title, source, methods
        self.reference, self.simulation, self.scales = reference, simulation, scales

    def plan(self, tier: Tier) -> Plan:
        if tier == "smoke":
            return Plan(self.methods("s")[:1], (Budget(steps=2),), seeds=1)
        if tier == "cpu":
            return Plan(self.methods("s"), (Budget(time="5m"), Budget(steps=500)))
        return Plan(self.methods("paper"), (Budget(time="9m"), Budget(steps=4000)), seeds=2)

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        if data is None:
            scale = self.scales[tier]
            dataset, metadata = stand_in(
                folder / "simulated", self.simulation(scale), scale.n_train, scale.n_test
            )
            metadata["stand-in"] = "simulated: a preset in a smaller box, built-in structures"
            metadata["species"] = [kind.name for kind in dataset.species]
            dataset_files.write(folder / "clean", without_noise(dataset))
        else:
            dataset, metadata = dataset_files.read(data), {"folder": data.name}
            if not dataset.split("test"):
                raise RequestError(data, "has no entry with split: test", "mark test entries in dataset.yaml")
        dataset_files.write(folder / "train", dataset)
        true = true_particles(dataset)
        write_rows(folder, dataset, true, tier, lambda picks: object_scores(dataset, picks, true))
        return metadata

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        data = folder / job.method.data
        return score(dataset_files.read(data), self.trained(job, folder, data, out, device), out, device)

    def trained(self, job: Job, folder: Path, data: Path, out: Path, device: Device) -> Path:
        """Model file of a job."""
        return train(job, data, out, device)

    def references(self, folder: Path) -> dict[str, Scores]:
        dataset = dataset_files.read(folder / "train")
        dog_row = {"objects, any class": dog_baseline(dataset, true_particles(dataset))}
        return {DOG_PICKER: dog_row, **read_rows(folder)}


class PretrainedSuite(TomogramSuite):
    """The same suite with and without pre-training on simulated subtomograms of one class.

    The subtomograms have the voxel size of the tomograms. Pre-training comes on top of the budget:
    pre-trained rows train twice as long, as in the paper.
    """

    def plan(self, tier: Tier) -> Plan:
        whole = super().plan(tier)
        return replace(whole, budgets=whole.budgets[:1])

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        scale = replace(subtomograms.SCALES[tier], voxel_size=self.scales[tier].voxel_size)
        subtomograms.write_training_sets(folder / "subtomograms", scale)
        return super().prepare(folder, tier, data)

    def trained(self, job: Job, folder: Path, data: Path, out: Path, device: Device) -> Path:
        if not job.method.name.endswith(", pre-trained"):
            return train(job, data, out, device)
        start = train(job, folder / "subtomograms" / "train.zarr", out / "pre-training", device)
        return train(job, data, out, device, start=start)


def stand_in(
    folder: Path, config: SimulationConfig, n_train: int, n_test: int, seed: int = 7
) -> tuple[Dataset, dict[str, Any]]:
    """Simulate training and test tomograms; returns the dataset and its metadata."""
    from cryovox.workflows.simulation.dataset import simulate_dataset
    from cryovox.workflows.simulation.tomogram import Keep

    split = ["train"] * n_train + ["test"]
    keep = Keep(clean=True, instances=False, series=False)
    count, workers = n_train + n_test, max(1, (os.cpu_count() or 1) // 2)
    _, facts = simulate_dataset(
        folder, config, count=count, seed=seed, split=split, keep=keep, workers=workers
    )
    snr = [round(entry["snr"], 4) for entry in facts.values()]
    shape = {"shape": config.scene.shape, "voxel_size": config.scene.voxel_size}
    metadata = {**shape, "learned": n_train, "tested": n_test, "snr": snr}
    return dataset_files.read(folder), metadata


def without_noise(dataset: Dataset) -> Dataset:
    """The dataset with the noise-free tomograms."""
    entries = [
        e.model_copy(update={"tomogram": e.tomogram.parents[1] / "clean" / e.tomogram.name})
        for e in dataset.entries
    ]
    return dataset.model_copy(update={"entries": tuple(entries)})


def score(dataset: Dataset, model: Path, out: Path, device: Device) -> Scores:
    """Voxel overlap and object F1 on the test entries."""
    picks = pick_objects(dataset, model, out, device)
    truth, predicted = {}, {}
    for entry in dataset.split("test"):
        labels, _ = dataset_files.load_annotations(entry, dataset)
        if labels is None:
            raise RequestError(entry.name, "has no label map to score with", "add `labels:` in dataset.yaml")
        truth[entry.name] = labels
        file = out / "found" / "labels" / f"{entry.tomogram.stem}.mrc"
        predicted[entry.name] = read_labels(file, dataset.species, dataset.voxel_size)
    voxels = evaluate_labels(predicted, truth, surfaces=False)
    table = {f"voxels, {name}": _metrics(voxels, species) for name, species in VOXELS}
    return table | object_scores(dataset, picks, true_particles(dataset))


def object_scores(dataset: Dataset, picks: Particles, true: Particles) -> Scores:
    """Precision, recall and F1 of picks, over all classes and their mean."""
    radii = {s.name: s.radius for s in dataset.species}
    objects = evaluate_particles(picks, true, radii)
    return {f"objects, {name}": _metrics(objects, species) for name, species in OBJECTS}


def pick_objects(dataset: Dataset, model: Path, out: Path, device: Device) -> Particles:
    """Picks in all test tomograms."""
    from cryovox.workflows.find import find

    entries = dataset.split("test")
    tomograms = [e.tomogram for e in entries]  # simulated volumes are filled: all of them is searched
    picks, failures = find(tomograms, model, out / "found", lamella=False, device=device)
    for error in failures.values():
        raise error
    return concatenate(in_tomogram(picks[e.tomogram.stem], e.name) for e in entries)


def _metrics(rows: list[Row], species: str) -> dict[str, float]:
    kept = ("dice", "iou", "f1", "precision", "recall")
    return {
        str(r["metric"]): round(float(np.nan_to_num(float(r["value"]))), 5)
        for r in rows
        if r["tomogram"] == POOLED and r["species"] == species and r["metric"] in kept
    }


def class_agnostic_scores(picks: Particles, true: Particles, radii: Mapping[str, float]) -> dict[str, float]:
    """Precision, recall and F1 regardless of the species, matched within the radius of a particle."""
    picks = replace(picks, species=np.full(len(picks), true.species[0]))
    return _metrics(evaluate_particles(picks, true, radii), ANY)


def dog_baseline(dataset: Dataset, true: Particles) -> dict[str, float]:
    """Scores of a difference-of-Gaussians picker without species, given the true particle count."""
    radii, lists = {s.name: s.radius for s in dataset.species}, []
    for entry in dataset.split("test"):
        volume, count = read_volume(entry.tomogram), len(true.within(entry.name))
        blobs = dog(np.asarray(volume.data), volume.voxel_size, 2.5, species="blob", distance=60.0).sorted()
        lists.append(in_tomogram(blobs.take(np.arange(min(len(blobs), count))), entry.name))
    return class_agnostic_scores(concatenate(lists), true, radii)


def true_particles(dataset: Dataset) -> Particles:
    """True particles of all test tomograms."""
    return concatenate(
        in_tomogram(read_particles(e.particles, tomogram=read_volume(e.tomogram)), e.name)
        for e in dataset.split("test")
        if e.particles is not None
    )


def in_tomogram(particles: Particles, tomogram: str) -> Particles:
    """The particles with the name of their tomogram."""
    return Particles.of(particles.positions, particles.species.tolist(), particles.scores, tomograms=tomogram)


def pretraining_methods(size: str) -> tuple[Method, ...]:
    """Rows of MVGFormer's Table 4, each with and without pre-training."""
    methods = [Method(n, n, size) for n in ("voxresnet", "deepfinder", "mednext", "swift3d")]
    methods += [Method(f"mvgformer {d}", "mvgformer", size, {"decoder": d}) for d in ("mf", "p3da")]
    return tuple(
        m for method in methods for m in (method, replace(method, name=f"{method.name}, pre-trained"))
    )


TOMOGRAMS = TomogramSuite(
    "tomograms",
    "Segmentation of tomograms with thirteen species",
    "MVGFormer, Table 2 (SHREC 2021)",
    segmentation_methods,
)
PRETRAINED = PretrainedSuite(
    "tomograms-pretrained",
    "Segmentation of tomograms after pre-training on simulated subtomograms",
    "MVGFormer, Table 4",
    pretraining_methods,
    scales={tier: replace(scale, n_test=min(scale.n_train, 4)) for tier, scale in SCALES.items()},
)
