"""Suites on a real tomogram: adaptation from simulations, and semi-supervised picking of ribosomes.

The tomogram (half of one of EMPIAR-11658, `real_tomograms` of the test data) is split at y = 160 of 256
voxels; the part below is for training, the part above for testing. Its picks are about a third of the
ribosomes, so the metric is recall at 1 to 4 candidates per pick, matched one to one within 100 Å. No detector
can find more than about a third of the picks with 1 candidate and two thirds with 2, so 3 and 4 decide
(`benchmarks/real_likeness.py`). A simulated tomogram replaces it without the test data and in the tier
`smoke`.
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

from cryovox.benchmark.adaptation.suite import (
    AdaptationMethod,
    AdaptationSuite,
    MethodsOfSize,
    SubsetScores,
    TrainingData,
    smoke_plan,
    uda_methods,
)
from cryovox.benchmark.adaptation.tomograms import data_folder
from cryovox.benchmark.picking import single_species
from cryovox.benchmark.semi.methods import NETWORK, PickingMethod, semi_methods
from cryovox.benchmark.semi.suite import Labels, SemiSuite, label_amounts, write_protocol
from cryovox.benchmark.suite import Budget, Plan, Scores, Tier
from cryovox.benchmark.tomograms import true_particles
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
TRAINING_SHARE = 160 / 256
"""Share of the tomogram in y that is used for training."""
MATCH_DISTANCE = 100.0
"""In Å."""
CANDIDATES = (1, 2, 3, 4)
"""Candidates per true particle."""
HEADLINES = ("recall_3x_4x", "recall_4x", "recall_2x", "recall_1x")
COUNTS = {RIBOSOME: 400, "fatty-acid-synthase": 250, "proteasome-26s": 300, "tric": 500}
"""In a slab of 59 x 256 x 128 voxels; an estimate, as in `benchmarks/simulator_match.py`."""
SIMULATED_TOMOGRAMS: dict[Tier, int] = {"smoke": 1, "cpu": 2, "gpu": 6}
WITHOUT_LABELS = "difference-of-Gaussians picker, default settings"
WITH_LABELS = "difference-of-Gaussians picker, settings selected on labels"
PICKS = ("10 picks", "30 picks", "64 picks")
LABELS: Labels = {"smoke": PICKS[:1], "cpu": PICKS, "gpu": PICKS}


@dataclass(frozen=True, eq=False)
class RealTomogram:
    """A tomogram with picks, split along y."""

    tomogram: Path
    picks: Particles
    dark: bool = True

    @property
    def volume(self) -> Volume:
        return read_volume(self.tomogram)

    @property
    def cut(self) -> int:
        """First plane of y of the test part, in voxels."""
        return round(TRAINING_SHARE * self.volume.shape[1])

    def part(self, above: bool, particles: Particles | None = None) -> Particles:
        """The picks, or other particles, of the training part or of the test part (*above*)."""
        particles = self.picks if particles is None else particles
        return particles.take((particles.positions[:, 1] / self.volume.voxel_size >= self.cut - 0.5) == above)


class RealSuite(AdaptationSuite):
    """Adaptation from simulated tomograms: recall of ribosomes by number of candidates.

    Parameters
    ----------
    methods
        Function that returns the methods of a size.
    matched
        Whether the simulated source imitates the training part of the tomogram.
    """

    source = "our own protocol"
    headlines = HEADLINES
    selection_metric = "recall_3x_4x"

    def __init__(self, name: str, title: str, methods: MethodsOfSize, *, matched: bool) -> None:
        self.name, self.title, self.methods, self.matched = name, title, methods, matched

    def plan(self, tier: Tier) -> Plan:
        if tier == "smoke":
            return smoke_plan(self.methods("s"))
        return Plan(self.methods("s"), (Budget(time="4m" if tier == "cpu" else "9m"),))

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        from cryovox.workflows.simulation.dataset import simulate_dataset
        from cryovox.workflows.simulation.tomogram import Keep

        real, description = load_or_simulate(folder, tier, data)
        write_split(folder, real)
        config = crowded_cytosol(real.volume)
        keep = Keep(clean=False, instances=False, series=False)
        simulations, target = folder / "simulated", folder / "target" / "part.mrc"
        count = SIMULATED_TOMOGRAMS[tier]
        match = target if self.matched else None
        simulate_dataset(simulations, config, count=count, seed=11, match=match, keep=keep)
        source = single_species(dataset_files.read(simulations), RIBOSOME, folder / "source" / "masks")
        dataset_files.write(folder / "source", source)
        counts = {"learned_picks": len(real.part(above=False)), "tested_picks": len(real.part(above=True))}
        return {"tomogram": description, "cut": real.cut, "likenesses": count, **counts}

    def training_data(self, method: AdaptationMethod, folder: Path) -> TrainingData:
        return TrainingData(folder / "source", (folder / "target" / "part.mrc",), folder / "labelled")

    def score(
        self, model: Path, method: AdaptationMethod, folder: Path, out: Path, device: Device
    ) -> SubsetScores:
        return {"": model_recalls(read_split(folder), model, out, device)}

    def references(self, folder: Path) -> dict[str, Scores]:
        """The difference-of-Gaussians picker with default settings and with settings selected on labels."""
        return {name: {"chosen": row} for name, row in dog_pickers(read_split(folder)).items()}


class RealSemiSuite(SemiSuite):
    """Picking from few picks of the training part: recall of ribosomes by number of candidates."""

    headlines = HEADLINES
    source = "our own protocol"

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        real, description = load_or_simulate(folder, tier, data)
        write_split(folder, real)
        write_protocol(folder, self.labels[tier], trained=1)
        learned, tested = len(real.part(above=False)), len(real.part(above=True))
        counts = {labels: min(int(labels.split()[0]), learned) for labels in self.labels[tier]}
        return {"tomogram": description, "cut": real.cut, "labels": counts, "tested": tested}

    def draw(self, folder: Path, labels: str, seed: int, out: Path) -> Dataset:
        real = read_split(folder)
        picks, path = real.part(above=False), out / "particles.csv"
        order = np.random.default_rng(seed).permutation(len(picks))[: int(labels.split()[0])]
        write_particles(path, picks.take(np.sort(order)), tomogram=real.volume)
        write_entry(out, real, "known", path, Box(y=(0, real.cut)), exhaustive=False)
        return dataset_files.read(out)

    def complete(self, folder: Path, seed: int) -> Dataset:
        return dataset_files.read(folder / "labelled")

    def score(self, folder: Path, model: Path, out: Path, device: Device) -> dict[str, float]:
        return model_recalls(read_split(folder), model, out, device)

    def references(self, folder: Path) -> dict[str, Scores]:
        """The difference-of-Gaussians picker with default settings and with settings selected on labels."""
        amounts = label_amounts(folder)
        return {name: dict.fromkeys(amounts, row) for name, row in dog_pickers(read_split(folder)).items()}


def model_recalls(real: RealTomogram, model: Path, out: Path, device: Device) -> dict[str, float]:
    """Recalls of a model in the test part."""
    from cryovox.workflows.segment import segment

    segment([real.tomogram], model, out, device=device)
    scores = score_files.read(out / "scores" / f"{stem(real.tomogram)}.zarr")
    return recalls(real.part(above=True, particles=find_peaks(scores)), real.part(above=True))


def dog_pickers(real: RealTomogram) -> dict[str, dict[str, float]]:
    """Recalls in the test part, with default settings and with those selected on the training part."""
    volume, sign = real.volume, -1 if real.dark else 1
    data = np.asarray(volume.data)

    def recall(above: bool, sigma: float, ratio: float, distance: float) -> dict[str, float]:
        blobs = dog(data, volume.voxel_size, sigma, ratio=ratio, sign=sign, distance=distance)
        return recalls(real.part(above, blobs), real.part(above))

    grid = list(product((1.0, 2.0, 3.0), (1.3, 1.6, 2.0), (100.0, 150.0, 200.0)))
    best = max(grid, key=lambda settings: recall(False, *settings)["recall_3x_4x"])
    default = (RADIUS / volume.voxel_size / 2, 1.6, 150.0)
    return {WITHOUT_LABELS: recall(True, *default), WITH_LABELS: recall(True, *best)}


def load_or_simulate(folder: Path, tier: Tier, data: Path | None) -> tuple[RealTomogram, str]:
    """The user's tomogram, that of the test data, or a simulated one, and its description."""
    if data is not None:
        return first_with_picks(data), data.name
    test_data = data_folder("real_tomograms")
    if test_data is None or tier == "smoke":
        return simulate_stand_in(folder), "simulated: preset toy in another sampling, taken for real"
    tomogram = test_data / "tomo_171_xlow_31.36A.mrc.gz"
    picks = read_unique_picks(test_data / "tomo_171_xlow_80S_angstrom.csv")
    return RealTomogram(tomogram.resolve(), picks), "EMPIAR-11658, tomo_171, half of it"


def first_with_picks(data: Path) -> RealTomogram:
    """The first entry of a dataset with particles, whatever their species is called."""
    for entry in dataset_files.read(data).entries:
        if entry.particles is not None:
            picks = read_particles(entry.particles, tomogram=read_volume(entry.tomogram))
            ribosomes = Particles.of(picks.positions, RIBOSOME)
            return RealTomogram(entry.tomogram.resolve(), ribosomes, dark=entry.contrast != "bright")
    raise RequestError(data, "has no entry with particles", "give a tomogram with its ribosomes")


def read_unique_picks(path: Path) -> Particles:
    """Picks x, y, z in Å, without duplicates within 10 Å (the file has one)."""
    with path.open(encoding="utf-8") as file:
        rows = [[float(r[axis]) for axis in "zyx"] for r in csv.DictReader(file)]
    unique: list[list[float]] = []
    for row in rows:
        if all(np.linalg.norm(np.subtract(row, other)) > 10 for other in unique):
            unique.append(row)
    return Particles.of(unique, RIBOSOME)


def simulate_stand_in(folder: Path) -> RealTomogram:
    """A simulated tomogram in place of the real one."""
    from cryovox.workflows.simulation.dataset import simulate_dataset
    from cryovox.workflows.simulation.tomogram import Keep

    config = PRESETS["toy"]
    scene = config.scene.model_copy(
        update={"shape": (32, 96, 64), "voxel_size": 30.0, "counts": {RIBOSOME: 40, "proteasome-20s": 40}}
    )
    tilts = config.tilts.model_copy(update={"range": (-50.0, 50.0), "defocus": (6.0, 6.0)})
    config = config.model_copy(update={"scene": scene, "tilts": tilts})
    keep = Keep(clean=False, instances=False, series=False)
    simulate_dataset(folder / "pretended", config, seed=5, split=["test"], keep=keep)
    dataset = dataset_files.read(folder / "pretended")
    picks = true_particles(dataset).named(RIBOSOME)
    return RealTomogram(dataset.entries[0].tomogram.resolve(), Particles.of(picks.positions, RIBOSOME))


def write_split(folder: Path, real: RealTomogram) -> None:
    """Write the unlabeled training part, the labeled one for the upper bound, and all picks."""
    volume = real.volume
    part = Volume(np.ascontiguousarray(np.asarray(volume.data)[:, : real.cut]), volume.voxel_size)
    write_volume(folder / "target" / "part.mrc", part)
    for name, picks, box in (
        ("labelled", real.part(above=False), Box(y=(0, real.cut))),
        ("truth", real.picks, Box()),
    ):
        path = folder / name / "particles.csv"
        write_particles(path, picks, tomogram=volume)
        write_entry(folder / name, real, name, path, box)


def write_entry(
    folder: Path, real: RealTomogram, name: str, picks: Path, box: Box, *, exhaustive: bool = True
) -> None:
    """Write a dataset with the tomogram, a box of it, and a particle list."""
    entry = Entry(
        name=name, tomogram=real.tomogram, particles=picks.resolve(), exhaustive=exhaustive, box=box,
        contrast="dark" if real.dark else "bright",
    )  # fmt: skip
    species = (Species(name=RIBOSOME, label=1, radius=RADIUS),)
    dataset_files.write(folder, Dataset(voxel_size=real.volume.voxel_size, species=species, entries=(entry,)))


def read_split(folder: Path) -> RealTomogram:
    """The tomogram that `write_split` wrote, with all picks."""
    return first_with_picks(folder / "truth")


def crowded_cytosol(volume: Volume) -> SimulationConfig:
    """Simulation of a crowded cytosol with the voxel size of the tomogram."""
    scene = PRESETS["toy"].scene.model_copy(
        update={
            "shape": (128, 256, 128),
            "voxel_size": volume.voxel_size,
            "slab": 59 * volume.voxel_size,
            "counts": COUNTS,
            "vesicles": VesicleConfig(count=3, radius=(300.0, 700.0)),
            "sheets": SheetConfig(count=2),
        }
    )
    return PRESETS["toy"].model_copy(update={"species": tuple(COUNTS), "scene": scene})


def find_peaks(scores: ScoreMap) -> Particles:
    """Peaks by decreasing score. Masks are smoothed first, so that balls peak at their center."""
    if scores.kind == "mask":
        sigma = RADIUS / scores.voxel_size / 2
        smoothed: NDArray[np.float32] = np.stack(
            [ndimage.gaussian_filter(np.asarray(channel[:], np.float32), sigma) for channel in scores.data]
        )
        scores = replace(scores, data=smoothed, kind="heatmap")
    return pick(scores, PickConfig(threshold=1e-3, border=0.0)).sorted()


def recalls(candidates: Particles, true: Particles) -> dict[str, float]:
    """Recall for each number of candidates, and the mean of the numbers that decide."""
    table = {f"recall_{n}x": recall(candidates, true, n) for n in CANDIDATES}
    return table | {"recall_3x_4x": round((table["recall_3x"] + table["recall_4x"]) / 2, 5)}


def recall(candidates: Particles, true: Particles, per_particle: int) -> float:
    """Share of the true particles that match one of the *per_particle* x n best candidates."""
    if not len(true):
        raise ValueError("the truth holds no particles")
    best = candidates.sorted().take(np.arange(min(len(candidates), per_particle * len(true))))
    return round(len(greedy(best.positions, true.positions, MATCH_DISTANCE, best.scores)) / len(true), 5)


def real_semi_methods(size: str) -> tuple[PickingMethod, ...]:
    """The methods of the suite `semi`, and supervised training with background presumed far from picks."""
    presumed = {"supervised.unknown": "background"}
    return (
        *semi_methods(size),
        PickingMethod("supervised, presumed background", NETWORK, size, train=presumed),
    )


UDA = RealSuite(
    "uda-real",
    "Adaptation from matched simulations to a real tomogram: recall of ribosomes",
    uda_methods,
    matched=True,
)

SEMI = RealSemiSuite(
    "semi-real",
    "Picking ribosomes of a real tomogram from few picks",
    "supervised",
    real_semi_methods,
    LABELS,
)
