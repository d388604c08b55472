"""Picking ribosomes in half of a real in-situ tomogram: cross-validation over three blocks.

The tomogram (EMPIAR-11658, 31.36 Å, 128 x 256 x 128 voxels) is cut into three blocks along y. For each
block a network is trained on the picks of the other two, with a margin of one ribosome, so that every pick is
tested once. The picks are about a third of the ribosomes, so the metric is recall at 1 to 4 candidates per pick,
matched one to one within 100 Å; at 1 and 2 it is capped near 1/3 and 2/3 for any detector. The baseline is a difference-of-Gaussians picker whose
settings are selected on the same training blocks.

Unlabeled voxels count as background here, although many ribosomes were not picked: if the picks are a random
subset, a classifier of picked and unpicked positions ranks by the probability of a ribosome (Elkan and Noto 2008),
and only ranks are scored. `--unlabelled unknown` uses the positive-unlabeled loss instead.

    python benchmarks/real_ribosomes.py            # 3 blocks x 3 seeds; resumes after an interruption
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from common import DATA, cryovox, in_parallel, write_result
from cryovox.core.dataset import Box, Dataset, Entry
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_volume, scores, write_particles
from cryovox.metrics.bootstrap import interval, paired_difference
from cryovox.metrics.matching import greedy
from cryovox.picking import PickConfig, pick
from cryovox.picking.blobs import dog

TOMOGRAM = DATA / "real_tomograms" / "tomo_171_xlow_31.36A.mrc.gz"
PICKS = DATA / "real_tomograms" / "tomo_171_xlow_80S_angstrom.csv"
BLOCKS = ((160, 256), (96, 160), (0, 96))
MARGIN = 8  # voxels, a ribosome
RADIUS = 125.0  # Å
MATCH = 100.0  # Å
BUDGETS = (1, 2, 3, 4)
AIM = {4: 0.97}
NAME = "80S_ribosome"
TRAIN = (
    "--model", "heatmap-unet", "--patch", 32, "--batch", 8, "--lr", 2e-3, "--warmup", 30, "--ema", 0.99,
    "--loss", "weighted-mse", "--blur", 1.0, "--held-out", 0.1, "--keep", "last",
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """Training settings; each variant was fixed before its run."""

    train: tuple[object, ...]
    steps: int
    views: int


VARIANTS = {
    "s": Variant(("--size", "s", "--weight-decay", 0.02, "--noise", 0.6), 450, 4),
    "xs": Variant(("--size", "xs", "--weight-decay", 0.1, "--noise", 1.0), 400, 8),
}
"""The default network, and a smaller one with more regularization, selected on splits of y < 160."""


@dataclass(frozen=True)
class Fold:
    """One test block and the seed of the training on the other blocks."""

    number: int
    seed: int
    block: tuple[int, int]

    def training_boxes(self, length: int) -> list[tuple[int, int]]:
        """Ranges of y outside the block and its margin."""
        sides = [(0, self.block[0] - MARGIN), (self.block[1] + MARGIN, length)]
        return [(a, b) for a, b in sides if b - a >= 32]


def truth() -> Particles:
    """The picks without duplicates within 10 Å (the file has one)."""
    with PICKS.open(encoding="utf-8") as file:
        rows = [(float(r["z"]), float(r["y"]), float(r["x"])) for r in csv.DictReader(file)]
    kept: list[tuple[float, float, float]] = []
    for row in rows:
        if all(np.linalg.norm(np.subtract(row, other)) > 10 for other in kept):
            kept.append(row)
    return Particles.of(kept, NAME)


def inside(particles: Particles, span: tuple[int, int], voxel: float) -> Particles:
    """Particles in a range of y, in voxels."""
    y = particles.positions[:, 1] / voxel
    return particles.take((y >= span[0] - 0.5) & (y < span[1] - 0.5))


def hits(candidates: Particles, true: Particles, budget: int) -> list[bool]:
    """Whether each true particle matches one of the *budget* x n best candidates."""
    best = candidates.sorted().take(np.arange(min(len(candidates), budget * len(true))))
    matched = np.zeros(len(true), bool)
    matched[greedy(best.positions, true.positions, MATCH, best.scores).truth] = True
    return matched.tolist()


def dataset(folder: Path, fold: Fold, volume: Volume, true: Particles, background: bool) -> Path:
    """A dataset of the training blocks of a fold; the picks of the block itself are left out of its file."""
    boxes = fold.training_boxes(volume.shape[1])
    names = [f"part{i}" for i in range(len(boxes))]
    entries = []
    for name, box in zip(names, boxes, strict=True):
        path = folder / "particles" / f"{name}.csv"
        write_particles(path, inside(true, box, volume.voxel_size), tomogram=volume)
        entries.append(
            Entry(
                name=name,
                tomogram=TOMOGRAM.resolve(),
                particles=path,
                box=Box(y=box),
                contrast="dark",
                exhaustive=background,
            )
        )
    species = (Species(name=NAME, label=1, radius=RADIUS),)
    dataset_files.write(
        folder, Dataset(voxel_size=volume.voxel_size, species=species, entries=tuple(entries))
    )
    return folder


def train_and_find(
    fold: Fold, folder: Path, volume: Volume, true: Particles, args: argparse.Namespace
) -> None:
    """Train a model and pick in the tomogram with the command line."""
    data = dataset(folder / "dataset", fold, volume, true, args.unlabelled == "background")
    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    variant = VARIANTS[args.variant]
    length = ("--steps", variant.steps, "--validate-every", variant.steps)
    cryovox(
        "train", "supervised", "--data", data, "--out", folder / "run", "--seed", fold.seed,
        *length, *TRAIN, *variant.train, log=log,
    )  # fmt: skip
    model = folder / "run" / "model.safetensors"
    cryovox("find", TOMOGRAM, "--model", model, "--out", folder / "found", "--tta", variant.views, log=log)


def searched(folder: Path) -> ScoreMap:
    """The scores of a fold."""
    (stored,) = (folder / "found" / "scores").glob("*.zarr")
    return scores.read(stored)


def together(
    number: int, block: tuple[int, int], work: Path, volume: Volume, true: Particles, seeds: list[int]
) -> dict[str, list[bool]]:
    """The block searched by all its trainings at once: their scores are averaged."""
    maps = [searched(work / f"block{number}-seed{seed}") for seed in seeds]
    mean = replace(maps[0], data=np.mean([np.asarray(m.data[:], np.float32) for m in maps], axis=0))
    candidates = inside(pick(mean, PickConfig(threshold=1e-3, border=0.0)), block, volume.voxel_size)
    true_in_block = inside(true, block, volume.voxel_size)
    return {str(b): hits(candidates, true_in_block, b) for b in BUDGETS}


def averaged(
    work: Path, volume: Volume, true: Particles, blobs: list[dict[str, Any]], seeds: list[int]
) -> dict[str, Any]:
    """Pooled recall of the averaged scores, and its difference from the difference-of-Gaussians picker."""
    parts = [together(n, block, work, volume, true, seeds) for n, block in enumerate(BLOCKS)]
    table = {}
    for budget in map(str, BUDGETS):
        ours = np.concatenate([part[budget] for part in parts]).astype(float)
        theirs = np.concatenate([b["hits"][budget] for b in blobs]).astype(float)
        table[budget] = {
            "recall": asdict(interval(ours)),
            "difference": asdict(paired_difference(ours, theirs)),
        }
    return table


def run_fold(
    fold: Fold, work: Path, volume: Volume, true: Particles, args: argparse.Namespace
) -> dict[str, Any]:
    """Train, pick in the tomogram, and score the block."""
    folder = work / f"block{fold.number}-seed{fold.seed}"
    run, output = folder / "run", folder / "found"
    if not (output / "report.html").exists():
        train_and_find(fold, folder, volume, true, args)
    seconds = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["seconds"]
    candidates = inside(
        pick(searched(folder), PickConfig(threshold=1e-3, border=0.0)), fold.block, volume.voxel_size
    )
    true_in_block = inside(true, fold.block, volume.voxel_size)
    matches = {str(b): hits(candidates, true_in_block, b) for b in BUDGETS}
    recall = {b: round(float(np.mean(h)), 4) for b, h in matches.items()}
    print(
        f"block {fold.block} seed {fold.seed}: {len(true_in_block)} picks, recall {recall}, {seconds:.0f} s",
        flush=True,
    )
    return {
        "block": fold.block,
        "seed": fold.seed,
        "picks": len(true_in_block),
        "candidates": len(candidates),
        "train_seconds": round(seconds, 1),
        "recall": recall,
        "hits": {b: list(map(int, h)) for b, h in matches.items()},
    }


@cache
def blob_list(sigma: float, ratio: float, distance: float) -> Particles:
    """Difference-of-Gaussians picks of the whole tomogram with given settings."""
    volume = read_volume(TOMOGRAM)
    return dog(
        np.asarray(volume.data),
        volume.voxel_size,
        sigma,
        ratio=ratio,
        distance=distance,
        species=NAME,
    )


def baseline(fold: Fold, volume: Volume, true: Particles) -> dict[str, Any]:
    """Select the settings of the difference-of-Gaussians picker on the training blocks, and score the block."""
    boxes = fold.training_boxes(volume.shape[1])
    best: tuple[float, dict[str, float]] = (-1.0, {})
    for sigma, ratio, distance in itertools.product(
        (1.0, 1.5, 2.0, 2.5, 3.0), (1.3, 1.6, 2.0), (100.0, 150.0, 200.0)
    ):
        settings = {"sigma_vox": sigma, "ratio": ratio, "distance": distance}
        blobs = blob_list(sigma, ratio, distance)
        recalls = []
        for box in boxes:
            true_in_block = inside(true, box, volume.voxel_size)
            recalls += [
                (np.mean(hits(inside(blobs, box, volume.voxel_size), true_in_block, b)), len(true_in_block))
                for b in BUDGETS
            ]
        score = float(np.average([r for r, _ in recalls], weights=[n for _, n in recalls]))
        best = max(best, (score, settings), key=lambda pair: pair[0])
    blobs = blob_list(*best[1].values())
    true_in_block = inside(true, fold.block, volume.voxel_size)
    matches = {str(b): hits(inside(blobs, fold.block, volume.voxel_size), true_in_block, b) for b in BUDGETS}
    return {
        "block": fold.block,
        "picks": len(true_in_block),
        "settings": best[1],
        "training_score": round(best[0], 4),
        "recall": {b: round(float(np.mean(h)), 4) for b, h in matches.items()},
        "hits": {b: list(map(int, h)) for b, h in matches.items()},
    }


def summarize(runs: list[dict[str, Any]], blobs: list[dict[str, Any]], seeds: list[int]) -> dict[str, Any]:
    """Pool the blocks; the bootstrap resamples picks, whose value is the mean over the seeds."""
    table: dict[str, Any] = {}
    for budget in map(str, BUDGETS):
        of_seed = {s: np.concatenate([r["hits"][budget] for r in runs if r["seed"] == s]) for s in seeds}
        ours, theirs = (
            np.mean(list(of_seed.values()), axis=0),
            np.concatenate([b["hits"][budget] for b in blobs]),
        )
        by_seed = [float(v.mean()) for v in of_seed.values()]
        table[budget] = {
            "recall": asdict(interval(ours)),
            "per_seed": [round(v, 4) for v in by_seed],
            "seed_std": round(float(np.std(by_seed, ddof=1)), 4) if len(by_seed) > 1 else None,
            "blobs": asdict(interval(theirs)),
            "difference": asdict(paired_difference(ours, theirs)),
            "aim": AIM.get(int(budget)),
        }
    return table


def main() -> None:
    """Run all folds and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/real_ribosomes"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each block")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    parser.add_argument(
        "--unlabelled",
        choices=("background", "unknown"),
        default="background",
        help="treatment of voxels without a pick",
    )
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="s", help="training settings")
    parser.add_argument("--name", default="real_ribosomes", help="name of the result file")
    args = parser.parse_args()
    volume, true, seeds = read_volume(TOMOGRAM), truth(), list(range(args.seeds))
    folds = [Fold(n, s, block) for s in seeds for n, block in enumerate(BLOCKS)]
    blobs = [baseline(Fold(n, 0, block), volume, true) for n, block in enumerate(BLOCKS)]
    runs = in_parallel(folds, lambda f: run_fold(f, args.work, volume, true, args), args.jobs)
    table = summarize(runs, blobs, seeds)
    for budget, row in table.items():
        r, b, d = row["recall"], row["blobs"], row["difference"]
        print(
            f"{budget}x: recall {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]  blobs {b['value']:.3f}  "
            f"difference {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"
        )
    settings = {
        "unlabelled": args.unlabelled,
        "blocks": BLOCKS,
        "margin_vox": MARGIN,
        "radius_A": RADIUS,
        "match_A": MATCH,
        "steps": VARIANTS[args.variant].steps,
    }
    result = {
        "settings": {**settings, "train": list(map(str, (*TRAIN, *VARIANTS[args.variant].train)))},
        "table": table,
        "averaged": averaged(args.work, volume, true, blobs, seeds),
        "runs": runs,
        "blobs": blobs,
    }
    print(write_result(args.name, result))


if __name__ == "__main__":
    main()
