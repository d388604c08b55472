"""Base classes of benchmark suites: methods, budgets, jobs, plans, and the suite itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cryovox.core.durations import seconds
from cryovox.models import sizes
from cryovox.workflows.devices import Device

Tier = Literal["smoke", "cpu", "gpu"]
Scores = dict[str, dict[str, float]]
"""Condition -> metric -> value."""


STORED_KEYS = {
    "method": "contestant", "methods": "contestants", "models_per_job": "each", "adaptation": "adapting",
    "class_prior": "told", "train_species": "seen", "novel_species": "unseen", "n_train": "learned",
    "n_test": "tested", "own.noise_patches": "own.sampled", "own.filter_variant": "own.reading",
    "own.class_thresholds": "own.fair", "stages.selection_patches": "stages.judged",
    "stages.noise_test_patches": "stages.beside_noise", "own.loss_weights": "own.parts",
}  # fmt: skip
"""Field or setting -> its key in result files; keys never change, since a suite resumes by comparing them."""


def stored(value: Any) -> dict[str, Any]:
    """Fields of a dataclass, and settings in them, with the keys of result files."""
    return {key: _with_stored_keys(v) for key, v in _with_stored_keys(asdict(value)).items()}


def _with_stored_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {STORED_KEYS.get(key, key): _with_stored_keys(v) for key, v in value.items()}
    return [_with_stored_keys(v) for v in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Method:
    """One row of a table: a network in a size, and the settings in which its training differs.

    Attributes
    ----------
    name
        Name of the row.
    network, size, options
        As in the table of networks.
    train
        Training settings of this row alone, by dotted name, such as ``{"supervised.loss": "tversky"}``.
    data
        Name of its training data, for suites with several training sets.
    """

    name: str
    network: str
    size: str = "s"
    options: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    data: str = "train"


@dataclass(frozen=True)
class Budget:
    """Training time of every method (processor time on a CPU), or its number of steps."""

    time: str | None = None
    steps: int | None = None

    @property
    def name(self) -> str:
        return f"{self.time}" if self.time else f"{self.steps}-steps"

    def hours(self) -> float:
        """Hours of training; a step counts as one second, the time of size `s` on one core."""
        return (seconds(self.time) if self.time else float(self.steps or 0)) / 3600


@dataclass(frozen=True)
class Job:
    """One training of one method under one budget with one seed."""

    method: Method
    budget: Budget
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method.name}_{self.budget.name}_seed{self.seed}".replace(" ", "-")


@dataclass(frozen=True)
class Plan:
    """All jobs of a suite: each method under each budget with each seed."""

    methods: tuple[Method, ...]
    budgets: tuple[Budget, ...]
    seeds: int = 3
    models_per_job: int = 1
    """Number of models that a job trains, one after the other."""

    def jobs(self) -> list[Job]:
        """All jobs, ordered by seed, so that an interrupted run has complete tables."""
        return [Job(m, b, seed) for seed in range(self.seeds) for b in self.budgets for m in self.methods]

    def hours(self, at_once: int) -> float:
        """Approximate hours of training with *at_once* jobs in parallel; scoring is not counted."""
        return self.models_per_job * sum(job.budget.hours() for job in self.jobs()) / at_once

    def select(self, names: Sequence[str], size: str) -> Plan:
        """The plan with these methods only. The name of a network that is not in the suite adds a row."""
        rows = {m.name: m for m in self.methods}
        return replace(self, methods=tuple(rows.get(n) or plain_method(n, size) for n in names))

    def without(self, data: str) -> Plan:
        """The plan without the methods that train on these data."""
        return replace(self, methods=tuple(m for m in self.methods if m.data != data))


def plain_method(name: str, size: str) -> Method:
    """A network with the settings of the suite, in the suite's size or else its smallest size."""
    available = sizes(name)  # raises for unknown networks
    return Method(name, name, size if size in available else available[0])


class Suite(ABC):
    """One benchmark: methods, data and metrics, often after a table of a paper.

    Attributes
    ----------
    name, title
        Name on the command line, and title of the page.
    source
        Paper and table that the suite reproduces.
    headlines
        Metrics that are printed, one table each.
    reference
        Method that the others are compared with; no comparison if empty.
    compared
        Conditions over which differences are averaged; all if empty.
    groups
        Name -> endings of condition names; differences are averaged over each of these groups too.
    shown
        Prefixes, up to a comma, of the conditions that are printed; all if empty.
    """

    name: str
    title: str
    source: str
    headlines: tuple[str, ...]
    reference: str
    compared: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = {}
    shown: tuple[str, ...] = ()

    @abstractmethod
    def plan(self, tier: Tier) -> Plan:
        """Methods, budgets and seeds of a tier."""

    @abstractmethod
    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        """Simulate or read the data, once; returns metadata for the result file."""

    @abstractmethod
    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        """Train and score one method on the data that `prepare` wrote to *folder*."""

    def on_user_data(self, plan: Plan) -> Plan:
        """The plan without methods that need noise-free data, which the user's data lack."""
        return plan.without("clean")

    def references(self, folder: Path) -> dict[str, Scores]:
        """Scores of baselines that need no training."""
        return {}
