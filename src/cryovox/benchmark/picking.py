"""Picking: ribosomes after training on their masks alone, and any particle after training elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryovox.benchmark.suite import Budget, Contestant, Job, Plan, Scores, Suite, Tier
from cryovox.benchmark.tomograms import (
    SCALES,
    Scale,
    blobs,
    found_objects,
    particles,
    shrunk,
    simulation,
    stand_in,
    whatever,
    without_noise,
)
from cryovox.benchmark.training import train
from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import LabelMap
from cryovox.formats import dataset as dataset_files
from cryovox.formats import write_labels
from cryovox.workflows.devices import Device

RIBOSOME = "ribosome"
RIBOSOMES: dict[Tier, Scale] = {
    "smoke": Scale((48, 96, 96), each=1, learned=1),
    "cpu": Scale((64, 128, 128), each=14, learned=3, voxel_size=20.0),
    "gpu": Scale((184, 630, 630), each=40, learned=6),
}


class PickingSuite(Suite):
    """Precision, recall and F1 of picks within the full radius (MVGFormer, 5.3).

    Parameters
    ----------
    zero_shot
        Learn from the stand-in of SHREC 2021 and find any particle of the phantom; else learn from
        ribosome masks of the phantom and find ribosomes.
    """

    headlines = ("f1", "precision", "recall")
    reference = "voxresnet"

    def __init__(self, name: str, title: str, source: str, zero_shot: bool) -> None:
        self.name, self.title, self.source, self.zero_shot = name, title, source, zero_shot

    def plan(self, tier: Tier) -> Plan:
        size = "paper" if tier == "gpu" else "s"
        rows = [Contestant(n, n, size) for n in ("voxresnet", "deepfinder", "swift3d")]
        rows += [
            Contestant(f"mvgformer {d}", "mvgformer", size, {"decoder": d}) for d in ("mlp", "mf", "p3da")
        ]
        oracle = Contestant("oracle: voxresnet, no noise", "voxresnet", size, data="clean")
        budget = {"smoke": Budget(steps=2), "cpu": Budget(time="5m"), "gpu": Budget(time="9m")}[tier]
        return Plan((*rows, oracle)[: 1 if tier == "smoke" else None], (budget,), 1 if tier == "smoke" else 3)

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        scale = RIBOSOMES[tier]
        if data is None:
            tests, facts = stand_in(
                folder / "phantom", shrunk("czii-phantom", scale), scale.learned, scale.tested
            )
            facts["stand-in"] = "simulated: preset czii-phantom in a smaller box, built-in structures"
        else:
            tests, facts = dataset_files.read(data), {"folder": data.name}
        if not tests.split("test"):
            raise RequestError(data or folder, "has no entry with split: test", "say which to test on")
        if not len(self._wanted(tests)):
            told = f"holds no {self.told} in its entries to test on"
            raise RequestError(data or folder, told, "test where there are some")
        learned = tests if not self.zero_shot else self._elsewhere(folder, tier)
        dataset_files.write(folder / "test", tests)
        if not self.zero_shot:
            learned = only(learned, RIBOSOME, folder / "masks")
        dataset_files.write(folder / "train", learned)
        if data is None:
            dataset_files.write(folder / "clean", without_noise(learned))
        return facts

    def _elsewhere(self, folder: Path, tier: Tier) -> Dataset:
        scale = SCALES[tier]
        return stand_in(folder / "simulated", simulation(scale), scale.learned, scale.tested)[0]

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        model = train(job, folder / job.contestant.data, out, device)
        tests = dataset_files.read(folder / "test")
        if job.contestant.data == "clean":
            tests = without_noise(tests)
        picks = found_objects(tests, model, out, device)
        radii = {s.name: s.radius for s in tests.species}
        return {self.told: whatever(picks, self._wanted(tests), radii)}

    def references(self, folder: Path) -> dict[str, Scores]:
        tests = dataset_files.read(folder / "test")
        return {"floor: blobs, told how many": {self.told: blobs(tests, self._wanted(tests))}}

    @property
    def told(self) -> str:
        return "any particle" if self.zero_shot else "ribosomes"

    def _wanted(self, tests: Dataset) -> Particles:
        true = particles(tests)
        return true if self.zero_shot else true.named(RIBOSOME)


def only(found: Dataset, name: str, folder: Path) -> Dataset:
    """The dataset with the masks of one species, written to *folder*; the others are background."""
    species = [s for s in found.species if s.name == name]
    if not species:
        raise RequestError("dataset.yaml", f"has no species {name!r}", "this suite is about that species")
    kept = species[0].model_copy(update={"label": 1})
    entries = []
    for entry in found.split("train"):
        labels, _ = dataset_files.load_annotations(entry, found)
        if labels is None:
            raise RequestError(entry.name, "has no label map", "this suite learns from masks")
        mask = LabelMap(
            (np.asarray(labels.data) == species[0].label).astype(np.uint8), labels.voxel_size, (kept,)
        )
        write_labels(folder / f"{entry.name}.mrc", mask)
        entries.append(entry.model_copy(update={"labels": folder / f"{entry.name}.mrc", "particles": None}))
    return found.model_copy(update={"species": (kept,), "entries": tuple(entries)})


PICKING = PickingSuite(
    "picking", "Ribosomes after training on their masks alone", "MVGFormer, Table 5 (CZII)", zero_shot=False
)
ZERO_SHOT = PickingSuite(
    "picking-zero-shot",
    "Any particle of a phantom after training on another simulation",
    "MVGFormer, Table 6 (trained on SHREC 2021, CZII)",
    zero_shot=True,
)
