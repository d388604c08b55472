"""The list that `cryovox train` prints."""

from __future__ import annotations

from collections.abc import Iterable

from cryovox.cli.interface.help import two_columns
from cryovox.training.strategies import Task, facts

TASKS: dict[Task, str] = {
    "supervised": "Supervised: --data DATASET",
    "semi-supervised": "Semi-supervised, from few picks and unlabeled tomograms: --data DATASET",
    "distillation": "Distillation of a trained model, without annotations: --teacher MODEL --data TOMOGRAMS",
    "domain adaptation": "Domain adaptation to unlabeled tomograms: --source DATA --target DATA",
    "domain generalization": "Domain generalization, without target tomograms: --source DATASET",
}


def listing(names: Iterable[str]) -> str:
    """Strategies in groups, with a line each; baselines stand apart."""
    rows = {name: facts(name) for name in names}
    lines = ["usage: cryovox train STRATEGY [OPTIONS]"]
    for task, heading in TASKS.items():
        lines += ["", heading]
        for baseline in (False, True):
            chosen = {n: r.summary for n, r in rows.items() if r.task == task and r.baseline == baseline}
            if chosen:
                lines += [*(["  Baselines:"] if baseline else []), two_columns(chosen)]
    return "\n".join([*lines, "", "`cryovox train STRATEGY --help` shows the main options."])
