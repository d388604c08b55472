"""Trainings of equal length in float32 and bfloat16: scores on held-out tomograms, and processor time.

The worlds of `time_to_f1.py` that are simulated, with the defaults of `cryovox train supervised`. Both trainings of a seed
have the same initial weights, patches and number of steps; the score is that of validation, on tomograms that no training has
seen: mean F1 over the species at the best thresholds for heatmaps, mean Dice for masks.

    OMP_NUM_THREADS=1 python benchmarks/speed/bfloat16_training.py --work DIR      # about 40 processor minutes; resumes
"""

from __future__ import annotations

import argparse
import sys
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result
from cryovox.metrics.bootstrap import interval
from cryovox.training.state import Progress
from cryovox.training.strategies.base import Strategy
from time_to_f1 import WORLDS, World, cached, open_world, settings_of, train

PRECISIONS = ("32-true", "bf16-mixed")
SIMULATED = ("toy-picking", "toy-masks", "czii-picking", "nine-masks")


def run(world: World, data: Path, precision: str, seed: int, steps: int) -> dict[str, Any]:
    """Train that many steps and score the network that would be kept."""
    changes = {"loop.precision": precision, "loop.steps": steps, "loop.clock": "processor"}
    last: list[tuple[float, nn.Module]] = []

    def on_step(strategy: Strategy, now: Progress) -> None:
        if now.step == steps:
            last.append((now.seconds, deepcopy(strategy.network()).eval()))

    score = train(data, settings_of(world.network, seed, changes), on_step)
    seconds, network = last[-1]
    return {"seconds": round(seconds, 1), "score": round(score(network), 4)}


def compared(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of both precisions, the difference of scores over seeds, and the ratio of the times of each seed."""
    rows = {}
    for world in dict.fromkeys(run["world"] for run in runs):
        own = [[r for r in runs if (r["world"], r["precision"]) == (world, p)] for p in PRECISIONS]
        scores, seconds = (np.array([[r[key] for r in side] for side in own]) for key in ("score", "seconds"))
        rows[world] = {
            "scores": [round(float(mean), 4) for mean in scores.mean(axis=1)],
            "difference": asdict(interval(scores[1] - scores[0])),
            "time_ratios": [round(float(ratio), 3) for ratio in seconds[1] / seconds[0]],
        }
    return rows


def main() -> None:
    """Train all, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder of tomograms and finished trainings")
    parser.add_argument("--worlds", nargs="+", default=list(SIMULATED), choices=SIMULATED)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    runs = []
    for seed, name in product(range(args.seeds), args.worlds):
        data = open_world(WORLDS[name].data, args.work / WORLDS[name].data)
        for precision in PRECISIONS[:: 1 if seed % 2 else -1]:
            file = args.work / "runs" / f"{name}, {precision}, {seed}, {args.steps} steps.json"
            row = cached(file, partial(run, WORLDS[name], data, precision, seed, args.steps))
            runs.append({"world": name, "precision": precision, "seed": seed, **row})
            print(runs[-1], flush=True)
    print(write_result("bfloat16_training", {"steps": args.steps, "worlds": compared(runs), "runs": runs}))


if __name__ == "__main__":
    main()
