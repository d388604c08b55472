"""MVGFormer's question at published sizes on one GPU: four networks with equal steps on subtomograms of three SNRs.

Simulates the subtomograms on all cores, times ten steps of each network, chooses the number of steps that fits the time
for training, trains (batch 72, bf16, rate 1e-3) and scores. `benchmarks/gpu/decisive.sh` runs it and the tests for GPUs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result
from cryovox.benchmark.subtomograms import (
    NOISES,
    SEEN,
    UNSEEN,
    Scale,
    concatenate_sets,
    masks,
    scores,
    simulate_set,
)
from cryovox.benchmark.training import NEVER, SHARED, nested
from cryovox.core.config import validated
from cryovox.formats import subtomograms as files
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.label_sets import label_set
from cryovox.workflows.training.run import train

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "voxresnet": ("voxresnet", {}),
    "mvgformer p3da": ("mvgformer", {}),
    "mvgformer depth-to-space": ("mvgformer", {"enlarge": "depth-to-space"}),
    "mvgformer no graph": ("mvgformer", {"graph": "none"}),
}
TIMED = 10
"""Steps of each network before the number of steps is chosen."""


def simulate_part(folder: Path, kind: str, species: str, noise: int, count: int) -> None:
    """Subtomograms of one structure at one SNR; test sets have the same scenes at all SNRs."""
    names = (*SEEN, *UNSEEN)
    seed = 1000 * (1 + names.index(species)) + (noise if kind == "train" else 100)
    config = Scale().config(NOISES[noise])
    files.write(
        folder / f"{kind}-{noise}-{species}.zarr",
        simulate_set(folder / "parts" / f"{kind}-{noise}-{species}.zarr", (species,), config, count, seed),
    )


def simulate(folder: Path, trained: int, tested: int, species: int) -> list[str]:
    """Write train.zarr and the test sets on all cores; returns the names of the test sets."""
    seen, unseen = SEEN[:species], UNSEEN[:species]
    kinds = (("train", seen, trained), ("seen", seen, tested), ("unseen", unseen, tested))
    parts = [
        (folder, kind, name, noise, count)
        for kind, names, count in kinds
        for name, noise in product(names, range(len(NOISES)))
    ]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool:
        list(pool.map(simulate_part, *zip(*parts, strict=True)))

    def whole(kind: str, names: tuple[str, ...], noises: range) -> files.Subtomograms:
        paths = [folder / f"{kind}-{noise}-{name}.zarr" for noise, name in product(noises, names)]
        return concatenate_sets([files.read(path) for path in paths])

    files.write(folder / "train.zarr", whole("train", seen, range(len(NOISES))))
    for (kind, names), noise in product((("seen", seen), ("unseen", unseen)), range(len(NOISES))):
        test = whole(kind, names, range(noise, noise + 1))
        files.write(folder / f"test-{kind}, SNR {NOISES[noise]:g}.zarr", test)
    return [f"{kind}, SNR {snr:g}" for kind, snr in product(("seen", "unseen"), NOISES)]


def trained_model(row: str, steps: int, out: Path, args: argparse.Namespace) -> tuple[Path, float]:
    """Model file and seconds of a training."""
    network, options = ROWS[row]
    dotted = SHARED | {
        "network.model": network, "network.size": args.size, "network.options": options,
        "loop.batch": args.batch, "loop.lr": 1e-3, "loop.warmup": min(50, steps // 4),
        "loop.precision": args.precision, "loop.steps": steps, "loop.validate_every": NEVER, "seed": args.seed,
    }  # fmt: skip
    config = validated(TrainConfig, nested(dotted), Path(row))
    model = train(args.work / "data" / "train.zarr", out, config, device=args.device)
    return model, json.loads((out / "manifest.json").read_text(encoding="utf-8"))["seconds"]


def seconds_per_step(row: str, args: argparse.Namespace) -> float:
    """Of the second training of a few steps; the first one also loads and chooses kernels."""
    for attempt in range(2):
        _, seconds = trained_model(row, args.timed, args.work / f"timed {row} {attempt}", args)
    return max(seconds / args.timed, 1e-3)


def main() -> None:
    """Run the comparison and write `results/gpu-decisive.json` after every network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", default="paper")
    parser.add_argument("--batch", type=int, default=72)
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--seconds", type=float, default=330.0, help="for the four trainings together")
    parser.add_argument("--trained", type=int, default=150, help="subtomograms of a structure at each SNR")
    parser.add_argument("--tested", type=int, default=20)
    parser.add_argument("--species", type=int, default=len(SEEN))
    parser.add_argument("--timed", type=int, default=TIMED)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="gpu-decisive")
    args = parser.parse_args()
    start = time.monotonic()
    tests = simulate(args.work / "data", args.trained, args.tested, args.species)
    print(f"simulated in {time.monotonic() - start:.0f} s", flush=True)
    costs = {row: seconds_per_step(row, args) for row in ROWS}
    steps = max(1, int(args.seconds / sum(costs.values())))
    print(f"{steps} steps of each; seconds per step: {costs}", flush=True)
    runs = []
    for row in ROWS:
        model, seconds = trained_model(row, steps, args.work / row, args)
        table = {}
        for test in tests:
            data = files.read(args.work / "data" / f"test-{test}.zarr")
            table[test] = scores(label_set(model, data, args.device), masks(data))
        runs.append({"row": row, "seconds": seconds, "scores": table})
        settings = {k: v for k, v in vars(args).items() if k not in ("work", "name")}
        write_result(args.name, {"settings": settings, "steps": steps, "step_seconds": costs, "runs": runs})
        mean = np.mean([condition["iou"] for condition in table.values()])
        print(f"{row}: mean IoU {mean:.3f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
