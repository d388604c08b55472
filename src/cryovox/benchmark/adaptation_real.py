"""Adaptation to a real tomogram: from a simulated likeness of its one part to ribosomes in the other.

The tomogram (half of one of EMPIAR-11658, `real_tomograms` of the test data) is cut at y = 160 of 256 voxels.
The part below is imitated by the simulator, whose ribosomes are the labelled source, and learned from
without labels; the part above is searched. Its picks are a clean subset of the ribosomes, hence recall
at 1, 2 and 4 candidates for each of them, one to one within 100 Å. Without the test data, and in the
tier `smoke`, a tomogram of ours that is taken for real stands in.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
from cryovox.benchmark.adaptation_tomograms import data_folder
from cryovox.benchmark.picking import only
from cryovox.benchmark.suite import Budget, Plan, Scores, Tier
from cryovox.benchmark.tomograms import particles
from cryovox.core.dataset import Box, Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume, stem, write_particles, write_volume
from cryovox.formats import scores as score_files
from cryovox.metrics.matching import greedy
from cryovox.picking import PickConfig, pick
from cryovox.picking.blobs import dog
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.presets import PRESETS
from cryovox.simulate.scene import SheetConfig, VesicleConfig
from cryovox.workflows.devices import Device

RIBOSOME, RADIUS = "ribosome-80s", 125.0
SHARE = 160 / 256
"""Part of the sides in y that is learned from."""
MATCH = 100.0
BUDGETS = (1, 2, 4)
CROWD = {RIBOSOME: 400, "fatty-acid-synthase": 250, "proteasome-26s": 300, "tric": 500}
"""In a slab of 59 x 256 x 128 voxels; our guess, as in `benchmarks/simulator_match.py`."""
LEARNED: dict[Tier, int] = {"smoke": 1, "cpu": 2, "gpu": 6}
WITHOUT_LABELS, WITH_LABELS = "blobs, as they come", "blobs, settings chosen with labels of y < cut"


@dataclass(frozen=True, eq=False)
class Real:
    """A tomogram with picks, and where in y it is cut, in voxels."""

    tomogram: Path
    picks: Particles
    dark: bool = True

    @property
    def volume(self) -> Volume:
        return read_volume(self.tomogram)

    @property
    def cut(self) -> int:
        return round(SHARE * self.volume.shape[1])

    def part(self, above: bool, some: Particles | None = None) -> Particles:
        """Those of its picks, or of others, on one side of the cut."""
        some = self.picks if some is None else some
        return some.take((some.positions[:, 1] / self.volume.voxel_size >= self.cut - 0.5) == above)


class RealSuite(AdaptationSuite):
    """Recall of ribosomes at so many candidates.

    Parameters
    ----------
    contestants
        Gives the rows of a size.
    likeness
        Whether the simulated source imitates the part of the tomogram that is learned from.
    """

    source = "our own protocol"
    headlines = ("recall_1x", "recall_2x", "recall_4x")
    judged = "recall"

    def __init__(self, name: str, title: str, contestants: Rows, *, likeness: bool) -> None:
        self.name, self.title, self.contestants, self.likeness = name, title, contestants, likeness

    def plan(self, tier: Tier) -> Plan:
        if tier == "smoke":
            return smoke(self.contestants("s"))
        return Plan(self.contestants("s"), (Budget(time="4m" if tier == "cpu" else "9m"),))

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        from cryovox.workflows.simulation.dataset import Keep, simulate_dataset

        real, told = found_or_made(folder, tier, data)
        note(folder, real)
        config = crowd(real.volume)
        keep = Keep(clean=False, instances=False, series=False)
        made, imitated = folder / "simulated", folder / "target" / "part.mrc" if self.likeness else None
        simulate_dataset(made, config, count=LEARNED[tier], seed=11, match=imitated, keep=keep)
        source = only(dataset_files.read(made), RIBOSOME, folder / "source" / "masks")
        dataset_files.write(folder / "source", source)
        counts = {"learned_picks": len(real.part(above=False)), "tested_picks": len(real.part(above=True))}
        return {"tomogram": told, "cut": real.cut, "likenesses": LEARNED[tier], **counts}

    def material(self, row: Adapter, folder: Path) -> Material:
        return Material(folder / "source", (folder / "target" / "part.mrc",), folder / "labelled")

    def score(self, model: Path, row: Adapter, folder: Path, out: Path, device: Device) -> Parts:
        from cryovox.workflows.segment import segment

        real = noted(folder)
        segment([real.tomogram], model, out, device=device)
        found = candidates(score_files.read(out / "scores" / f"{stem(real.tomogram)}.zarr"))
        return {"": recalls(real.part(above=True, some=found), real.part(above=True))}

    def references(self, folder: Path) -> dict[str, Scores]:
        """The blob picker without a choice, and with the best settings on the labelled part."""
        return {name: {"chosen": row} for name, row in blob_pickers(noted(folder)).items()}


def blob_pickers(real: Real) -> dict[str, dict[str, float]]:
    """Recalls above the cut of the difference of Gaussians, as it comes and with settings chosen below it."""
    volume, sign = real.volume, -1 if real.dark else 1
    data = np.asarray(volume.data)

    def recall(above: bool, sigma: float, ratio: float, distance: float) -> dict[str, float]:
        found = dog(data, volume.voxel_size, sigma, ratio=ratio, sign=sign, distance=distance)
        return recalls(real.part(above, found), real.part(above))

    grid = list(product((1.0, 2.0, 3.0), (1.3, 1.6, 2.0), (100.0, 150.0, 200.0)))
    best = max(grid, key=lambda chosen: recall(False, *chosen)["recall"])
    usual = (RADIUS / volume.voxel_size / 2, 1.6, 150.0)
    return {WITHOUT_LABELS: recall(True, *usual), WITH_LABELS: recall(True, *best)}


def found_or_made(folder: Path, tier: Tier, data: Path | None) -> tuple[Real, str]:
    """The user's tomogram, that of the test data, or one that stands in."""
    if data is not None:
        return users(data), data.name
    theirs = data_folder("real_tomograms")
    if theirs is None or tier == "smoke":
        return pretended(folder), "simulated: preset toy in another sampling, taken for real"
    tomogram = theirs / "tomo_171_xlow_31.36A.mrc.gz"
    picks = once(theirs / "tomo_171_xlow_80S_angstrom.csv")
    return Real(tomogram.resolve(), picks), "EMPIAR-11658, tomo_171, half of it"


def users(data: Path) -> Real:
    """The first entry of a dataset that has particles; its species is taken for the ribosome."""
    for entry in dataset_files.read(data).entries:
        if entry.particles is not None:
            picks = read_particles(entry.particles, tomogram=read_volume(entry.tomogram))
            named = Particles.of(picks.positions, RIBOSOME)
            return Real(entry.tomogram.resolve(), named, dark=entry.contrast != "bright")
    raise RequestError(data, "has no entry with particles", "give a tomogram with its ribosomes")


def once(path: Path) -> Particles:
    """Picks x, y, z in Å; two of the file are one particle."""
    with path.open(encoding="utf-8") as file:
        found = [[float(r[axis]) for axis in "zyx"] for r in csv.DictReader(file)]
    kept: list[list[float]] = []
    for row in found:
        if all(np.linalg.norm(np.subtract(row, other)) > 10 for other in kept):
            kept.append(row)
    return Particles.of(kept, RIBOSOME)


def pretended(folder: Path) -> Real:
    """A simulated tomogram that is taken for real."""
    from cryovox.workflows.simulation.dataset import Keep, simulate_dataset

    config = PRESETS["toy"]
    scene = config.scene.model_copy(
        update={"shape": (32, 96, 64), "voxel_size": 30.0, "counts": {RIBOSOME: 40, "proteasome-20s": 40}}
    )
    tilts = config.tilts.model_copy(update={"range": (-50.0, 50.0), "defocus": (6.0, 6.0)})
    config = config.model_copy(update={"scene": scene, "tilts": tilts})
    keep = Keep(clean=False, instances=False, series=False)
    simulate_dataset(folder / "pretended", config, seed=5, split=["test"], keep=keep)
    found = dataset_files.read(folder / "pretended")
    picks = particles(found).named(RIBOSOME)
    return Real(found.entries[0].tomogram.resolve(), Particles.of(picks.positions, RIBOSOME))


def note(folder: Path, real: Real) -> None:
    """Write what is learned from without labels, what the upper bound learns from, and the whole."""
    volume = real.volume
    part = Volume(np.ascontiguousarray(np.asarray(volume.data)[:, : real.cut]), volume.voxel_size)
    write_volume(folder / "target" / "part.mrc", part)
    species = (Species(name=RIBOSOME, label=1, radius=RADIUS),)
    for name, picks, box in (
        ("labelled", real.part(above=False), Box(y=(0, real.cut))),
        ("truth", real.picks, Box()),
    ):
        path = folder / name / "particles.csv"
        write_particles(path, picks, tomogram=volume)
        entry = Entry(
            name=name, tomogram=real.tomogram, particles=path.resolve(), box=box,
            contrast="dark" if real.dark else "bright",
        )  # fmt: skip
        found = Dataset(voxel_size=volume.voxel_size, species=species, entries=(entry,))
        dataset_files.write(folder / name, found)


def noted(folder: Path) -> Real:
    """The tomogram that `prepare` found."""
    return users(folder / "truth")


def crowd(volume: Volume) -> SimulationConfig:
    """A crowded cytosol, whose shape and microscope are then those of the tomogram."""
    scene = PRESETS["toy"].scene.model_copy(
        update={
            "shape": (128, 256, 128),
            "voxel_size": volume.voxel_size,
            "slab": 59 * volume.voxel_size,
            "counts": CROWD,
            "vesicles": VesicleConfig(count=3, radius=(300.0, 700.0)),
            "sheets": SheetConfig(count=2),
        }
    )
    return PRESETS["toy"].model_copy(update={"species": tuple(CROWD), "scene": scene})


def candidates(found: ScoreMap) -> Particles:
    """Peaks, best first; those of a mask after a blur of half a radius, as balls peak in the middle then."""
    if found.kind == "mask":
        sigma = RADIUS / found.voxel_size / 2
        blurred: NDArray[np.float32] = np.stack(
            [ndimage.gaussian_filter(np.asarray(one[:], np.float32), sigma) for one in found.data]
        )
        found = replace(found, data=blurred, kind="heatmap")
    return pick(found, PickConfig(threshold=1e-3, border=0.0)).sorted()


def recalls(found: Particles, true: Particles) -> dict[str, float]:
    """Recall at each budget, and their mean."""
    table = {f"recall_{n}x": recall(found, true, n) for n in BUDGETS}
    return table | {"recall": round(float(np.mean(list(table.values()))), 5)}


def recall(found: Particles, true: Particles, budget: int) -> float:
    """Share of the true particles that the best candidates match, *budget* for each of them."""
    if not len(true):
        raise ValueError("there is nothing to be found")
    best = found.sorted().take(np.arange(min(len(found), budget * len(true))))
    return round(len(greedy(best.positions, true.positions, MATCH, best.scores)) / len(true), 5)


REAL = RealSuite(
    "uda-real",
    "Adaptation from a simulated likeness to a real tomogram: recall of ribosomes",
    rows,
    likeness=True,
)
