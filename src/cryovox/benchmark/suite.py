"""What a suite is: contestants, budgets, data, and what is measured of each training."""

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


@dataclass(frozen=True)
class Contestant:
    """One row of a table: a network in a size, and how its training differs from that of the others.

    Attributes
    ----------
    name
        Of the row.
    network, size, options
        As in the table of networks.
    train
        Settings of the training that only this row has, by dotted name, such as
        ``{"supervised.loss": "tversky"}``.
    data
        What it learns from, where a suite has several things.
    """

    name: str
    network: str
    size: str = "s"
    options: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    data: str = "train"


@dataclass(frozen=True)
class Budget:
    """How long every contestant may train: so many seconds (of the processor, on a CPU), or so many steps."""

    time: str | None = None
    steps: int | None = None

    @property
    def name(self) -> str:
        return f"{self.time}" if self.time else f"{self.steps}-steps"

    def hours(self) -> float:
        """Hours that it takes; a step is taken as a second, which size `s` needs on one core."""
        return (seconds(self.time) if self.time else float(self.steps or 0)) / 3600


@dataclass(frozen=True)
class Job:
    """One training and what it is scored by."""

    contestant: Contestant
    budget: Budget
    seed: int

    @property
    def name(self) -> str:
        return f"{self.contestant.name}_{self.budget.name}_seed{self.seed}".replace(" ", "-")


@dataclass(frozen=True)
class Plan:
    """Everything that is to be run; each contestant under each budget with each seed."""

    contestants: tuple[Contestant, ...]
    budgets: tuple[Budget, ...]
    seeds: int = 3
    each: int = 1
    """How many models a job trains, one after the other."""

    def jobs(self) -> list[Job]:
        """All jobs, seed after seed, so that an interrupted run has whole tables."""
        return [Job(c, b, seed) for seed in range(self.seeds) for b in self.budgets for c in self.contestants]

    def hours(self, at_once: int) -> float:
        """About how long it takes, scoring not counted."""
        return self.each * sum(job.budget.hours() for job in self.jobs()) / at_once

    def chosen(self, names: Sequence[str], size: str) -> Plan:
        """The same with these contestants only; networks that are no row become one."""
        rows = {c.name: c for c in self.contestants}
        return replace(self, contestants=tuple(rows.get(n) or stranger(n, size) for n in names))

    def without(self, data: str) -> Plan:
        """The same without the contestants that learn from these data."""
        return replace(self, contestants=tuple(c for c in self.contestants if c.data != data))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def stranger(name: str, size: str) -> Contestant:
    """A network of the table that is no row of the suite, in the suite's size or its smallest."""
    known = sizes(name)  # refuses what is no network
    return Contestant(name, name, size if size in known else known[0])


class Suite(ABC):
    """A table of a paper, on data of this tier or the user's.

    Attributes
    ----------
    name, title
        On the command line, and above the table.
    source
        Paper and table that it mirrors.
    headlines
        Metrics that are printed, a table each.
    reference
        Contestant that the others are compared with; none where empty.
    compared
        Conditions over which they are; all where empty.
    groups
        Name -> how the names of conditions end; they are compared over these besides.
    shown
        What conditions that are printed begin with, up to a comma; all are where empty.
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
        """Who is trained for how long."""

    @abstractmethod
    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        """Make or find the data, once; gives facts that the result file keeps."""

    @abstractmethod
    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        """Train and score one contestant on what `prepare` left in *folder*."""

    def given(self, plan: Plan) -> Plan:
        """The rows that can be run on the user's data, which nobody has without noise."""
        return plan.without("clean")

    def references(self, folder: Path) -> dict[str, Scores]:
        """Rows that need no training, such as the floor."""
        return {}
