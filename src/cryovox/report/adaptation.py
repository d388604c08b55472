"""Report page of a domain adaptation: the selected model and the reasons."""

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
from cryovox.report import charts, plotting
from cryovox.report.drawing import INK
from cryovox.report.figures import COLORS
from cryovox.report.html import Picture, Table
from cryovox.report.page import embedded, template
from cryovox.report.plotting import WIDTH

MAX_EXAMPLES = 4
"""Number of example slices on the page."""
MODELS = ("source", "adapted")
MEASURES = {
    "agreement": "agreement between views (concordance)",
    "halves": "agreement between half tomograms (concordance)",
    "noise": "agreement with more noise (concordance)",
    "confidence": "mean foreground probability",
    "entropy": "mean normalized entropy (0 to 1)",
    "foreground": "foreground fraction",
    "prior": "deviation from the expected foreground (fold)",
}
NOTE = (
    "All values are measured on the target without labels. They show whether the predictions of a model are "
    "stable, not whether they are correct. The score is the agreement between views times the agreement with "
    "added noise (with half tomograms: the square root of the product of all three). It is reduced if the "
    "foreground deviates more than 4-fold from the fraction expected from the source data. An adapted model "
    "whose predictions in the target do not differ from those in noise of the same power is rejected."
)


class Outcome(Protocol):
    """Outcome of the model selection, such as `cryovox.training.evaluation.model_selection.Choice`."""

    def summary(self) -> Mapping[str, Any]:
        """``chosen``, ``reasons``, and ``scores`` and ``quality`` of both models as plain values."""


@dataclass(frozen=True, eq=False)
class Example:
    """A slice of the target with the predictions of both models.

    Attributes
    ----------
    image : (y, x)
        Slice with bright particles.
    source, adapted : (y, x) or coarser
        Foreground probability.
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
        Settings of the run.
    examples
        Example slices; the first `MAX_EXAMPLES` are shown.
    courses : name -> metrics.csv
        Metrics of the trainings; missing and empty files are skipped.
    """
    summary = choice.summary()
    pictures = [_slices(examples[:MAX_EXAMPLES])] if examples else []
    return template("adaptation.html").render(
        title=title,
        verdict=_verdict(str(summary["chosen"]), bool(summary.get("undecided"))),
        reasons=summary["reasons"],
        pictures=[*pictures, *_curves(courses or {})],
        tables=[_quality_table(summary), *([_fact_table(facts)] if facts else [])],
    )


def outlines(examples: Sequence[Example]) -> Figure:
    """One column per slice; the lower row has the contours of both models at probability 0.5."""
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
        for tint, prediction, style in zip(
            COLORS, (example.source, example.adapted), ("--", "-"), strict=False
        ):
            _outline(column[1], prediction, (height, width), tint, style)
    handles = [
        Line2D([], [], color=tint, lw=1.5, ls=style, label=f"{name} model")
        for tint, name, style in zip(COLORS, MODELS, ("--", "-"), strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    return figure


def _outline(axes: Axes, prediction: NDArray[Any], shape: tuple[int, int], tint: str, style: str) -> None:
    """Draw the contour at 0.5 if there is one; matplotlib warns otherwise."""
    if not (np.isfinite(prediction).all() and prediction.min() < 0.5 < prediction.max()):
        return
    y, x = ((np.arange(n) + 0.5) * side / n for n, side in zip(prediction.shape, shape, strict=True))
    axes.contour(x, y, prediction, levels=[0.5], colors=[tint], linestyles=[style], linewidths=1.3)


def _slices(examples: Sequence[Example]) -> Picture:
    drawn = plotting.png(outlines(examples), 1_200_000)
    names = ", ".join(example.name for example in examples)
    caption = "Slices of the target; lower row with the predicted foreground. Particles are dark."
    return Picture(
        embedded("png", drawn), f"Foreground contours of both models in slices of {names}", caption
    )


def _curves(courses: Mapping[str, Path]) -> Iterator[Picture]:
    for name, path in courses.items():
        try:
            drawn = plotting.svg(charts.training_curves(path))
        except (OSError, RequestError):  # the model was not trained in this run
            continue
        caption = f"Training of the {name} model: losses and metrics by step."
        yield Picture(embedded("svg+xml", drawn), f"Losses of the {name} model", caption)


def _verdict(chosen: str, undecided: bool) -> str:
    if undecided:
        return "The adaptation failed: neither model predicts foreground in the target; the source was kept."
    if chosen == "adapted":
        return "The adapted model was kept."
    return "The source model was kept; the adapted model was rejected."


def _quality_table(summary: Mapping[str, Any]) -> Table:
    qualities = [dict(summary["quality"][model]) for model in MODELS]
    for quality in qualities:
        if (octaves := quality.get("prior")) is not None:
            quality["prior"] = 2.0**octaves if octaves < 1000 else octaves
    rows = [
        [label, *(_cell(quality.get(name)) for quality in qualities)]
        for name, label in MEASURES.items()
        if any(quality.get(name) is not None for quality in qualities)
    ]
    score = ["score", *(_cell(summary["scores"][model]) for model in MODELS)]
    columns = ["", *(f"{m} model{' (kept)' if m == summary['chosen'] else ''}" for m in MODELS)]
    return Table("Comparison of the models", columns, [*rows, score], NOTE)


def _fact_table(facts: Mapping[str, object]) -> Table:
    return Table("Run", ["", "value"], [[name, str(value)] for name, value in facts.items()])


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if math.isfinite(value) else "not finite"
