"""Summary of a finished training: held-out metrics in words, and warnings about the model."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cryovox.training.evaluation.held_out import RECALLS, Metrics, recall_interval

MIN_PASSES = 3.0
"""Average number of times that each pick should be shown at least."""
MAX_LOSS_DROP = 0.1
"""Relative fall of the loss over the last quarter from which the training was too short."""
MIN_ROWS = 8
"""Number of losses in metrics.csv that are needed to see a trend."""


@dataclass(frozen=True)
class TrainingCourse:
    """Course of a training.

    Attributes
    ----------
    steps, warmup
        Finished steps, and steps over which the learning rate rises.
    share
        Fraction of the training that is done, 0 to 1.
    picks, passes
        Annotated particles to learn from, and how often each was shown on average; None for a simulated
        stream, and where the network knew something before.
    losses
        In their order.
    metrics, blob_picker
        Held-out metrics of the network and of a DoG picker, as of `held_out.cross_fit`; empty where
        nothing is held out.
    """

    steps: int
    warmup: int
    share: float = 1.0
    picks: int = 0
    passes: float | None = None
    losses: Sequence[float] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    blob_picker: Mapping[str, float] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """Warnings about the model, a sentence each."""
        candidates = (
            self._unfinished(),
            self._few_steps(),
            self._rising_rate(),
            self._falling(),
            self._weak(),
        )
        return [sentence for sentence in candidates if sentence]

    def _unfinished(self) -> str:
        if self.share >= 1:
            return ""
        return f"the training is not finished: {100 * self.share:.0f} % done, at step {self.steps}"

    def _few_steps(self) -> str:
        if self.passes is None or self.passes >= MIN_PASSES:
            return ""
        needed = int(np.ceil(self.steps * MIN_PASSES / self.passes))
        return (
            f"{self.steps} steps showed each of the {self.picks} picks {self.passes:.1f} times on average; "
            f"train for {needed} steps at least"
        )

    def _rising_rate(self) -> str:
        if self.passes is None or self.steps > self.warmup:
            return ""
        return f"the learning rate was still rising ({self.steps} of {self.warmup} warm-up steps)"

    def _falling(self) -> str:
        quarter = len(self.losses) // 4
        if len(self.losses) < MIN_ROWS:
            return ""
        before, last = (
            float(np.mean(part)) for part in (self.losses[-2 * quarter : -quarter], self.losses[-quarter:])
        )
        drop = (before - last) / before if before > 0 else 0.0
        if drop <= MAX_LOSS_DROP:
            return ""
        return f"the training loss still fell by {100 * drop:.0f} % over the last quarter; train longer"

    def _weak(self) -> str:
        if not self.metrics:
            return "nothing was held out, as the picks are too few to judge by; the quality is not known"
        if "score" not in self.blob_picker or self.metrics["score"] > self.blob_picker["score"]:
            return ""
        return (
            f"held-out {_words(self.metrics)} is not above the {_values(self.blob_picker)} of a DoG picker, "
            "which learns nothing"
        )


def read_metrics_csv(path: Path) -> tuple[list[dict[str, float]], list[float]]:
    """Validations and losses in a `metrics.csv`, in their order."""
    validations: dict[int, dict[str, float]] = {}
    losses: dict[int, float] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step, (kind, _, name) = int(row["step"]), row["name"].partition("/")
            if kind == "val":
                validations.setdefault(step, {})[name] = float(row["value"])
            elif kind == "loss":
                losses[step] = losses.get(step, 0.0) + float(row["value"])
    return [validations[step] for step in sorted(validations)], [losses[step] for step in sorted(losses)]


def summary_line(metrics: Mapping[str, float], blob_picker: Mapping[str, float]) -> str:
    """Held-out metrics beside those of a DoG picker, as means over the species."""
    beside = f" (DoG picker {_values(blob_picker)})" if blob_picker else ""
    return f"held-out {_words(metrics)}{beside}"


def species_lines(
    metrics: Mapping[str, float], blob_picker: Mapping[str, float], extended: Collection[str] = ()
) -> list[str]:
    """A line for each species: metrics, those of a DoG picker, number of particles and intervals.

    Of *extended* structures the number of voxels.
    """
    lines = []
    for kind in dict.fromkeys(name.partition("/")[2] for name in metrics if name.startswith("n/")):
        own, theirs = _of(metrics, kind), _of(blob_picker, kind)
        count = metrics[f"n/{kind}"]
        text = f"{kind}: held-out {_words(own)}"
        if theirs:
            text += f"; DoG picker {_values(theirs)}"
        text += f"; n = {count:.0f} {'voxels' if kind in extended else 'particles'}"
        if recalls := [own[f"{name}/{kind}"] for name in RECALLS if f"{name}/{kind}" in own]:
            limits = (recall_interval(value, count) for value in recalls)
            text += ", 95 % CI " + ", ".join(f"{low:.2f}-{high:.2f}" for low, high in limits)
        lines.append(text)
    return lines


def _of(metrics: Mapping[str, float], kind: str) -> Metrics:
    return {name: value for name, value in metrics.items() if name.partition("/")[2] == kind}


def _means(metrics: Mapping[str, float]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for name, value in metrics.items():
        figure, _, kind = name.partition("/")
        if kind and figure != "n":
            values.setdefault(figure, []).append(value)
    return {figure: float(np.mean(some)) for figure, some in values.items()}


def _words(metrics: Mapping[str, float]) -> str:
    means = _means(metrics)
    parts = []
    if RECALLS[0] in means:
        parts.append(f"recall at 1x/2x/4x of the picks {_joined(means, RECALLS)}")
    parts += [
        f"{title} {means[name]:.2f}" for name, title in (("f1", "F1"), ("dice", "Dice")) if name in means
    ]
    return ", ".join(parts)


def _values(metrics: Mapping[str, float]) -> str:
    means = _means(metrics)
    recalls = [_joined(means, RECALLS)] if RECALLS[0] in means else []
    return ", ".join(recalls + [f"{means[name]:.2f}" for name in ("f1", "dice") if name in means])


def _joined(means: Mapping[str, float], names: Sequence[str]) -> str:
    return "/".join(f"{means[name]:.2f}" for name in names)
