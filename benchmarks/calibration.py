"""Probabilities and false discovery rates of a model in simulated worlds that its training does not have.

A model is trained on simulated tomograms and calibrated on the part that training holds out. It then picks in
tomograms of other simulator settings: SNR, crowding, microscope, and species that it does not know. Printed for each
world: the calibration error of the probabilities (ECE: mean difference between probability and frequency over ten
intervals, weighted by peaks) with and without the share of particles estimated in each tomogram, and the true share of
false picks at predicted ones of 5, 10 and 20 %, by decoys with the power beside strong picks and with all power, by
probabilities, and as `--fdr` chooses between the first and the last, by the domain distance of the tomogram and by what is found in noise. The same in
all tomograms but the first, before and after decisions on candidates of the first (`find --curated`). In phase-randomized noise: the share of runs with
any pick.

    python benchmarks/calibration.py --work DIR                     # three seeds, about 1.5 processor hours
    python benchmarks/calibration.py --work DIR --model MODEL       # a model of your own, for the same species
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import write_result
from cryovox.benchmark.suite import Budget, Job, Method
from cryovox.benchmark.tomograms import stand_in
from cryovox.benchmark.training import train
from cryovox.core.dataset import Dataset
from cryovox.core.particles import Particles
from cryovox.core.volume import ScoreMap
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_volume, scores, write_volume
from cryovox.inference.phase_noise import phase_randomized
from cryovox.metrics.matching import greedy
from cryovox.picking import PickConfig
from cryovox.picking.calibration import estimated_prior, probabilities
from cryovox.picking.curation import Curated, Curation, recalibrate
from cryovox.picking.rated import Decoys, calibration_of, candidates, pick_rated
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.presets import PRESETS
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.inputs import calibration_finding
from cryovox.workflows.manifest import Manifest
from cryovox.workflows.noise_control import NoiseControl
from cryovox.workflows.segment import segment

RATES = (0.05, 0.1, 0.2)
ESTIMATES = ("decoys", "decoys of all power", "probabilities", "chosen")
COUNTS = {"ribosome-80s": 24, "proteasome-20s": 60}
SNR = 0.3
SHAPE, VOXEL_SIZE = (48, 96, 96), 20.0
BINS, CROWD = 10, 2.5
Floats = NDArray[np.float64]
WORLDS: dict[str, dict[str, Any]] = {
    "as trained": {},
    "half the SNR": {"snr": SNR / 2},
    "twice the SNR": {"snr": 2 * SNR},
    "crowded": {"scale": CROWD},
    "sparse": {"scale": 0.25},
    "other microscope": {"tilt": 45, "defocus": (2.0, 3.0)},
    "unknown species": {"others": {"tric": 30, "thyroglobulin": 40}},
    "crowded, noise as trained": {"scale": CROWD, "snr": CROWD * SNR},
}
"""What differs from the training. The SNR compares the variances of whole images, which grow with the number of particles."""
DECISIONS, INSPECTED = 40, 0.02
"""Decisions on each species, and the probability from which its candidates are inspected."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A tomogram that a model has searched: scores, candidates in noise of both kinds, and the truth."""

    scores: ScoreMap
    decoys: Decoys
    whole: Decoys
    truth: Particles
    radii: dict[str, float]
    transfers: bool


def simulation(
    snr: float = SNR,
    scale: float = 1.0,
    tilt: float = 60,
    defocus: tuple[float, float] = (3.0, 5.0),
    others: dict[str, int] | None = None,
) -> SimulationConfig:
    """Settings of a world."""
    counts = {name: max(1, round(scale * n)) for name, n in COUNTS.items()} | (others or {})
    toy = PRESETS["toy"]
    scene = {"shape": SHAPE, "voxel_size": VOXEL_SIZE, "counts": counts}
    tilts = {"range": (-tilt, tilt), "defocus": defocus}
    return toy.model_copy(
        update={
            "species": tuple(counts),
            "snr": snr,
            "scene": toy.scene.model_copy(update=scene),
            "tilts": toy.tilts.model_copy(update=tilts),
        }
    )


def search(
    model: Path, files: list[Path], out: Path, seed: int
) -> Iterator[tuple[str, ScoreMap, Decoys, Decoys, bool]]:
    """Scores of a model in tomograms and in as much noise, and whether they are like the training.

    Noise has the power beside strong picks, and that of the whole tomogram.
    """
    names, failures = segment(files, model, out, SegmentConfig(), device="cpu", collect=True)
    for name, error in failures.items():
        raise RuntimeError(f"{name}: {error}")
    control = NoiseControl(model, out, SegmentConfig(), PickConfig(), seed, "cpu")
    for name in names:
        entry = Manifest(out, {}).entries[name]
        score_map = scores.read(out / "scores" / f"{name}.zarr")
        whole, _ = control.run(name, entry, 1.0)
        decoys, record = control.run(name, entry, 1.0, pool=candidates(score_map, PickConfig()))
        Manifest(out, {}).write({name: {"noise": record}})
        path = Path(entry["key"]["input"])
        transfer = calibration_finding(read_volume(path), control.card, path)
        transfers = transfer is not None and transfer.level == "ok"
        yield name, score_map, decoys, whole, transfers


def searched(model: Path, dataset: Dataset, known: set[str], out: Path, seed: int) -> list[Scored]:
    """The test tomograms of a world with the particles of the known species."""
    entries = {entry.name: entry for entry in dataset.split("test")}
    radii = {kind.name: kind.radius for kind in dataset.species}
    tomograms = [entry.tomogram for entry in entries.values()]
    results = []
    for name, score_map, decoys, whole, transfers in search(model, tomograms, out, seed):
        _, particles = dataset_files.load_annotations(entries[name], dataset)
        assert particles is not None
        truth = particles.take(np.isin(particles.species, list(known)))
        results.append(Scored(score_map, decoys, whole, truth, radii, transfers))
    return results


def hits(picks: Particles, one: Scored, name: str) -> NDArray[np.bool_]:
    """Which picks of a species are particles."""
    own, true = picks.named(name), one.truth.named(name)
    found = np.zeros(len(own), bool)
    found[greedy(own.positions, true.positions, one.radii[name], own.scores).predicted] = True
    return found


def peaks(
    world: list[Scored], *, adapted: bool = True, curation: Curation | None = None
) -> tuple[Floats, NDArray[np.bool_]]:
    """Probability of every candidate of the calibrated species, and whether it is a particle."""
    chance, truth = [np.zeros(0)], [np.zeros(0, bool)]
    for one in world:
        calibration = calibration_of(one.scores) if curation is None else curation.calibration
        pool = candidates(one.scores, PickConfig())
        assert calibration is not None
        for name, own in calibration.species.items():
            values = pool.named(name).scores
            prior = estimated_prior(own, values) if adapted else None
            chance.append(probabilities(own, values, prior))
            truth.append(hits(pool, one, name))
    return np.concatenate(chance), np.concatenate(truth)


def calibration_error(probability: Floats, truth: NDArray[np.bool_]) -> float:
    """Expected calibration error."""
    which = np.clip((probability * BINS).astype(int), 0, BINS - 1)
    gaps = [abs(float((probability - truth)[which == b].sum())) for b in range(BINS)]
    return sum(gaps) / max(1, len(truth))


def decided(one: Scored) -> Curation:
    """Calibration after right decisions on candidates of a tomogram, spread evenly over their ranks."""
    calibration, pool = calibration_of(one.scores), candidates(one.scores, PickConfig())
    assert calibration is not None
    curated = {}
    for name, own in calibration.species.items():
        values, truth = np.asarray(pool.named(name).scores, np.float64), hits(pool, one, name)
        ranked = np.argsort(-values)[: np.count_nonzero(probabilities(own, values) >= INSPECTED)]
        chosen = ranked[np.linspace(0, max(0, len(ranked) - 1), min(DECISIONS, len(ranked))).astype(int)]
        judged = np.full(len(values), np.nan)
        judged[chosen] = truth[chosen]
        curated[name] = [Curated(values, judged)]
    return recalibrate(calibration, curated)


def kept(one: Scored, rate: float, estimate: str, curation: Curation | None = None) -> Particles:
    """Picks at a predicted false discovery rate."""
    trusted = {"probabilities": True, "chosen": one.transfers}.get(estimate, False)
    decoys = {"decoys of all power": one.whole, "probabilities": None}.get(estimate, one.decoys)
    settings = {"fdr": rate, "decoys": decoys, "trusted": trusted, "curation": curation}
    return pick_rated(one.scores, PickConfig(), **settings).picks


def false_share(
    world: list[Scored], rate: float, estimate: str, curation: Curation | None = None
) -> dict[str, float | int | None]:
    """True share of false picks of all species and tomograms of a world, and the number of picks."""
    right = count = 0
    for one in world:
        picks = kept(one, rate, estimate, curation)
        count += len(picks)
        right += sum(int(hits(picks, one, name).sum()) for name in COUNTS)
    particles = sum(len(one.truth) for one in world)
    return {
        "picks": count,
        "false": round(1 - right / count, 4) if count else None,
        "recall": round(right / particles, 4),
    }


def curated(world: list[Scored]) -> dict[str, Any]:
    """Calibration error and false picks in all tomograms but the first, before and after decisions on the first."""
    first, *rest = world
    result: dict[str, Any] = {}
    for label, curation in (("before", None), ("after", decided(first))):
        shares = {f"{rate:g}": false_share(rest, rate, "chosen", curation) for rate in RATES}
        error = round(calibration_error(*peaks(rest, curation=curation)), 4)
        result[label] = {"ece": error, "false picks": shares}
    return result


def noise_runs(model: Path, dataset: Dataset, out: Path, count: int, seed: int) -> dict[str, Any]:
    """Share of noise volumes in which anything is picked at each rate."""
    entries, files = list(dataset.split("test")), []
    for number in range(count):
        source = read_volume(entries[number % len(entries)].tomogram)
        rng = np.random.default_rng([seed, number, 1])
        path = out / "noise_tomograms" / f"noise_{number:02d}.mrc"
        data = phase_randomized(np.asarray(source.data, np.float32), rng)
        write_volume(path, source.with_data(data))
        files.append(path)
    runs: dict[str, list[int]] = {}
    radii = {kind.name: kind.radius for kind in dataset.species}
    for _, score_map, decoys, whole, transfers in search(model, files, out / "noise", seed):
        one = Scored(score_map, decoys, whole, Particles.of(np.zeros((0, 3)), []), radii, transfers)
        for rate in RATES:
            for estimate in ESTIMATES:
                runs.setdefault(f"{estimate} at {rate:g}", []).append(len(kept(one, rate, estimate)))
    return {name: {"runs": len(n), "with picks": int(np.count_nonzero(n))} for name, n in runs.items()}


def run_seed(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train and score in all worlds."""
    folder = args.work / f"seed{seed}"
    dataset, _ = stand_in(folder / "training", simulation(), args.training, 1, seed=100 * seed)
    model = args.model
    if model is None:
        method = Method("supervised", "heatmap-unet", train={"validation.held_out": 0.25})
        job = Job(method, Budget(time=args.time), seed)
        model = train(job, folder / "training", folder, "cpu")
    result: dict[str, Any] = {"seed": seed, "worlds": {}}
    for number, (name, changes) in enumerate(WORLDS.items(), start=1):
        if args.worlds and name not in args.worlds:
            continue
        data, _ = stand_in(folder / name, simulation(**changes), 0, args.tomograms, seed=100 * seed + number)
        world = searched(model, data, set(COUNTS), folder / f"{name}, found", seed)
        errors = {
            label: round(calibration_error(*peaks(world, adapted=adapted)), 4)
            for label, adapted in (("ece", True), ("ece, share of the training", False))
        }
        shares = {f"{e} at {rate:g}": false_share(world, rate, e) for e in ESTIMATES for rate in RATES}
        transfers = sum(one.transfers for one in world)
        result["worlds"][name] = errors | {"like the training": transfers, "false picks": shares}
        result["worlds"][name]["decisions"] = curated(world)
        print(f"seed {seed}, {name}: {errors}, {transfers} of {len(world)} like the training", flush=True)
        for label, row in (shares | result["worlds"][name]["decisions"]).items():
            print(f"   {label}: {row}", flush=True)
    result["noise"] = noise_runs(model, dataset, folder, args.noise, seed)
    print(f"seed {seed}, noise: {result['noise']}", flush=True)
    return result


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Largest calibration error, and differences between predicted and true shares of false picks."""
    worlds = [(name, row) for run in runs for name, row in run["worlds"].items()]
    table: dict[str, Any] = {"largest ece": max(row["ece"] for _, row in worlds)}
    for estimate in ESTIMATES:
        gaps = [
            row["false picks"][f"{estimate} at {rate:g}"]["false"] - rate
            for _, row in worlds
            for rate in RATES
            if row["false picks"][f"{estimate} at {rate:g}"]["false"] is not None
        ]
        table[estimate] = {
            "compared": len(gaps),
            "above by more than 5 points": int(np.sum(np.array(gaps) > 0.05)),
            "below by more than 5 points": int(np.sum(np.array(gaps) < -0.05)),
            "mean difference": round(float(np.mean(gaps)), 4) if gaps else None,
        }
    return table


def main() -> None:
    """Measure, print and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--model", type=Path, help="model file; by default one is trained for each seed")
    parser.add_argument("--time", default="8m", help="processor time of a training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--training", type=int, default=4, help="training tomograms")
    parser.add_argument("--tomograms", type=int, default=4, help="test tomograms of a world")
    parser.add_argument("--noise", type=int, default=20, help="volumes of pure noise")
    parser.add_argument("--worlds", nargs="+", choices=tuple(WORLDS), help="by default all")
    parser.add_argument("--name", default="calibration", help="of the result file; empty writes none")
    args = parser.parse_args()
    runs = [run_seed(args, seed) for seed in range(args.seeds)]
    table = summary(runs)
    print(table)
    settings = {"time": args.time, "training": args.training, "tomograms": args.tomograms, "snr": SNR}
    settings |= {"decisions": DECISIONS}
    if args.name:
        print(write_result(args.name, {"settings": settings, "summary": table, "runs": runs}))


if __name__ == "__main__":
    main()
