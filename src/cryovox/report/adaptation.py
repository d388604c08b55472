"""One page that says which model an adaptation kept, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.report import charts, figures
from cryovox.report.figures import COLOURS, INK, WIDTH
from cryovox.report.html import Picture, Table
from cryovox.report.page import embedded, template

MOST = 4
"""Example slices that are shown."""
MODELS = ("source", "adapted")
MEASURES = {
    "agreement": "agreement between views (concordance)",
    "halves": "agreement between half tomograms (concordance)",
    "noise": "agreement with more noise (concordance)",
    "confidence": "mean probability where something is found",
    "entropy": "mean entropy (0 sure, 1 undecided)",
    "foreground": "share of the voxels called foreground",
    "prior": "octaves from the expected foreground",
}
NOTE = (
    "Measured on the target without labels: these numbers say whether a model is stable, not whether it is "
    "right. The score is agreement between views times agreement with more noise (with half tomograms, the "
    "square root of the product of all three), less where the foreground is more than two octaves from what "
    "the source data lead one to expect. An adapted model that finds in the target what it finds in noise of "
    "the same power is not kept, whatever it scores."
)


class Outcome(Protocol):
    """What was chosen; `cryovox.training.evaluation.model_selection.Choice` is one."""

    def summary(self) -> Mapping[str, Any]:
        """As plain values: ``chosen``, ``reasons``, ``scores`` and ``quality`` of both models."""


@dataclass(frozen=True, eq=False)
class Example:
    """A slice of the target and what both models say of it.

    Attributes
    ----------
    image : (y, x)
        Particles bright.
    source, adapted : (y, x) or coarser
        Probability of foreground.
    """

    name: str
    image: NDArray[Any]
    source: NDArray[Any]
    adapted: NDArray[Any]


def adaptation_page(
    choice: Outcome,
    facts: Mapping[str, object],
    examples: Sequence[Example] = (),
    courses: Mapping[str, Path] | None = None,
    title: str = "Adaptation to a target without labels",
) -> str:
    """The whole page as HTML text that needs no other file.

    Parameters
    ----------
    facts : name -> value
        What was run.
    examples
        The first four are shown.
    courses : name -> metrics.csv
        Of the trainings; those that are not there, or hold nothing, are left out.
    """
    told = choice.summary()
    shown = [_slices(examples[:MOST])] if examples else []
    return template("adaptation.html").render(
        title=title,
        verdict=_verdict(str(told["chosen"]), bool(told.get("undecided"))),
        reasons=told["reasons"],
        pictures=[*shown, *_curves(courses or {})],
        tables=[_qualities(told), _facts(facts)] if facts else [_qualities(told)],
    )


def outlines(examples: Sequence[Example]) -> Figure:
    """A column for each slice: plain, and below with the outlines (probability 0.5) of both models."""
    across = len(examples)
    side = min(WIDTH / max(across, 2), 3.5)
    figure = Figure(figsize=(side * across, 2 * side + 0.7), layout="constrained")
    for column, example in zip(figure.subplots(2, across, squeeze=False).T, examples, strict=True):
        height, width = example.image.shape
        low, high = np.percentile(example.image, (1, 99))
        for axes in column:
            box = (0.0, float(width), 0.0, float(height))
            axes.imshow(example.image, cmap="gray_r", vmin=low, vmax=high, origin="lower", extent=box)
            axes.set_axis_off()
        column[0].set_title(example.name, fontsize=9, color=INK, loc="left")
        for tint, found, style in zip(COLOURS, (example.source, example.adapted), ("--", "-"), strict=False):
            _outline(column[1], found, (height, width), tint, style)
    handles = [
        Line2D([], [], color=tint, lw=1.5, ls=style, label=f"{name} model")
        for tint, name, style in zip(COLOURS, MODELS, ("--", "-"), strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    return figure


def _outline(axes: Axes, found: NDArray[Any], sides: tuple[int, int], tint: str, style: str) -> None:
    """The line at 0.5, where there is one; matplotlib warns otherwise."""
    if not (np.isfinite(found).all() and found.min() < 0.5 < found.max()):
        return
    y, x = ((np.arange(n) + 0.5) * side / n for n, side in zip(found.shape, sides, strict=True))
    axes.contour(x, y, found, levels=[0.5], colors=[tint], linestyles=[style], linewidths=1.3)


def _slices(examples: Sequence[Example]) -> Picture:
    drawn = figures.png(outlines(examples), 1_200_000)
    names = ", ".join(example.name for example in examples)
    caption = "Slices of the target; below, what each model calls foreground. Particles are shown dark."
    return Picture(embedded("png", drawn), f"Outlines of both models in slices of {names}", caption)


def _curves(courses: Mapping[str, Path]) -> Iterator[Picture]:
    for name, path in courses.items():
        try:
            drawn = figures.svg(charts.training_curves(path))
        except (OSError, RequestError):  # of a model that was not trained here
            continue
        caption = f"Training of the {name} model, against the step."
        yield Picture(embedded("svg+xml", drawn), f"Losses of the {name} model", caption)


def _verdict(chosen: str, undecided: bool) -> str:
    if undecided:
        return "Neither model finds anything in the target. The source model stays; the adaptation failed."
    if chosen == "adapted":
        return "The adapted model was kept."
    return "The source model was kept; the adapted one was not trusted."


def _qualities(told: Mapping[str, Any]) -> Table:
    found = [told["quality"][model] for model in MODELS]
    rows = [
        [words, *(_cell(quality.get(name)) for quality in found)]
        for name, words in MEASURES.items()
        if any(quality.get(name) is not None for quality in found)
    ]
    score = ["score", *(_cell(told["scores"][model]) for model in MODELS)]
    columns = ["", *(f"{m} model{' (kept)' if m == told['chosen'] else ''}" for m in MODELS)]
    return Table("What was compared", columns, [*rows, score], NOTE)


def _facts(facts: Mapping[str, object]) -> Table:
    return Table("What was run", ["", "value"], [[name, str(value)] for name, value in facts.items()])


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if math.isfinite(value) else "not finite"
