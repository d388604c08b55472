"""Averages of the weights in short trainings: how many of the last steps to average.

All averages follow the same trainings of a heatmap network on a smaller CZII phantom (a world kept for choices); the
seeds draw weights and patches. The score is the mean F1 over the species at the best thresholds, on two other
tomograms.

    python benchmarks/ema_share.py --work DIR       # about 10 processor minutes
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean

from common import write_result
from cryovox.training.ema import ema_copy, ema_lerp
from cryovox.training.state import Progress
from cryovox.training.strategies.base import Strategy
from time_to_f1 import WORLDS, cached, open_world, settings_of, train

STEPS = (150, 300, 1000)
SETTINGS = {
    "loop.batch": 2,
    "loop.lr": 3e-3,
    "loop.warmup": 20,
    "patches.patch": 32,
    "supervised.ema": 0.0,
    "network.size": "xs",
}
WEIGHTS: dict[str, Callable[[int], float]] = {
    "no average": lambda n: 1.0,
    "mean age 1/5 of the steps": lambda n: min(1.0, 4 / n),
    "mean age 1/10 of the steps": lambda n: min(1.0, 9 / n),
    "mean age 1/19 of the steps": lambda n: min(1.0, 18 / n),
    "0.98, early decay (1 + n) / (10 + n)": lambda n: 1 - min(0.98, (1 + n) / (10 + n)),
    "0.995, early decay (1 + n) / (10 + n)": lambda n: 1 - min(0.995, (1 + n) / (10 + n)),
    "0.98 from the first step": lambda n: 0.02,
    "0.995 from the first step": lambda n: 0.005,
}
"""Weight of the newest weights after n steps."""


def run(data: Path, steps: int, seed: int) -> dict[str, float]:
    """Score of each average after one training."""
    averages = {}

    def on_step(strategy: Strategy, now: Progress) -> None:
        if not averages:
            averages.update({name: ema_copy(strategy.network()) for name in WEIGHTS})
        for name, weight in WEIGHTS.items():
            ema_lerp(averages[name], strategy.network(), weight(now.step))

    config = settings_of(WORLDS["czii-picking"].network, seed, SETTINGS | {"loop.steps": steps})
    score = train(data, config, on_step)
    return {name: round(score(network), 4) for name, network in averages.items()}


def main() -> None:
    """Run all trainings and write `results/ema_share.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the tomograms")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    data = open_world("czii", args.work / "czii")
    runs = []
    for steps in args.steps:
        for seed in range(args.seeds):
            file = args.work / "runs" / f"ema, {steps} steps, seed {seed}.json"
            scores = cached(file, partial(run, data, steps, seed))
            runs.append({"steps": steps, "seed": seed, "f1": scores})
    print(write_result("ema_share", {"settings": SETTINGS, "runs": runs}))
    for steps in args.steps:
        for name in WEIGHTS:
            values = [r["f1"][name] for r in runs if r["steps"] == steps]
            print(f"{steps} steps, {name}: {mean(values):.3f}")


if __name__ == "__main__":
    main()
