"""Figures of the summary page: one row for each method, with all seeds, the mean and its 95 % CI; and costs by size."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from cryovox.benchmark.tables import display_name, values
from cryovox.core.atomic import replacing
from cryovox.report.drawing import FAINT, INK
from cryovox.report.figures import COLORS

CONFIDENCE = 0.95


def figure_data(result: dict[str, Any], metric: str, condition: str, budget: str) -> dict[str, Any]:
    """Data of a figure."""
    rows = [
        (display_name(method["name"]), scores)
        for method in result["plan"]["contestants"]
        if (scores := values(result, method["name"], budget, condition, metric))
    ]
    baselines = {
        display_name(name): scores[condition][metric]
        for name, scores in result["references"].items()
        if metric in scores.get(condition, {})
    }
    names = {"metric": display_name(metric), "condition": display_name(condition), "budget": budget}
    return {**names, "rows": rows, "baselines": baselines}


def digest(data: dict[str, Any]) -> str:
    """Hash of the data of a figure."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def is_current(path: Path, data: dict[str, Any]) -> bool:
    """Whether the file shows these data; its exact content depends on the version of matplotlib."""
    return path.exists() and digest(data) in path.read_text(encoding="utf-8")


def draw(path: Path, data: dict[str, Any]) -> None:
    """Write the figure as SVG."""
    rows = sorted(data["rows"], key=lambda row: float(np.mean(row[1])))
    figure = Figure(
        figsize=(7.0, 0.8 + 0.26 * len(rows) + 0.2 * len(data["baselines"])), layout="constrained"
    )
    axes = figure.add_subplot()
    for y, (_, scores) in enumerate(rows):
        axes.plot(scores, np.full(len(scores), y), "o", color=COLORS[1], ms=4, alpha=0.7, zorder=3)
        mean, half = float(np.mean(scores)), half_width(scores)
        axes.errorbar(mean, y, xerr=half or None, fmt="D", color=COLORS[6], ms=4, capsize=3, lw=1.3, zorder=4)
    for (name, value), dashes in zip(data["baselines"].items(), ((4, 3), (1, 2), (6, 2, 1, 2)), strict=False):
        axes.axvline(value, color=FAINT, lw=1.2, ls=(0, dashes), zorder=1, label=name)
    if data["baselines"]:
        figure.legend(loc="outside upper left", frameon=False, fontsize=8)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    seeds = max((len(scores) for _, scores in rows), default=0)
    label = (
        f"{data['metric']}, {data['condition']}; {data['budget']}, n = {seeds} seeds; diamonds: mean, 95 % CI"
    )
    axes.set_xlabel(label, fontsize=8, color=INK)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color=FAINT, alpha=0.25, lw=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(y=0.05)
    save(figure, path, data)


def cost_data(result: dict[str, Any]) -> dict[str, Any]:
    """Data of :func:`draw_cost`: voxels, processor seconds, memory in GB and the limit of memory of each run."""
    rows = [
        [math.prod(row["shape"]), row["processor_seconds"], row["peak_GB"], row["max_ram"]]
        for row in result["rows"]
    ]
    return {"rows": sorted(rows, key=lambda row: (row[0], row[3] or ""))}


def draw_cost(path: Path, data: dict[str, Any]) -> None:
    """Write time and memory of one run against its voxels as SVG."""
    figure = Figure(figsize=(7.0, 2.8), layout="constrained")
    panels = figure.subplots(1, 2)
    for column, axes, label in zip((1, 2), panels, ("processor time, s", "highest memory, GB"), strict=True):
        for limited, color, marker in ((False, COLORS[1], "o"), (True, COLORS[6], "s")):
            points = [(row[0], row[column]) for row in data["rows"] if bool(row[3]) == limited]
            name = "with --max-ram" if limited else "no limit"
            axes.plot(*zip(*points, strict=True), marker, color=color, ms=5, label=name)
        axes.set(xscale="log", yscale="log")
        axes.set_xlabel("voxels", fontsize=8, color=INK)
        axes.set_ylabel(label, fontsize=8, color=INK)
        plain_axes(axes)
    voxels, seconds = np.array([row[:2] for row in data["rows"]], float).T
    line = seconds[-1] * voxels / voxels[-1]
    panels[0].plot(voxels, line, color=FAINT, lw=1, zorder=1, label="in proportion to voxels")
    panels[0].legend(frameon=False, fontsize=8)
    save(figure, path, data)


def growth_data(result: dict[str, Any]) -> dict[str, Any]:
    """Data of :func:`draw_growth`: species, processor seconds and memory in GB of each size."""
    rows: dict[str, list[list[float]]] = {}
    for row in result["rows"]:
        rows.setdefault(row["size"], []).append([row["species"], row["processor_seconds"], row["peak_GB"]])
    return {"rows": rows}


def draw_growth(path: Path, data: dict[str, Any]) -> None:
    """Write time and memory against the number of species as SVG, one line for each size."""
    figure = Figure(figsize=(7.0, 2.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for column, axes, label in zip((1, 2), panels, ("processor time, s", "highest memory, GB"), strict=True):
        for color, (size, rows) in zip(COLORS, data["rows"].items(), strict=False):
            points = [(row[0], row[column]) for row in rows]
            axes.plot(*zip(*points, strict=True), "o-", color=color, ms=5, lw=1.2, label=f"size {size}")
        axes.set_ylim(0, 1.08 * max(row[column] for rows in data["rows"].values() for row in rows))
        axes.set_xlabel("species", fontsize=8, color=INK)
        axes.set_ylabel(label, fontsize=8, color=INK)
        plain_axes(axes)
    panels[0].legend(frameon=False, fontsize=8)
    save(figure, path, data)


def roofline_data(result: dict[str, Any]) -> dict[str, Any]:
    """Data of :func:`draw_roofline`: peaks, and FLOP per byte and Gflop/s of each network."""
    points = {
        precision: {
            row["network"] if row["size"] == "s" else f"{row['network']}, {row['size']}": [
                row["flops"] / row[precision]["bytes"],
                row[precision]["Gflop_per_s"],
            ]
            for row in result["rows"]
        }
        for precision in ("float32", "bfloat16")
    }
    return {"peaks": result["machine_peaks"], "points": points}


def draw_roofline(path: Path, data: dict[str, Any]) -> None:
    """Write a roofline as SVG: one panel for each precision, networks as numbers."""
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    intensity = np.geomspace(0.5, 500, 200)
    for axes, (precision, points) in zip(
        figure.subplots(1, 2, sharey=True), data["points"].items(), strict=True
    ):
        peak = data["peaks"][f"matmul {precision}, Gflop/s"]
        for name, dashes in (("copy, GB/s", "-"), ("copy in the cache, GB/s", "--")):
            roof = np.minimum(peak, intensity * data["peaks"][name])
            label = "memory and matrix product" if dashes == "-" else "cache and matrix product"
            axes.plot(intensity, roof, dashes, color=FAINT, lw=1.2, label=label)
        for number, (x, y) in enumerate(points.values(), 1):
            axes.plot(x, y, "o", color=COLORS[1], ms=11, alpha=0.5, mew=0)
            axes.text(x, y, str(number), fontsize=7, ha="center", va="center", color=INK)
        axes.set(xscale="log", yscale="log")
        axes.set_title(precision, fontsize=9, color=INK, loc="left")
        axes.set_xlabel("FLOP per byte of all operators", fontsize=8, color=INK)
        plain_axes(axes)
    figure.axes[0].set_ylabel("Gflop/s", fontsize=8, color=INK)
    figure.axes[0].legend(frameon=False, fontsize=7, loc="lower right")
    names = [f"{number} {name}" for number, name in enumerate(data["points"]["float32"], 1)]
    lines = [",  ".join(names[i : i + 6]) for i in range(0, len(names), 6)]
    figure.supxlabel("\n".join(lines), fontsize=7, color=INK)
    save(figure, path, data)


def plain_axes(axes: Axes) -> None:
    """Small ticks, a faint grid and no frame."""
    axes.tick_params(which="both", labelsize=8)
    axes.grid(color=FAINT, alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path, data: dict[str, Any]) -> None:
    """Write the same SVG for the same data, with their hash."""
    with mpl.rc_context({"svg.hashsalt": "cryovox", "svg.fonttype": "none"}), replacing(path) as beside:
        figure.savefig(beside, format="svg", metadata={"Date": None, "Description": f"data {digest(data)}"})


def half_width(scores: list[float]) -> float:
    """Half width of the t interval of a mean over seeds; 0 for a single seed."""
    if len(scores) < 2:
        return 0.0
    return float(stats.sem(scores) * stats.t.ppf((1 + CONFIDENCE) / 2, len(scores) - 1))
