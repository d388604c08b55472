"""Make a candidate of `benchmarks/embedded.py` the model that comes with the package.

Its thresholds and the calibration of its scores are fitted on 18 simulated tomograms: three of each choice world, drawn with another
seed, and three of each of the presets `toy`, `cell` and `shrec2021-slab`, the latter two in smaller boxes. Every peak is a particle or not. The
threshold is the same for all sizes, the one with the highest mean F1 over the tomograms. Thresholds and calibration of a selected size
(`--species NAME=RADIUS`) are fitted likewise; there a pick is right on a particle of about this size, and wrong on others.
The fingerprint of the 18 tomograms tells where the probabilities hold: `find` compares others with it.
The file in the package holds what a search needs, and of the training only its length.

    python benchmarks/embed.py CANDIDATE.safetensors --work DIR        # about ten processor minutes
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.benchmark.tomograms import in_tomogram
from cryovox.core.particles import Particles, Species, concatenate
from cryovox.data.channels import size_species
from cryovox.formats import scores as score_files
from cryovox.metrics.fingerprint import Domain, fingerprint, limit, sample_cubes
from cryovox.metrics.matching import greedy
from cryovox.models.card import EMBEDDED, Card, model_file
from cryovox.models.checkpoint import load_model, save_model
from cryovox.picking import PickConfig, pick
from cryovox.picking.calibration import Calibration, Peaks, SizeCalibration, calibrate
from cryovox.picking.selection import select
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.presets import PRESETS, SHREC_2021
from cryovox.workflows.inputs import IDENTITY, prepare
from cryovox.workflows.manifest import sha256
from cryovox.workflows.training.stream_config import STREAMS
from embedded import MIN_DISTANCE, MIN_SCORE, WORLDS, World, candidate, metrics, open_world

Found = list[tuple[Particles, World]]
"""Picks in worlds."""


def smaller(preset: str, shape: tuple[int, int, int], counts: dict[str, int]) -> SimulationConfig:
    """A preset in a smaller box."""
    config = PRESETS[preset]
    scene = config.scene.model_copy(update={"shape": shape, "counts": counts})
    return config.model_copy(update={"scene": scene})


SEED, TOMOGRAMS = 9_411, 3
"""Of the tomograms for thresholds and calibration; one of each world left the threshold open within 0.1."""
PRESET_WORLDS = {
    "toy": lambda: PRESETS["toy"],
    "cell": lambda: smaller(
        "cell", (96, 128, 128), {k: v // 3 for k, v in PRESETS["cell"].scene.counts.items()}
    ),
    "shrec2021": lambda: smaller("shrec2021-slab", (64, 160, 160), dict.fromkeys(SHREC_2021, 6)),
}
LIMITS = (
    "the embedded model was trained on simulations only; in the real tomogram that it was tried on, only"
    " --species ribosome=125 --by-contrast ranked ribosomes better than a blob picker; look at the picks, or train"
    " on a few of your own"
)
TILE, OVERLAP = 64, 0.25
"""Half of the time of the tiles of the training, at equal scores (`embedded_tiles.py`)."""
SHARE, ALIKE = 0.85, 1.6
"""Radius of a particle as a share of its largest extent, and largest ratio of radii that are about the same."""
CUTS = np.round(np.arange(0.05, 0.8, 0.01), 2)
KEPT = ("strategy", "steps", "seconds", "seed")
"""Facts on the training that the file keeps."""


def f1_at(picks: Particles, world: World, cut: float) -> float:
    """F1 of the picks at or above a score."""
    kept = picks.take(picks.scores >= cut)
    hits = len(greedy(kept.positions, world.truth.positions, world.tolerance, kept.scores))
    return 2 * hits / max(1, len(kept) + len(world.truth))


def by_tomogram(picks: Particles, world: World) -> list[tuple[Particles, Particles, Any]]:
    """Picks, particles and tolerances of each tomogram."""
    assert world.truth.tomograms is not None
    names = np.unique(world.truth.tomograms)
    return [
        (
            picks.within(str(name)),
            world.truth.within(str(name)),
            world.tolerance[world.truth.tomograms == name],
        )
        for name in names
    ]


def peaks_of(found: Found, species: tuple[Species, ...]) -> dict[str, Peaks]:
    """Peaks by the class that the model gives them; particles count in the class of their peak."""
    scores: dict[str, list[float]] = {kind.name: [] for kind in species}
    truth: dict[str, list[float]] = {kind.name: [] for kind in species}
    total, hits = 0, 0
    for all_picks, world in found:
        for picks, particles, tolerance in by_tomogram(all_picks, world):
            is_hit = np.zeros(len(picks), bool)
            is_hit[greedy(picks.positions, particles.positions, tolerance, picks.scores).predicted] = True
            total, hits = total + len(particles), hits + int(is_hit.sum())
            for kind in species:
                of_kind = picks.species == kind.name
                scores[kind.name] += [float(value) for value in picks.scores[of_kind]]
                truth[kind.name] += [float(value) for value in is_hit[of_kind]]
    peaks = {}
    for kind in species:
        own = int(sum(truth[kind.name]))
        count = round(own * total / max(1, hits))  # the missed ones are shared out in proportion
        peaks[kind.name] = Peaks(
            scores=scores[kind.name], truth=truth[kind.name], particles=count, hits=own, floor=MIN_SCORE
        )
    return peaks


def best_cut(found: Found) -> float:
    """Threshold with the highest mean F1."""
    means = [np.mean([f1_at(picks, world, cut) for picks, world in found]) for cut in CUTS]
    return float(CUTS[int(np.argmax(means))])


def of_size(kind: Species, world: World, folder: Path) -> tuple[Particles, World]:
    """Picks of one size in the tomograms of a world, and the world with its particles of about this size only."""
    lists = []
    for entry in world.dataset.split("test"):
        maps = score_files.read(folder / "scores" / f"{entry.tomogram.stem}.zarr")
        picks = pick(select(maps, [kind.name]), PickConfig(threshold=MIN_SCORE, border=0.0))
        lists.append(in_tomogram(picks, entry.name))
    extents = {one.name: SHARE * one.radius for one in world.dataset.species}
    ratios = np.array([extents[str(name)] / kind.radius for name in world.truth.species])
    alike = np.maximum(ratios, 1 / ratios) <= ALIKE
    tolerance = np.full(int(alike.sum()), max(MIN_DISTANCE, kind.radius / 2))
    return concatenate(lists), World(world.dataset, world.truth.take(alike), tolerance)


def size_calibrations(worlds: dict[Path, World], species: tuple[Species, ...]) -> dict[str, SizeCalibration]:
    """Of each size; the threshold is the same for all, from the worlds that have particles of the size."""
    found, peaks = [], {}
    for kind in species:
        pairs = [of_size(kind, world, folder) for folder, world in worlds.items()]
        pairs = [(picks, own) for picks, own in pairs if len(own.truth)]
        found += pairs
        peaks |= peaks_of(pairs, (kind,))
        print(kind.name, [(len(own.truth), metrics(picks, own)) for picks, own in pairs], flush=True)
    fitted, threshold = calibrate(peaks, "held-out"), best_cut(found)
    if fitted is None:
        return {}
    return {name: SizeCalibration(scores=own, threshold=threshold) for name, own in fitted.species.items()}


def domain(worlds: dict[Path, World], card: Card) -> Domain:
    """Fingerprint of the tomograms as the model sees them, and the distance within which others are alike."""
    paths = [entry.tomogram for world in worlds.values() for entry in world.dataset.split("test")]
    seen = [prepare(path, card, None, "dark", resample=True) for path in paths if path is not None]
    cubes = [sample_cubes(tomogram.volume.data, IDENTITY) for tomogram in seen]
    together = fingerprint(np.concatenate(cubes), card.voxel_size)
    return Domain(fingerprint=together, limit=limit(cubes, card.voxel_size))


def card_of(card: Card, found: Found, worlds: dict[Path, World], species: tuple[Species, ...]) -> Card:
    """The card with thresholds and calibration, and the few facts on the training that matter to users."""
    threshold = best_cut(found)
    calibration: Calibration | None = calibrate(peaks_of(found, species), "held-out")
    if calibration is not None:
        calibration = calibration.model_copy(update={"sizes": size_calibrations(worlds, species)})
    return card.model_copy(
        update={
            "species": species,
            "thresholds": {kind.name: threshold for kind in species},
            "calibration": None if calibration is None else calibration.model_dump(mode="json"),
            "calibration_domain": domain(worlds, card).model_dump(mode="json"),
            "training": {key: card.training[key] for key in KEPT if key in card.training},
            "warnings": (LIMITS,),
        }
    )


def main() -> None:
    """Fit thresholds and calibration, and write the file into the package."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("candidate", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of the tomograms")
    args = parser.parse_args()
    network, card = load_model(args.candidate)
    species = size_species(STREAMS["embedded"].sizes)
    if [kind.name for kind in species] != [kind.name for kind in card.species]:
        raise SystemExit(f"{args.candidate} has other sizes: {', '.join(k.name for k in card.species)}")
    card = card.model_copy(update={"species": species, "patch": TILE, "overlap": OVERLAP})
    sized = args.work / "candidate.safetensors"
    args.work.mkdir(parents=True, exist_ok=True)
    save_model(sized, network, card)
    found, worlds = [], {}
    for name, make in (WORLDS | PRESET_WORLDS).items():
        world = open_world(make(), args.work / name, count=TOMOGRAMS, seed=SEED)
        picks = candidate(world, sized, args.work / f"{name}-scored", "cpu")
        found.append((picks, world))
        worlds[args.work / f"{name}-scored"] = world
        print(name, len(world.truth), metrics(picks, world), flush=True)
    embedded = card_of(card, found, worlds, species)
    path = model_file(EMBEDDED)
    path.parent.mkdir(exist_ok=True)
    save_model(path, network, embedded)
    print(
        f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, thresholds {embedded.thresholds}, {sha256(path)}"
    )


if __name__ == "__main__":
    main()
