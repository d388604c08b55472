"""Figures of the summary page: one row for each contestant, every seed, the mean and its interval."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from cryovox.benchmark.tables import values
from cryovox.core.atomic import replacing
from cryovox.report.figures import COLOURS, FAINT, INK

LEVEL = 0.95


def drawn(result: dict[str, Any], metric: str, condition: str, budget: str) -> dict[str, Any]:
    """What a figure shows, and nothing else."""
    rows = [
        (c["name"], found)
        for c in result["plan"]["contestants"]
        if (found := values(result, c["name"], budget, condition, metric))
    ]
    floors = {
        name: scores[condition][metric]
        for name, scores in result["references"].items()
        if metric in scores.get(condition, {})
    }
    return {"metric": metric, "condition": condition, "budget": budget, "rows": rows, "floors": floors}


def digest(data: dict[str, Any]) -> str:
    """Hash of what a figure shows."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def is_current(path: Path, data: dict[str, Any]) -> bool:
    """Whether the file was drawn from these data; how it looks depends on the version of matplotlib."""
    return path.exists() and digest(data) in path.read_text(encoding="utf-8")


def draw(path: Path, data: dict[str, Any]) -> None:
    """Write the figure as SVG."""
    rows = sorted(data["rows"], key=lambda row: float(np.mean(row[1])))
    figure = Figure(figsize=(7.0, 0.8 + 0.26 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, found) in enumerate(rows):
        axes.plot(found, np.full(len(found), place), "o", color=COLOURS[1], ms=4, alpha=0.7, zorder=3)
        mean, half = float(np.mean(found)), half_width(found)
        axes.errorbar(
            mean, place, xerr=half or None, fmt="D", color=COLOURS[6], ms=4, capsize=3, lw=1.3, zorder=4
        )
    for name, value in data["floors"].items():
        axes.axvline(value, color=FAINT, lw=1, ls=(0, (4, 3)), zorder=1)
        axes.text(value, 1.01, name, transform=axes.get_xaxis_transform(), fontsize=7, color=INK, ha="center")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    seeds = max((len(found) for _, found in rows), default=0)
    label = (
        f"{data['metric']}, {data['condition']}; {data['budget']}, n = {seeds} seeds; diamonds: mean, 95 % CI"
    )
    axes.set_xlabel(label, fontsize=8, color=INK)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color=FAINT, alpha=0.25, lw=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(y=0.05)
    with mpl.rc_context({"svg.hashsalt": "cryovox", "svg.fonttype": "none"}), replacing(path) as beside:
        figure.savefig(beside, format="svg", metadata={"Date": None, "Description": f"data {digest(data)}"})


def half_width(found: list[float]) -> float:
    """Half of the t interval of a mean over seeds; 0 for a single one."""
    if len(found) < 2:
        return 0.0
    return float(stats.sem(found) * stats.t.ppf((1 + LEVEL) / 2, len(found) - 1))
