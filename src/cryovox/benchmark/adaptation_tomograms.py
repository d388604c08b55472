"""Adaptation of whole tomograms: from this simulator to another one, whatever the species.

The target are the four tomograms that others simulated (`sim_deepfinder` of the test data, in the folder of
the environment variable CRYOVOX_TEST_DATA), or the entries of the user's dataset; without either, and in
the tier `smoke`, a tomogram of other species under another microscope of ours stands in. All of them are
learned from without labels. The last one, or those of the split "test", are "held out" from the upper bound.
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

from cryovox.benchmark.adaptation import (
    AdaptationSuite,
    Adapter,
    Material,
    Parts,
    Rows,
    rows,
    smoke,
)
from cryovox.benchmark.suite import Budget, Plan, Scores, Tier
from cryovox.benchmark.tomograms import Scale, shrunk, simulation, stand_in
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
    "smoke": Scale((32, 64, 64), each=1, learned=1),
    "cpu": Scale((96, 192, 192), each=8, learned=4),
    "gpu": Scale((200, 512, 512), each=125, learned=9),
}
"""In voxels of the size that the target has."""


class TomogramAdaptationSuite(AdaptationSuite):
    """Voxels of any particle against background.

    Parameters
    ----------
    contestants
        Gives the rows of a size.
    """

    source = "our own protocol; the target is that of DeepFinder's examples"
    headlines = ("dice", "iou", "mean_iou", "localisation_f1")

    def __init__(self, name: str, title: str, contestants: Rows) -> None:
        self.name, self.title, self.contestants = name, title, contestants

    def plan(self, tier: Tier) -> Plan:
        if tier == "smoke":
            return smoke(self.contestants("s"))
        if tier == "cpu":
            return Plan(self.contestants("s"), (Budget(time="5m"),))
        return Plan(self.contestants("paper"), (Budget(time="9m"),))

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        scale, config = SOURCES[tier], simulation(SOURCES[tier])
        made, facts = stand_in(folder / "simulated", config, scale.learned, 0)
        source = merged(made, config.species, folder / "source")
        dataset_files.write(folder / "source", source)
        target, told = self._target(folder, tier, data)
        whole = merged(target, [s.name for s in target.species], folder / "truth")
        dataset_files.write(folder / "truth", whole)
        for entry in target.entries:
            note_centres(folder / "truth" / "centres" / f"{entry.name}.csv", entry, target)
        dataset_files.write(folder / "target", unlabelled(whole))
        known = tuple(e for e in whole.entries if e.split == "train")
        dataset_files.write(folder / "labelled", whole.model_copy(update={"entries": known}))
        return {"source": facts, "target": told}

    def _target(self, folder: Path, tier: Tier, data: Path | None) -> tuple[Dataset, str]:
        """Tomograms with labels, at least one of which is held out."""
        if data is not None:
            found = dataset_files.read(data)
            return last_held_out(found, data), data.name
        if (theirs := data_folder("sim_deepfinder")) is not None and tier != "smoke":
            return last_held_out(sim_deepfinder(theirs), theirs), "sim_deepfinder"
        scale = SOURCES[tier]
        found, _ = stand_in(folder / "elsewhere", shrunk("czii-phantom", scale), scale.learned, 1)
        return found, "simulated: preset czii-phantom in a smaller box"

    def material(self, row: Adapter, folder: Path) -> Material:
        return Material(folder / "source", (folder / "target",), folder / "labelled")

    def score(self, model: Path, row: Adapter, folder: Path, out: Path, device: Device) -> Parts:
        from cryovox.workflows.segment import segment

        truth = dataset_files.read(folder / "truth")
        _, failures = segment([e.tomogram for e in truth.entries], model, out, device=device)
        for error in failures.values():
            raise error
        return by_part(truth, folder, out)

    def references(self, folder: Path) -> dict[str, Scores]:
        """Balls at dark blobs of the mean size of a particle, as many as there are of them."""
        truth = dataset_files.read(folder / "truth")
        with tempfile.TemporaryDirectory() as out:
            for entry in truth.entries:
                blobs(entry, truth, folder, Path(out) / "labels" / f"{stem(entry.tomogram)}.mrc")
            floor = by_part(truth, folder, Path(out))
        named = {", ".join(filter(None, ("chosen", part))): dict(row) for part, row in floor.items()}
        return {"floor: blobs of one size, told how many": named}


def by_part(truth: Dataset, folder: Path, out: Path) -> Parts:
    """Scores of the label maps in *out* on what was held out and on all."""
    parts, centres = {"": truth.split("test"), "all": truth.entries}, folder / "truth" / "centres"
    return {
        name: {**overlap(some, out), "localisation_f1": localisation(some, centres, out, truth.species)}
        for name, some in parts.items()
    }


def blobs(entry: Entry, truth: Dataset, folder: Path, path: Path) -> None:
    """Write balls of the mean size of a particle at the best answers of a difference of Gaussians."""
    volume, (kind,) = read_volume(entry.tomogram), truth.species
    true = read_particles(folder / "truth" / "centres" / f"{entry.name}.csv")
    radius = kind.radius / volume.voxel_size
    sign = 1 if entry.contrast == "bright" else -1
    found = dog(np.asarray(volume.data), volume.voxel_size, radius / 2, sign=sign, max_count=len(true))
    places = found.positions / volume.voxel_size
    balls = ball_labels(places, [1] * len(places), [radius] * len(places), volume.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_labels(path, LabelMap(balls, volume.voxel_size, truth.species, volume.origin))


def data_folder(name: str) -> Path | None:
    """A folder of the test data; None where there is none."""
    known = os.environ.get("CRYOVOX_TEST_DATA")
    folder = None if known is None else Path(known) / name
    return folder if folder is not None and folder.is_dir() else None


def sim_deepfinder(folder: Path) -> Dataset:
    """The tomograms with their label maps; classes are numbered and have no names."""
    files = sorted(folder.glob("tomo*_f16.mrc"))
    if not files:
        raise RequestError(
            folder, "holds no tomo*_f16.mrc", "put the test data there, or give --data DATASET"
        )
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


def last_held_out(found: Dataset, named: Path) -> Dataset:
    """Give the last entry the split "test" where none has it."""
    if any(e.labels is None for e in found.entries):
        raise RequestError(named, "has entries without label maps", "add `labels:`; they only score")
    if len(found.entries) < 2:
        raise RequestError(named, "holds one tomogram", "give two at least, the last of which is held out")
    if found.split("test"):
        return found
    last = found.entries[-1].model_copy(update={"split": "test"})
    return found.model_copy(update={"entries": (*found.entries[:-1], last)})


def merged(found: Dataset, names: Iterable[str], folder: Path) -> Dataset:
    """The dataset with one species, the particle, for all of these; masks are written to *folder*."""
    of = {s.label: s for s in found.species if s.name in set(names)}
    entries, count, pieces = [], 0, 0
    for entry in found.entries:
        labels, _ = dataset_files.load_annotations(entry, found)
        if labels is None:
            raise RequestError(entry.name, "has no label map", "this suite learns from masks")
        mask = np.isin(np.asarray(labels.data), list(of)).astype(np.uint8)
        path = folder / "masks" / f"{entry.name}.mrc"
        write_labels(path, LabelMap(mask, labels.voxel_size))
        entries.append(entry.model_copy(update={"labels": path.resolve(), "particles": None}))
        count, pieces = count + int(mask.sum()), pieces + objects(mask)
    radius = found.voxel_size * (3 * max(1, count) / max(1, pieces) / (4 * np.pi)) ** (1 / 3)
    kind = Species(name=PARTICLE, label=1, radius=round(radius, 1))
    return found.model_copy(update={"species": (kind,), "entries": tuple(entries)})


def objects(mask: np.ndarray[Any, Any]) -> int:
    """Connected pieces."""
    return int(ndimage.label(mask)[1])


def unlabelled(found: Dataset) -> Dataset:
    """The tomograms alone, none of them held out."""
    none = {"labels": None, "particles": None, "split": "train"}
    entries = tuple(e.model_copy(update=none) for e in found.entries)
    return found.model_copy(update={"species": (), "entries": entries})


def overlap(entries: Iterable[Entry], out: Path) -> dict[str, float]:
    """Dice and IoU of any particle and mean IoU with the background, pooled over the tomograms."""
    both, either, voxels = 0, 0, 0
    for entry in entries:
        if entry.labels is None:
            raise RequestError(entry.name, "has no label map to score with", "add `labels:` in dataset.yaml")
        true = np.asarray(read_labels(entry.labels).data) > 0
        found = np.asarray(read_labels(out / "labels" / f"{stem(entry.tomogram)}.mrc").data) > 0
        both, either = both + int((true & found).sum()), either + int((true | found).sum())
        voxels += true.size
    iou, background = both / max(1, either), (voxels - either) / max(1, voxels - both)
    row = {"dice": 2 * both / max(1, both + either), "iou": iou, "mean_iou": (iou + background) / 2}
    return {name: round(value, 5) for name, value in row.items()}


def note_centres(path: Path, entry: Entry, found: Dataset) -> None:
    """Write the centres of the objects of an entry: of the connected regions of each of its labels."""
    labels, _ = dataset_files.load_annotations(entry, found)
    if labels is None:
        raise RequestError(entry.name, "has no label map", "this suite learns from masks")
    whole = np.asarray(labels.data)
    kept = np.where(np.isin(whole, [s.label for s in found.species]), whole, 0)
    ids, count = connected_components(kept)
    middles = ndimage.center_of_mass(ids > 0, ids, range(1, count + 1))
    positions = labels.voxel_size * np.reshape(middles, (-1, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_particles(path, Particles.of(positions, PARTICLE))


def localisation(entries: Iterable[Entry], centres: Path, out: Path, species: tuple[Species, ...]) -> float:
    """F1 of the picks from what was found, a pick being right within a radius of a free object's centre."""
    hits, claims, objects = 0, 0, 0
    for entry in entries:
        found = read_labels(out / "labels" / f"{stem(entry.tomogram)}.mrc")
        picks = pick_labels(replace(found, species=species), PickConfig(border=0.0))
        true = read_particles(centres / f"{entry.name}.csv")
        hits += len(greedy(picks.positions, true.positions, species[0].radius))
        claims, objects = claims + len(picks), objects + len(true)
    return round(2 * hits / max(1, claims + objects), 5)


TOMOGRAMS = TomogramAdaptationSuite(
    "uda-tomograms", "Adaptation from our simulated tomograms to those of another simulator", rows
)
