"""Evaluation report of a particle list: scores and precision-recall curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cryovox.core.atomic import replacing
from cryovox.report import charts, plotting
from cryovox.report.drawing import INK
from cryovox.report.figures import COLORS
from cryovox.report.html import Picture, Table
from cryovox.report.page import embedded, template

Curve = Mapping[str, Sequence[float]]
"""Columns of a curve: precision, recall, threshold and picks."""


def precision_recall(curves: Mapping[str, Curve]) -> Figure:
    """Precision-recall curves, one per species; a dot marks the complete list."""
    figure = Figure(figsize=(plotting.WIDTH * 0.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, curve) in enumerate(curves.items()):
        color = COLORS[i % len(COLORS)]
        order = np.argsort(curve["recall"], kind="stable")
        recall, precision = (np.asarray(curve[column])[order] for column in ("recall", "precision"))
        axes.plot(recall, precision, lw=1.4, color=color, label=name)
        last = int(np.argmax(curve["picks"]))
        axes.plot(curve["recall"][last], curve["precision"][last], "o", ms=4, color=color)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall", fontsize=8, color=INK)
    axes.set_ylabel("precision", fontsize=8, color=INK)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    charts.tidy_axes(axes)
    return figure


def write_evaluation_page(
    path: Path, table: Table, curves: Mapping[str, Curve], notes: Sequence[str], facts: Mapping[str, object]
) -> None:
    """Write the page as one HTML file that needs no other file.

    Parameters
    ----------
    path
        HTML file.
    table
        Table with one row per tomogram and species.
    curves
        Species -> curve over all tomograms; empty curves are skipped.
    notes
        Limits of the comparison, such as species that are not annotated exhaustively.
    facts
        Name -> value of the settings.
    """
    drawn = {name: curve for name, curve in curves.items() if len(curve["recall"])}
    caption = "Precision and recall over all tomograms by score threshold. Dots mark the complete list."
    figure = precision_recall(drawn) if drawn else None
    uri = embedded("svg+xml", plotting.svg(figure)) if figure is not None else ""
    pictures = [Picture(uri, "Precision-recall curve of each species", caption)] if drawn else []
    tables = [table, *([Table("Notes", ["note"], [[note] for note in notes])] if notes else [])]
    tables.append(Table("Settings", ["", "value"], [[name, value] for name, value in facts.items()]))
    text = template("figures_and_tables.html").render(
        title="Evaluation of picks", pictures=pictures, tables=tables
    )
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
