"""Whole tomograms with the thirteen species, vesicles and gold of SHREC 2021: voxels and objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.benchmark.subtomograms import SUBTOMOGRAMS, contestants
from cryovox.benchmark.suite import Budget, Contestant, Job, Plan, Scores, Suite, Tier
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


@dataclass(frozen=True)
class Scale:
    """How much a tier simulates: box, particles of each species, tomograms, and their voxels in Å."""

    shape: tuple[int, int, int]
    each: int
    learned: int
    tested: int = 1
    voxel_size: float = 10.0


SCALES: dict[Tier, Scale] = {
    "smoke": Scale((32, 64, 64), each=1, learned=1),
    "cpu": Scale((64, 128, 128), each=20, learned=4, voxel_size=20.0),
    "gpu": Scale((200, 512, 512), each=125, learned=9),
}


def shrunk(preset: str, scale: Scale, **scene: Any) -> SimulationConfig:
    """A preset in a smaller box, with as many particles of each species, and other changes of the scene."""
    whole = PRESETS[preset]
    depth = 0.9 * scale.shape[0] * scale.voxel_size
    counts = dict.fromkeys(whole.species, scale.each)
    changed = {"shape": scale.shape, "voxel_size": scale.voxel_size, "slab": depth, "counts": counts, **scene}
    return whole.model_copy(update={"scene": whole.scene.model_copy(update=changed)})


def simulation(scale: Scale) -> SimulationConfig:
    """The preset `shrec2021` in a smaller box."""
    scene = PRESETS["shrec2021-slab"].scene
    share = scale.shape[1] * scale.shape[2] * (scale.voxel_size / (512 * scene.voxel_size)) ** 2
    few = {"count": round(2 * share), "most": max(1, round(7 * share))}
    vesicles = scene.vesicles.model_copy(update=few | {"radius": (120.0, 250.0)})
    fiducials = scene.fiducials.model_copy(update=few)
    return shrunk("shrec2021-slab", scale, vesicles=vesicles, fiducials=fiducials)


class TomogramSuite(Suite):
    """Voxel overlap and object scores on tomograms that were not trained on.

    Parameters
    ----------
    rows
        Gives the contestants of a size.
    world
        What is simulated where the user gives no data.
    """

    headlines = ("dice", "f1")

    def __init__(
        self,
        name: str,
        title: str,
        source: str,
        rows: Callable[[str], tuple[Contestant, ...]],
        reference: str = "voxresnet",
        world: Callable[[Scale], SimulationConfig] = simulation,
    ) -> None:
        self.name, self.title, self.source, self.rows = name, title, source, rows
        self.reference, self.world = reference, world

    def plan(self, tier: Tier) -> Plan:
        if tier == "smoke":
            return Plan(self.rows("s")[:1], (Budget(steps=2),), seeds=1)
        if tier == "cpu":
            return Plan(self.rows("s"), (Budget(time="5m"), Budget(steps=500)))
        return Plan(self.rows("paper"), (Budget(time="9m"), Budget(steps=4000)), seeds=2)

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        if data is None:
            scale = SCALES[tier]
            found, facts = stand_in(folder / "simulated", self.world(scale), scale.learned, scale.tested)
            facts["stand-in"] = "simulated: a preset in a smaller box, built-in structures"
            facts["species"] = [kind.name for kind in found.species]
            dataset_files.write(folder / "clean", without_noise(found))
        else:
            found, facts = dataset_files.read(data), {"folder": data.name}
            if not found.split("test"):
                raise RequestError(
                    data, "has no entry with split: test", "say in dataset.yaml which to test on"
                )
        dataset_files.write(folder / "train", found)
        return facts

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        data = folder / job.contestant.data
        return score(dataset_files.read(data), self.trained(job, folder, data, out, device), out, device)

    def trained(self, job: Job, folder: Path, data: Path, out: Path, device: Device) -> Path:
        """The model file of a job."""
        return train(job, data, out, device)

    def references(self, folder: Path) -> dict[str, Scores]:
        found = dataset_files.read(folder / "train")
        return {"floor: blobs, told how many": {"objects, any class": blobs(found, particles(found))}}


class PretrainedSuite(TomogramSuite):
    """The same after training on simulated subtomograms, whose only classes are target and not.

    The training before comes on top: those rows have twice the budget, as in the paper.
    """

    def plan(self, tier: Tier) -> Plan:
        whole = super().plan(tier)
        return replace(whole, budgets=whole.budgets[:1])

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        SUBTOMOGRAMS.prepare(folder / "subtomograms", tier, None)
        return super().prepare(folder, tier, data)

    def trained(self, job: Job, folder: Path, data: Path, out: Path, device: Device) -> Path:
        if not job.contestant.name.endswith(", pre-trained"):
            return train(job, data, out, device)
        start = train(job, folder / "subtomograms" / "train.zarr", out / "pre-training", device)
        return train(job, data, out, device, start=start)


def stand_in(
    folder: Path, config: SimulationConfig, learned: int, tested: int, seed: int = 7
) -> tuple[Dataset, dict[str, Any]]:
    """Simulate tomograms to learn from and to test on; gives the dataset and its facts."""
    from cryovox.workflows.simulation.dataset import Keep, simulate_dataset

    split = ["train"] * learned + ["test"]
    keep = Keep(clean=True, instances=False, series=False)
    _, made = simulate_dataset(folder, config, count=learned + tested, seed=seed, split=split, keep=keep)
    snr = [round(entry["snr"], 4) for entry in made.values()]
    box = {"shape": config.scene.shape, "voxel_size": config.scene.voxel_size}
    facts = {**box, "learned": learned, "tested": tested, "snr": snr}
    return dataset_files.read(folder), facts


def without_noise(found: Dataset) -> Dataset:
    """The same tomograms as they are before any noise."""
    entries = [
        e.model_copy(update={"tomogram": e.tomogram.parents[1] / "clean" / e.tomogram.name})
        for e in found.entries
    ]
    return found.model_copy(update={"entries": tuple(entries)})


def score(found: Dataset, model: Path, out: Path, device: Device) -> Scores:
    """Overlap of voxels and F1 of objects on the entries of the split "test"."""
    picks = found_objects(found, model, out, device)
    truth, seen = {}, {}
    for entry in found.split("test"):
        labels, _ = dataset_files.load_annotations(entry, found)
        if labels is None:
            raise RequestError(entry.name, "has no label map to score with", "add `labels:` in dataset.yaml")
        truth[entry.name] = labels
        file = out / "found" / "labels" / f"{entry.tomogram.stem}.mrc"
        seen[entry.name] = read_labels(file, found.species, found.voxel_size)
    voxels = evaluate_labels(seen, truth)
    objects = evaluate_particles(picks, particles(found), {s.name: s.radius for s in found.species})
    table = {f"voxels, {told}": _metrics(voxels, species) for told, species in VOXELS}
    return table | {f"objects, {told}": _metrics(objects, species) for told, species in OBJECTS}


def found_objects(found: Dataset, model: Path, out: Path, device: Device) -> Particles:
    """Picks in all tomograms of the split "test"."""
    from cryovox.workflows.find import find

    tests = found.split("test")
    picks, failures = find([e.tomogram for e in tests], model, out / "found", device=device)
    for error in failures.values():
        raise error
    return concatenate(of(picks[e.tomogram.stem], e.name) for e in tests)


def _metrics(rows: list[Row], species: str) -> dict[str, float]:
    kept = ("dice", "iou", "f1", "precision", "recall")
    return {
        str(r["metric"]): round(float(np.nan_to_num(float(r["value"]))), 5)
        for r in rows
        if r["tomogram"] == POOLED and r["species"] == species and r["metric"] in kept
    }


def whatever(picks: Particles, true: Particles, radii: Mapping[str, float]) -> dict[str, float]:
    """Precision, recall and F1 whatever the species, each hit within the radius of what it hits."""
    nameless = replace(picks, species=np.full(len(picks), true.species[0]))
    return _metrics(evaluate_particles(nameless, true, radii), ANY)


def blobs(found: Dataset, true: Particles) -> dict[str, float]:
    """Scores of a blob picker that knows no species, and how many particles there are."""
    radii, lists = {s.name: s.radius for s in found.species}, []
    for entry in found.split("test"):
        volume, wanted = read_volume(entry.tomogram), len(true.within(entry.name))
        seen = dog(np.asarray(volume.data), volume.voxel_size, 2.5, species="blob", distance=60.0).sorted()
        lists.append(of(seen.take(np.arange(min(len(seen), wanted))), entry.name))
    return whatever(concatenate(lists), true, radii)


def particles(found: Dataset) -> Particles:
    """All particles to be found in the split "test", which know their tomograms."""
    return concatenate(
        of(read_particles(e.particles, tomogram=read_volume(e.tomogram)), e.name)
        for e in found.split("test")
        if e.particles is not None
    )


def of(some: Particles, tomogram: str) -> Particles:
    """The same, of one tomogram."""
    return Particles.of(some.positions, some.species.tolist(), some.scores, tomograms=tomogram)


def pretrained(size: str) -> tuple[Contestant, ...]:
    """Rows of MVGFormer's Table 4, each with and without."""
    rows = [Contestant(n, n, size) for n in ("voxresnet", "deepfinder", "mednext", "swift3d")]
    rows += [Contestant(f"mvgformer {d}", "mvgformer", size, {"decoder": d}) for d in ("mf", "p3da")]
    return tuple(c for row in rows for c in (row, replace(row, name=f"{row.name}, pre-trained")))


TOMOGRAMS = TomogramSuite(
    "tomograms",
    "Segmentation of tomograms with thirteen species",
    "MVGFormer, Table 2 (SHREC 2021)",
    contestants,
)
PRETRAINED = PretrainedSuite(
    "tomograms-pretrained",
    "Segmentation of tomograms after training on simulated subtomograms",
    "MVGFormer, Table 4",
    pretrained,
)
