"""Picking: ribosomes from their masks, and particles of any species after training on other simulations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryovox.benchmark.semi.suite import phantom
from cryovox.benchmark.suite import Budget, Job, Method, Plan, Scores, Suite, Tier
from cryovox.benchmark.template_matching import read_rows, write_rows
from cryovox.benchmark.tomograms import (
    DOG_PICKER,
    SCALES,
    Scale,
    class_agnostic_scores,
    dog_baseline,
    pick_objects,
    shrec2021,
    stand_in,
    true_particles,
    without_noise,
)
from cryovox.benchmark.training import train
from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import LabelMap
from cryovox.formats import dataset as dataset_files
from cryovox.formats import write_labels
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.workflows.devices import Device

RIBOSOME = "ribosome"
RIBOSOMES: dict[Tier, Scale] = {
    "smoke": Scale((48, 96, 96), count=1, n_train=1),
    "cpu": Scale((64, 128, 128), count=14, n_train=3, n_test=4, voxel_size=20.0),
    "gpu": Scale((184, 630, 630), count=40, n_train=6),
}
SNR = 0.05
"""Signal-to-noise ratio of the phantom, gold and membranes included."""
SCENERY = ("membrane", "fiducial")
"""What is no particle, in the truth and in what a network picks."""


class PickingSuite(Suite):
    """Precision, recall and F1 of picks within the full radius (MVGFormer, 5.3).

    Parameters
    ----------
    zero_shot
        Train on the stand-in of SHREC 2021 and pick particles of any species in the phantom; otherwise train
        on ribosome masks of the phantom and pick ribosomes.
    """

    headlines = ("f1", "precision", "recall")
    reference = "voxresnet"

    def __init__(self, name: str, title: str, source: str, zero_shot: bool) -> None:
        self.name, self.title, self.source, self.zero_shot = name, title, source, zero_shot

    def plan(self, tier: Tier) -> Plan:
        size = "paper" if tier == "gpu" else "s"
        methods = [Method(n, n, size) for n in ("voxresnet", "deepfinder", "swift3d")]
        methods += [
            Method(f"mvgformer {d}", "mvgformer", size, {"decoder": d}) for d in ("mlp", "mf", "p3da")
        ]
        oracle = Method("oracle: voxresnet, no noise", "voxresnet", size, data="clean")
        budget = {"smoke": Budget(steps=2), "cpu": Budget(time="5m"), "gpu": Budget(time="9m")}[tier]
        return Plan(
            (*methods, oracle)[: 1 if tier == "smoke" else None], (budget,), 1 if tier == "smoke" else 3
        )

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        scale = RIBOSOMES[tier]
        if data is None:
            tests, metadata = stand_in(
                folder / "phantom", picking_phantom(scale), scale.n_train, scale.n_test
            )
            metadata["stand-in"] = "simulated: preset czii-phantom with membranes and gold, in a smaller box"
        else:
            tests, metadata = dataset_files.read(data), {"folder": data.name}
        if not tests.split("test"):
            raise RequestError(
                data or folder, "has no entry with split: test", "mark test entries in dataset.yaml"
            )
        if not len(self._truth(tests)):
            message = f"holds no {self.condition} in its test entries"
            raise RequestError(data or folder, message, "add annotated test entries")
        if self.zero_shot:
            scale = SCALES[tier]
            train_data, _ = stand_in(folder / "simulated", shrec2021(scale), scale.n_train, scale.n_test)
        else:
            train_data = single_species(tests, RIBOSOME, folder / "masks")
        write_rows(folder, tests, self._truth(tests), tier, lambda picks: self._scores(tests, picks))
        dataset_files.write(folder / "test", tests)
        dataset_files.write(folder / "train", train_data)
        if data is None:
            dataset_files.write(folder / "clean", without_noise(train_data))
        return metadata

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        model = train(job, folder / job.method.data, out, device)
        tests = dataset_files.read(folder / "test")
        if job.method.data == "clean":
            tests = without_noise(tests)
        return self._scores(tests, without_scenery(pick_objects(tests, model, out, device)))

    def references(self, folder: Path) -> dict[str, Scores]:
        tests = dataset_files.read(folder / "test")
        return {DOG_PICKER: {self.condition: dog_baseline(tests, self._truth(tests))}, **read_rows(folder)}

    def _scores(self, tests: Dataset, picks: Particles) -> Scores:
        radii = {s.name: s.radius for s in tests.species}
        return {self.condition: class_agnostic_scores(picks, self._truth(tests), radii)}

    @property
    def condition(self) -> str:
        """Name of the scored particles."""
        return "any particle" if self.zero_shot else "ribosomes"

    def _truth(self, tests: Dataset) -> Particles:
        true = without_scenery(true_particles(tests))
        return true if self.zero_shot else true.named(RIBOSOME)


def without_scenery(particles: Particles) -> Particles:
    """The particles that are neither membranes nor gold."""
    return particles.take(np.flatnonzero(~np.isin(particles.species, SCENERY)))


def picking_phantom(scale: Scale) -> SimulationConfig:
    """The phantom of the suite `semi`, with more noise."""
    return phantom(scale).model_copy(update={"snr": SNR})


def single_species(dataset: Dataset, name: str, folder: Path) -> Dataset:
    """The training entries with masks of one species, written to *folder*; the others are background."""
    species = [s for s in dataset.species if s.name == name]
    if not species:
        raise RequestError("dataset.yaml", f"has no species {name!r}", "this suite requires that species")
    kept = species[0].model_copy(update={"label": 1})
    entries = []
    for entry in dataset.split("train"):
        labels, _ = dataset_files.load_annotations(entry, dataset)
        if labels is None:
            raise RequestError(entry.name, "has no label map", "this suite trains on masks")
        mask = LabelMap(
            (np.asarray(labels.data) == species[0].label).astype(np.uint8), labels.voxel_size, (kept,)
        )
        write_labels(folder / f"{entry.name}.mrc", mask)
        entries.append(entry.model_copy(update={"labels": folder / f"{entry.name}.mrc", "particles": None}))
    return dataset.model_copy(update={"species": (kept,), "entries": tuple(entries)})


PICKING = PickingSuite(
    "picking",
    "Picking ribosomes after training on ribosome masks",
    "MVGFormer, Table 5 (CZII)",
    zero_shot=False,
)
ZERO_SHOT = PickingSuite(
    "picking-zero-shot",
    "Picking particles of any species after training on other simulations",
    "MVGFormer, Table 6 (trained on SHREC 2021, CZII)",
    zero_shot=True,
)
