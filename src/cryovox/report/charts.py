"""Charts of counts and training curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.report.drawing import FAINT, INK
from cryovox.report.figures import COLORS
from cryovox.report.plotting import WIDTH

Curve = list[tuple[float, float]]  # (step, value)
NOT_DRAWN = ("step", "epoch", "lr", "seconds", "time", "elapsed", "progress", "samples")


def counts(picks: Mapping[str, Particles], species: Sequence[str], max_bars: int = 40) -> Figure:
    """Picks per tomogram: one bar each, or a histogram of more than *max_bars* tomograms."""
    numbers = {name: [int((p.species == name).sum()) for p in picks.values()] for name in species}
    figure = Figure(layout="constrained")
    if len(picks) > max_bars:
        figure.set_size_inches(WIDTH, 2.6)
        axes = figure.add_subplot()
        tints = [COLORS[i % len(COLORS)] for i in range(len(species))]
        axes.hist(list(numbers.values()), bins=24, color=tints, label=list(species), histtype="bar")
        axes.set_xlabel("picks per tomogram", fontsize=8, color=INK)
        axes.set_ylabel("tomograms", fontsize=8, color=INK)
    else:
        figure.set_size_inches(WIDTH, 0.9 + 0.24 * len(picks))
        axes = figure.add_subplot()
        rows, start = np.arange(len(picks)), np.zeros(len(picks))
        for i, (name, values) in enumerate(numbers.items()):
            axes.barh(rows, values, left=start, height=0.7, color=COLORS[i % len(COLORS)], label=name)
            start += values
        axes.set_yticks(rows, [name if len(name) <= 40 else f"{name[:39]}…" for name in picks])
        axes.invert_yaxis()
        axes.set_xlabel("picks", fontsize=8, color=INK)
    if len(species) > 1:
        axes.legend(frameon=False, fontsize=8, loc="best")
    tidy_axes(axes)
    return figure


def training_curves(metrics_csv: Path) -> Figure:
    """Losses and validation metrics by training step.

    The table is wide (``step,loss,val_score``) or long (``step,name,value``). Empty cells and columns with
    times are skipped.
    """
    curves = _curves(metrics_csv)
    losses = {name: c for name, c in curves.items() if "loss" in name}
    others = {name: c for name, c in curves.items() if name not in losses}
    panels = [(title, c) for title, c in (("losses", losses), ("metrics", others)) if c]
    if not panels:
        raise RequestError(
            metrics_csv, "holds no values to plot", "it needs the column step and at least one other"
        )
    figure = Figure(figsize=(WIDTH if len(panels) > 1 else WIDTH * 0.6, 3.0), layout="constrained")
    for (title, group), axes in zip(panels, figure.subplots(1, len(panels), squeeze=False).flat, strict=True):
        for i, (name, curve) in enumerate(group.items()):
            steps, values = np.array(curve).T
            mark = "o" if len(curve) < 60 else ""
            axes.plot(steps, values, lw=1.2, color=COLORS[i % len(COLORS)], marker=mark, ms=2.5, label=name)
        if title == "losses" and all(value > 0 for c in group.values() for _, value in c):
            axes.set_yscale("log")
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        axes.set_xlabel("step", fontsize=8, color=INK)
        axes.legend(frameon=False, fontsize=7)
        tidy_axes(axes)
    return figure


def _curves(path: Path) -> dict[str, Curve]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    curves: dict[str, Curve] = {}
    long = bool(rows) and {"name", "value"} <= set(rows[0])
    for i, row in enumerate(rows):
        step = _number(row.get("step"))
        cells = [(row["name"], row["value"])] if long else [(k, v) for k, v in row.items() if k]
        for name, cell in cells:
            value = _number(cell)
            if value is not None and name not in NOT_DRAWN and not name.startswith("val/half"):
                curves.setdefault(name, []).append((float(i) if step is None else step, value))
    return curves


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def tidy_axes(axes: Axes) -> None:
    """Draw the left and bottom spine alone, with small ticks."""
    axes.tick_params(labelsize=7, colors=INK, length=3, width=0.6, which="both")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.6)
        spine.set_color(FAINT)
