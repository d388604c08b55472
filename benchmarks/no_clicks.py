"""A picker from a structure alone: networks trained on matches beside the matches.

The commands of `docs/how-to/no-clicks.md`: matches of a structure at a false discovery rate, `cryovox train semi-etpicker` on
them, and `cryovox find` with the network. Simulated: 80S ribosomes among proteasomes and fatty acid synthases; two tomograms
to match and to train on, and a third that is only picked; tomograms and weights are drawn by seed. Real: the front (y < 160)
of an in-situ tomogram, whose picks are about a third of the ribosomes and never seen by a training, so that only recall at 1, 2
and 4 candidates per pick is scored. F1 is at the own threshold of each, average precision without one, both within half a
radius. Training time is processor time.

    python benchmarks/no_clicks.py --seeds 0 1 2
    python benchmarks/no_clicks.py --world real --seeds 0
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from common import cryovox, write_result
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, scores, write_volume
from cryovox.metrics.detection import average_precision, detection
from cryovox.picking import PickConfig, pick
from cryovox.picking.side_lobes import side_lobes
from match_real import MAP
from match_real_choice import FRONT, MARGIN
from real_ribosomes import NAME, TOMOGRAM, hits, inside
from real_ribosomes import truth as real_truth

SPECIES = "ribosome-80s"
OTHERS = ("proteasome-26s", "fatty-acid-synthase")
BUDGETS = (1, 2, 4)


def simulate(folder: Path, seed: int, args: argparse.Namespace, log: Path) -> list[Path]:
    """Tomograms in two folders: those to train on, and the one that is only picked."""
    counts = [word for kind in (SPECIES, *OTHERS) for word in (kind, args.particles)]
    cryovox(
        "simulate", "--out", folder, "--count", 3, "--seed", seed, "--species", SPECIES, *OTHERS,
        "--scene.shape", *args.shape, "--scene.voxel-size", args.voxel, "--scene.counts", *counts,
        "--snr", args.snr, "--quiet", log=log,
    )  # fmt: skip
    return sorted((folder / "tomograms").glob("*.mrc"))


def search(
    template: object, tomograms: list[Path], out: Path, log: Path, args: argparse.Namespace, *options: object
) -> None:
    """Matches at a false discovery rate, or the best ones."""
    cut = ("--threshold", 0, "--max-count", args.labels) if args.labels else ("--fdr", args.fdr)
    cryovox(
        "match", template, *tomograms, "--out", out, "--angle", args.angle, *cut, "--quiet",
        "--device", "cpu", *options, log=log,
    )  # fmt: skip


def train_and_find(
    matched: Path, tomograms: list[Path], out: Path, seed: int, args: argparse.Namespace
) -> None:
    """A network trained on the matches, and its picks in all tomograms."""
    log = out / "log.txt"
    cryovox(
        "train", "semi-etpicker", "--data", matched / "matches.yaml", "--out", out / "run", "--max-time",
        args.time, "--clock", "processor", "--seed", seed, "--device", "cpu", "--quiet", log=log,
    )  # fmt: skip
    cryovox(
        "find", *tomograms, "--model", out / "run" / "model.safetensors", "--out", out / "found", "--device",
        "cpu", "--quiet", log=log,
    )  # fmt: skip


def candidates(out: Path, name: str, radius: float, lobes: bool) -> Particles:
    """All candidates of a score map, without side lobes for matches."""
    picks = pick(scores.read(out / "scores" / f"{name}.zarr"), PickConfig(threshold=1e-4, distance=radius))
    return picks.take(~side_lobes(picks.positions, picks.scores, radius)) if lobes else picks


def own_picks(out: Path, tomogram: Path) -> Particles:
    """Picks at the own threshold."""
    volume = read_volume(tomogram)
    return read_particles(out / "particles" / f"{tomogram.stem}.star", tomogram=volume)


def in_tomogram(particles: Particles, name: str) -> Particles:
    """Positions and scores alone, with one species and the name of the tomogram."""
    return Particles.of(particles.positions, SPECIES, particles.scores, tomograms=name)


def simulated(folder: Path, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """F1 and average precision of matches and network on the tomograms of the training and on another."""
    log = folder / "log.txt"
    tomograms = simulate(folder / "data", seed, args, log)
    search(SPECIES, tomograms[:2], folder / "matched", log, args)
    search(SPECIES, tomograms[2:], folder / "matched-new", log, args)
    train_and_find(folder / "matched", tomograms, folder, seed, args)
    row: dict[str, Any] = {"seed": seed}
    for where, paths, matched in (
        ("trained on", tomograms[:2], folder / "matched"),
        ("new", tomograms[2:], folder / "matched-new"),
    ):
        for method, out in (("matches", matched), ("network", folder / "found")):
            row[f"{method}, {where}"] = compare(paths, out, folder, method == "matches")
    return row


def compare(paths: list[Path], out: Path, folder: Path, lobes: bool) -> dict[str, float]:
    """Scores of a method, pooled over tomograms."""
    total, average = None, []
    for path in paths:
        volume = read_volume(path)
        true = read_particles(folder / "data" / "particles" / f"{path.stem}.star", tomogram=volume)
        true = true.named(SPECIES)
        radius = args_radius(volume)
        counts = detection(
            in_tomogram(own_picks(out, path), path.stem), in_tomogram(true, path.stem), radius / 2
        )
        total = counts if total is None else total + counts
        ranked = candidates(out, path.stem, radius, lobes)
        average.append(
            average_precision(in_tomogram(ranked, path.stem), in_tomogram(true, path.stem), radius / 2)
        )
    assert total is not None
    return {
        "f1": total.f1, "precision": total.precision, "recall": total.recall,
        "average_precision": float(np.mean(average)),
    }  # fmt: skip


def args_radius(volume: Volume) -> float:
    """Radius of the particle in Å, as the library has it at the voxel size of the tomogram."""
    from cryovox.simulate.particles.library import build_template

    return build_template(SPECIES, volume.voxel_size).radius


def real(folder: Path, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Recall of matches and network on the front of the real tomogram."""
    volume = read_volume(TOMOGRAM)
    front = folder / "front.mrc"
    write_volume(front, Volume(np.ascontiguousarray(volume.data[:, :FRONT]), volume.voxel_size))
    search(MAP, [front], folder / "matched", folder / "log.txt", args, "--name", NAME, "--contrast", "dark")
    train_and_find(folder / "matched", [front], folder, seed, args)
    true = inside(real_truth(), (0, FRONT - MARGIN), volume.voxel_size)
    row: dict[str, Any] = {"seed": seed, "picks": len(true)}
    for method, out in (("matches", folder / "matched"), ("network", folder / "found")):
        ranked = candidates(out, "front", 145.0, method == "matches")
        ranked = inside(ranked, (0, FRONT - MARGIN), volume.voxel_size)
        row[method] = {f"recall at {b}x": float(np.mean(hits(ranked, true, b))) for b in BUDGETS}
        row[method]["own picks"] = len(own_picks(out, front))
    return row


def main() -> None:
    """Run the recipe for each seed and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=("simulated", "real"), default="simulated")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--time", default="3m", help="of each training, processor time")
    parser.add_argument("--angle", type=float, default=21.1)
    parser.add_argument("--fdr", type=float, default=0.1)
    parser.add_argument("--labels", type=int, help="so many best matches of each tomogram, instead of --fdr")
    parser.add_argument("--shape", nargs=3, type=int, default=(56, 120, 120))
    parser.add_argument("--voxel", type=float, default=20.0)
    parser.add_argument("--particles", type=int, default=16, help="of each species and tomogram")
    parser.add_argument("--snr", type=float, default=0.03)
    parser.add_argument("--work", type=Path, help="folder that keeps the runs")
    parser.add_argument("--name", help="of the result file; by default no_clicks, or no_clicks_real")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for seed in args.seeds:
            folder = (args.work or Path(name)) / f"{args.world}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            rows.append((real if args.world == "real" else simulated)(folder, seed, args))
            print(rows[-1], flush=True)
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(args).items() if k != "work"}
    default = "no_clicks" if args.world == "simulated" else "no_clicks_real"
    print(write_result(args.name or default, {"settings": settings, "runs": rows}))


if __name__ == "__main__":
    main()
