"""Imaging conditions for the suite `zsda-classes`: what source-only training loses, and what target labels would bring.

The suite can only tell methods apart where target labels are clearly better than heavy augmentation. Candidates of
source and target conditions are compared on the classes that are kept for choices, by these two and source-only training.

    python benchmarks/zsda_conditions.py --work DIR       # about an hour of one core
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from common import write_result
from cryovox.benchmark.adaptation.suite import SOURCE_ONLY, SUPERVISED
from cryovox.benchmark.suite import Budget, Job
from cryovox.benchmark.zero_shot.classes import (
    SOURCE,
    VALIDATION_CLASSES,
    VALIDATION_TARGET,
    ClassesSuite,
    methods,
    simulate_domain,
)
from cryovox.benchmark.zero_shot.suite import FIRST

METHODS = (SOURCE_ONLY, "heavy-augmentation", SUPERVISED)
CONDITIONS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "SNR 0.1, target 0.06": ({"snr": 0.1}, {"snr": 0.06, "resolution": 25.0}),
    "SNR 0.3, target 0.12": ({"snr": 0.3}, {"snr": 0.12, "resolution": 25.0}),
    "SNR 0.5, target 0.3": ({"snr": 0.5}, {"snr": 0.3, "resolution": 25.0}),
    "SNR 0.5, target 0.3, detail to 15 Å": ({"snr": 0.5}, {"snr": 0.3, "resolution": 15.0}),
}
"""Name -> changed settings of the source and of the target."""
METRICS = ("mean_iou", "class_accuracy", "iou")


def suite(source: dict[str, float], target: dict[str, float]) -> ClassesSuite:
    """The suite for choices with other conditions and one target."""
    config = VALIDATION_TARGET.model_copy(update=target)
    targets = {FIRST: partial(simulate_domain, config, 2500)}
    return ClassesSuite(
        "conditions", "conditions", methods, VALIDATION_CLASSES, targets, SOURCE.model_copy(update=source)
    )


def run(name: str, time: str, seed: int, work: Path) -> list[dict[str, Any]]:
    """Train all methods under these conditions."""
    conditions, folder = suite(*CONDITIONS[name]), work / name
    if not (folder / "data").exists():
        conditions.prepare(folder / "data", "cpu", None)
    rows = []
    for method in (m for m in conditions.plan("cpu").methods if m.name in METHODS):
        job = Job(method, Budget(time=time), seed)
        scores = conditions.run(job, folder / "data", folder / job.name, "cpu")["chosen"]
        rows.append(
            {"conditions": name, "method": method.name, "seed": seed, **{m: scores[m] for m in METRICS}}
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run all conditions and write `results/zsda_conditions.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--time", default="4m")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    rows = [
        row
        for seed in range(args.seeds)
        for name in CONDITIONS
        for row in run(name, args.time, seed, args.work)
    ]
    write_result("zsda_conditions", {"time": args.time, "runs": rows})


if __name__ == "__main__":
    main()
