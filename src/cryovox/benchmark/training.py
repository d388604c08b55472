"""Train a method of a suite: settings from its row and the job, and a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryovox.benchmark.suite import Job
from cryovox.core.config import validated
from cryovox.models import activation
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.training import run as training_run

NEVER = 1_000_000
SHARED: dict[str, Any] = {
    "supervised.loss": "ce+dice",
    "supervised.ema": 0.999,
    "loop.lr": 1e-3,
    "loop.warmup": 20,
    "loop.batch": 8,
    "loop.precision": "32-true",
    "loop.keep": "last",
    "loop.validate_every": NEVER,
    "loop.patience": NEVER,
    "validation.held_out": 0.05,
}
"""Settings of all methods: averaged weights of the last step, no selection on validation data."""
SHORT: dict[str, Any] = {"loop.batch": 2, "loop.lr": 3e-3, "loop.clock": "processor"}
"""Settings of trainings of a few minutes on a CPU (docs/decisions/0010 and 0012)."""


def job_settings(
    job: Job,
    common: Mapping[str, Any] = SHARED,
    start: Path | None = None,
    kind: type[TrainConfig] = TrainConfig,
) -> TrainConfig:
    """Settings of a job: shared settings, those of the method, and the budget."""
    method, budget = job.method, job.budget
    heatmap = activation(method.network, method.options) == "sigmoid"
    dotted: dict[str, Any] = {
        **common,
        **({"supervised.loss": "auto"} if heatmap else {}),
        **method.train,
        "network.model": method.network,
        "network.size": method.size,
        "network.options": dict(method.options),
        "network.start": None if start is None else str(start),
        "loop.steps": budget.steps or NEVER,
        "loop.max_time": budget.time,
        "seed": job.seed,
    }
    return validated(kind, nested(dotted), Path(f"row {method.name!r} of the suite"))


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a mapping of dotted names into a nested mapping.

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


def train(job: Job, data: Path, out: Path, device: Device, **options: Any) -> Path:
    """Train a method in ``out/run``; returns its model file. *options* are passed to `job_settings`."""
    config = job_settings(job, **{"common": shared_settings(device), **options})
    return training_run.train(data, out / "run", config, device=device)


def shared_settings(device: Device) -> dict[str, Any]:
    """Settings of all methods on a device.

    On a CPU, batches are small and the learning rate is high, to make more steps in a short time. Time is
    processor time, because runs share cores with other processes.
    """
    return SHARED | (SHORT if choose_device(device) == "cpu" else {})
