"""A simulated likeness of the real tomogram, a third of whose ribosomes are labeled and all of which are known.

The picks of the real tomogram (`real_ribosomes.py`) are about a third of its ribosomes, so recall at 1 and 2
candidates per pick cannot exceed about 1/3 and 2/3. Here 380 ribosomes are simulated among other complexes and
membranes, matched to y < 160 of the real tomogram, and a random third of them is labeled. Detectors train on the labels
of y < 160 and are scored on y >= 160 twice: as the real tomogram is, by recall of the labeled ribosomes at 1 to 4
candidates per label, and by average precision and F1 over all ribosomes. The rank correlation of the two over the
detectors says which recall orders them rightly.

The detectors are treatments of the unlabeled voxels, with the settings of the suite `semi-real`, and
difference-of-Gaussians pickers. The simulation seed draws the tomogram, the labels and the weights.

    python benchmarks/real_likeness.py --work DIR        # about 25 processor minutes; resumes after an interruption
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import spearmanr

import simulator_match
from common import write_result
from cryovox.benchmark.real_tomogram import MATCH_DISTANCE, RADIUS, RIBOSOME, find_peaks, recall
from cryovox.benchmark.semi.methods import ALL_METHODS, NETWORK
from cryovox.benchmark.training import nested, shared_settings
from cryovox.core.config import validated
from cryovox.core.dataset import Box, Dataset, Entry
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume, write_particles, write_volume
from cryovox.formats import scores as score_files
from cryovox.metrics.bootstrap import interval
from cryovox.metrics.detection import average_precision, f_beta, precision_recall
from cryovox.picking.blobs import dog
from cryovox.simulate.realism.match import match_tomogram
from cryovox.simulate.realism.statistics import measure_statistics
from cryovox.workflows.config import SegmentConfig, TrainConfig
from cryovox.workflows.segment import segment
from cryovox.workflows.training.run import train
from simulator_match import SPLIT, TOMOGRAM, simulate_scene

SLAB = (34, 93)
"""Planes of z that hold particles, as measured on the real tomogram."""
RIBOSOMES = 380
LABELED = 1 / 3
CANDIDATES = (1, 2, 3, 4)
FULL = ("average_precision", "best_f1", "precision")
Settings = dict[str, Any]
UNLABELED = {"supervised.unlabeled_ratio": 2.0}
TREATMENTS: dict[str, Settings] = {
    "ignored": {},
    "ignored, three times the steps": {"loop.steps": 3},
    "ignored beyond 3 radii": {"patches.rim": 3.0},
    "background, weight 0.01": {"supervised.unknown": "background", "supervised.unlabeled_weight": 0.01},
    "background, weight 0.1": {"supervised.unknown": "background", "supervised.unlabeled_weight": 0.1},
    "background, weight 1": {"supervised.unknown": "background", "supervised.unlabeled_weight": 1.0},
    "background, weight 10": {"supervised.unknown": "background", "supervised.unlabeled_weight": 10.0},
    "positive-unlabeled risk": {"supervised.unknown": "pu", **UNLABELED},
    "labeled background, settings of real_ribosomes": {
        "exhaustive": True, "loop.steps": 1 / 2, "loop.batch": 8, "loop.lr": 2e-3, "loop.warmup": 30,
        "supervised.loss": "weighted-mse", "supervised.drop_block": 0.0, "augment.noise": 0.6, "augment.blur": 1.0,
    },
}  # fmt: skip
"""Name -> settings; the steps are a multiple of those of the other treatments, at batch 2."""
BLOBS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Widths of the difference-of-Gaussians pickers in voxels."""


@dataclass(frozen=True)
class Likeness:
    """A simulated tomogram with all of its particles, and those of its ribosomes that are labeled."""

    folder: Path

    @property
    def tomogram(self) -> Path:
        return self.folder / "likeness.mrc"

    @property
    def mask(self) -> Path:
        """Mask of the test part."""
        return self.folder / "test_part.mrc"

    @property
    def everything(self) -> Particles:
        return read_particles(self.folder / "everything.csv")

    @property
    def ribosomes(self) -> Particles:
        return self.everything.named(RIBOSOME)

    @property
    def labeled(self) -> Particles:
        return read_particles(self.folder / "labeled.csv")

    def tested(self, particles: Particles) -> Particles:
        """The particles of the test part, inside the slab."""
        z, y, _ = particles.positions.T / read_volume(self.tomogram).voxel_size
        return particles.take((z >= SLAB[0]) & (z < SLAB[1]) & (y >= SPLIT - 0.5))


def simulate_likeness(folder: Path, seed: int) -> Likeness:
    """Simulate a tomogram and draw the labeled ribosomes, once."""
    if not (folder / "labeled.csv").exists():
        volume = read_volume(TOMOGRAM)
        real = np.asarray(volume.data, np.float32)
        statistics = measure_statistics(real[:, :SPLIT], volume.voxel_size)
        simulator_match.COUNTS[RIBOSOME] = RIBOSOMES
        scene = simulate_scene(statistics, real.shape, seed)
        data = match_tomogram(-scene.clean.data, statistics, np.random.default_rng([seed, 1]))
        write_volume(folder / "likeness.mrc", Volume(data, volume.voxel_size))
        test_part = np.zeros(real.shape, np.int8)
        test_part[slice(*SLAB), SPLIT:] = 1
        write_volume(folder / "test_part.mrc", Volume(test_part, volume.voxel_size))
        write_particles(folder / "everything.csv", scene.particles)
        ribosomes = scene.particles.named(RIBOSOME)
        order = np.random.default_rng([seed, 2]).permutation(len(ribosomes))
        labeled = np.sort(order[: round(LABELED * len(ribosomes))])
        write_particles(folder / "labeled.csv", ribosomes.take(labeled))
    return Likeness(folder)


def train_treatment(likeness: Likeness, name: str, seed: int, common: Settings, folder: Path) -> Path:
    """Train on the labeled ribosomes of the training part; returns the model file."""
    own = dict(TREATMENTS[name])
    exhaustive = own.pop("exhaustive", False)
    entry = Entry(
        name="likeness", tomogram=likeness.tomogram.resolve(), box=Box(y=(0, SPLIT)), contrast="dark",
        particles=(likeness.folder / "labeled.csv").resolve(), exhaustive=exhaustive,
    )  # fmt: skip
    voxel = read_volume(likeness.tomogram).voxel_size
    species = (Species(name=RIBOSOME, label=1, radius=RADIUS),)
    folder.mkdir(parents=True, exist_ok=True)
    dataset_files.write(folder, Dataset(voxel_size=voxel, species=species, entries=(entry,)))
    options = shared_settings("cpu") | ALL_METHODS | {"supervised.loss": "auto", "seed": seed}
    options |= {"network.model": NETWORK, "network.size": "s"} | common | own
    options["loop.steps"] = round(own.get("loop.steps", 1) * common["loop.steps"])
    return train(folder, folder / "run", validated(TrainConfig, nested(options), Path(name)), device="cpu")


def full_truth(candidates: Particles, true: Particles) -> dict[str, float]:
    """Average precision and best F1 over all ribosomes, and precision with as many candidates as ribosomes."""
    precision, recalled, _ = precision_recall(candidates, true, MATCH_DISTANCE)
    best = max(f_beta(p, r, 1.0) for p, r in zip(precision, recalled, strict=True))
    return {
        "average_precision": average_precision(candidates, true, MATCH_DISTANCE),
        "best_f1": best,
        "precision": recall(candidates, true, 1),
    }


def composition(candidates: Particles, everything: Particles) -> dict[str, float]:
    """Shares of candidates at a ribosome, at another complex, and at neither (membranes, solvent)."""
    distance, nearest = KDTree(everything.positions).query(candidates.positions)
    at_ribosome = (distance <= MATCH_DISTANCE) & (everything.species[nearest] == RIBOSOME)
    at_other = (distance <= MATCH_DISTANCE) & ~at_ribosome
    return {
        "ribosome": at_ribosome.mean(),
        "other": at_other.mean(),
        "neither": (distance > MATCH_DISTANCE).mean(),
    }


def evaluate(candidates: Particles, likeness: Likeness) -> dict[str, Any]:
    """Scores of the candidates of the test part, best first."""
    candidates = likeness.tested(candidates).sorted()
    labeled, ribosomes = likeness.tested(likeness.labeled), likeness.tested(likeness.ribosomes)
    row = {f"recall_{n}x": recall(candidates, labeled, n) for n in CANDIDATES}
    row["recall_3x_4x"] = mean((row["recall_3x"], row["recall_4x"]))
    row["recall_of_all_candidates"] = recall(candidates, labeled, len(candidates))
    top = candidates.take(np.arange(min(len(candidates), CANDIDATES[-1] * len(labeled))))
    row |= full_truth(candidates, ribosomes)
    row |= {f"top_at_{k}": v for k, v in composition(top, likeness.everything).items()}
    return {"candidates": len(candidates), **{k: round(float(v), 4) for k, v in row.items()}}


def cap(likeness: Likeness) -> dict[str, float]:
    """Expected recall of a perfect detector, whose order of the ribosomes says nothing about the labels."""
    share = len(likeness.tested(likeness.labeled)) / len(likeness.tested(likeness.ribosomes))
    return {f"recall_{n}x": round(min(1.0, n * share), 4) for n in CANDIDATES}


def run_treatment(likeness: Likeness, name: str, seed: int, common: Settings, folder: Path) -> dict[str, Any]:
    """Train and score one treatment."""
    model = train_treatment(likeness, name, seed, common, folder)
    segment([likeness.tomogram], model, folder / "found", SegmentConfig(mask=likeness.mask), device="cpu")
    peaks = find_peaks(score_files.read(folder / "found" / "scores" / "likeness.zarr"))
    return evaluate(peaks, likeness)


def run_blobs(likeness: Likeness, sigma: float) -> dict[str, Any]:
    """Score a difference-of-Gaussians picker."""
    volume = read_volume(likeness.tomogram)
    blobs = dog(np.asarray(volume.data), volume.voxel_size, sigma, distance=150.0, species=RIBOSOME)
    return evaluate(blobs, likeness)


def kept(folder: Path, name: str, seed: int, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row of a detector: that of an earlier run, or a new one."""
    file = folder / "row.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(run()), encoding="utf-8")
    row = {"detector": name, "seed": seed, **json.loads(file.read_text(encoding="utf-8"))}
    print(row, flush=True)
    return row


def rank_correlations(rows: list[dict[str, Any]], seeds: list[int]) -> dict[str, dict[str, Any]]:
    """Spearman correlation over the detectors of every recall with every score of the full truth, by seed."""
    recalls = [f"recall_{n}x" for n in CANDIDATES] + ["recall_3x_4x"]
    table: dict[str, dict[str, Any]] = {}
    for name in recalls:
        for score in FULL:
            by_seed = []
            for seed in seeds:
                own = [r for r in rows if r["seed"] == seed]
                by_seed.append(round(float(spearmanr([r[name] for r in own], [r[score] for r in own])[0]), 4))
            table.setdefault(name, {})[score] = {"mean": round(mean(by_seed), 4), "by_seed": by_seed}
    return table


def main() -> None:
    """Run all detectors and write `results/real_likeness.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0, 1, 2],
        help="simulations, each with its labels and weights",
    )
    parser.add_argument("--steps", type=int, default=600, help="training steps")
    parser.add_argument("--patch", type=int, default=48, help="edge of the patches")
    parser.add_argument("--batch", type=int, default=2, help="patches of a step")
    parser.add_argument("--treatments", nargs="+", choices=tuple(TREATMENTS), default=list(TREATMENTS))
    parser.add_argument("--name", default="real_likeness", help="name of the result file")
    args = parser.parse_args()
    rows, caps, seeds = [], [], args.seeds
    common = {"loop.steps": args.steps, "patches.patch": args.patch, "loop.batch": args.batch}
    for seed in seeds:
        likeness = simulate_likeness(args.work / f"likeness-{seed}", seed)
        caps.append(cap(likeness))
        for sigma in BLOBS:
            name = f"difference of Gaussians, {sigma} voxels"
            rows.append(kept(args.work / f"{name}-{seed}", name, seed, partial(run_blobs, likeness, sigma)))
        for name in args.treatments:
            folder = args.work / f"{name}-{seed}"
            run = partial(run_treatment, likeness, name, seed, common, folder)
            rows.append(kept(folder, name, seed, run))
    reference = {r["seed"]: r for r in rows if r["detector"] == "ignored"}
    differences = {
        name: {
            metric: asdict(
                interval([r[metric] - reference[r["seed"]][metric] for r in rows if r["detector"] == name])
            )
            for metric in ("recall_3x_4x", "recall_4x", *FULL)
        }
        for name in args.treatments
        if name != "ignored" and reference
    }
    result = {
        "settings": {
            "ribosomes": RIBOSOMES,
            "labeled": LABELED,
            "steps": args.steps,
            "patch": args.patch,
            "batch": args.batch,
            "match_A": MATCH_DISTANCE,
        },
        "cap": {name: round(mean(c[name] for c in caps), 4) for name in caps[0]},
        "rank_correlation": rank_correlations(rows, seeds),
        "differences_from_ignored": differences,
        "runs": rows,
    }
    print(write_result(args.name, result))


if __name__ == "__main__":
    main()
