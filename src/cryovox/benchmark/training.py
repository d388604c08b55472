"""What every suite does with a contestant: settings from its row and the job, and a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryovox.benchmark.suite import Job
from cryovox.core.config import validated
from cryovox.models import activation
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.training.train import train_supervised

NEVER = 1_000_000
EQUAL: dict[str, Any] = {
    "supervised.loss": "ce+dice",
    "supervised.ema": 0.98,
    "loop.lr": 1e-3,
    "loop.warmup": 20,
    "loop.batch": 8,
    "loop.keep": "last",
    "loop.validate_every": NEVER,
    "loop.patience": NEVER,
    "validation.held_out": 0.05,
}
"""The same for all contestants: weights of the last step, averaged, nothing chosen by validation."""
SHORT: dict[str, Any] = {"loop.batch": 2, "loop.lr": 3e-3, "loop.clock": "processor"}
"""What differs where minutes of a CPU are all there is (docs/decisions/0010 and 0012)."""


def settings(
    job: Job,
    common: Mapping[str, Any] = EQUAL,
    start: Path | None = None,
    kind: type[TrainConfig] = TrainConfig,
) -> TrainConfig:
    """Settings of a job: what all share, what the row adds, and the budget."""
    contestant, budget = job.contestant, job.budget
    heatmap = activation(contestant.network, contestant.options) == "sigmoid"
    dotted: dict[str, Any] = {
        **common,
        **({"supervised.loss": "auto"} if heatmap else {}),
        **contestant.train,
        "network.model": contestant.network,
        "network.size": contestant.size,
        "network.options": dict(contestant.options),
        "network.start": None if start is None else str(start),
        "loop.steps": budget.steps or NEVER,
        "loop.max_time": budget.time,
        "seed": job.seed,
    }
    return validated(kind, nested(dotted), Path(f"row {contestant.name!r} of the suite"))


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into a tree.

    Examples
    --------
    >>> nested({"loop.lr": 1e-3, "loop.batch": 4, "seed": 1})
    {'loop': {'lr': 0.001, 'batch': 4}, 'seed': 1}
    """
    tree: dict[str, Any] = {}
    for name, value in dotted.items():
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = value
    return tree


def train(job: Job, data: Path, out: Path, device: Device, **more: Any) -> Path:
    """Train a contestant in ``out/run``; gives its model file. What is *more* goes to `settings`."""
    config = settings(job, **{"common": equal(device), **more})
    return train_supervised(data, out / "run", config, device=device)


def equal(device: Device) -> dict[str, Any]:
    """What all contestants have alike on a device.

    On a CPU: small batches at a high rate, since the number of steps is what so short a training lacks,
    and time is the processor's, since runs share cores with others.
    """
    return EQUAL | (SHORT if choose_device(device) == "cpu" else {})
