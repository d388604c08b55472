"""Activation maps of a network, by view and layer, overlaid on a slice of the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryovox.report.drawing import FAINT, INK
from cryovox.report.figures import COLORS
from cryovox.report.plotting import WIDTH

HEAT = "turbo"
NODE_COLORS = 16  # graph nodes with a higher index reuse them


def activation_page(
    image: NDArray[np.floating],
    maps: Mapping[str, NDArray[np.floating]],
    *,
    assignment: NDArray[np.integer] | None = None,
    masks: Mapping[str, NDArray[np.integer]] | None = None,
    at: int | None = None,
) -> Figure:
    """One xy slice of a cube with graph and masks; below, one row of activations per layer.

    Parameters
    ----------
    image : (z, y, x)
        Subtomogram with bright particles, which are shown dark.
    maps : name -> (z, y, x)
        Activations in [0, 1] from `cryovox.models.activations.activations`, named VIEW/LAYER, such as
        ``xy/4``. A name without a layer gets its own row.
    assignment : (g, g, g)
        Node of the graph for each token.
    masks : name -> (z, y, x)
        Label maps with background 0, such as ``{"truth": ..., "mask": ...}``.
    at
        Index of the slice in z; the middle one by default.
    """
    at = image.shape[0] // 2 if at is None else at
    rows = _rows(maps)
    above = 1 + (assignment is not None) + len(masks or {})
    across = max(above, *(len(row) for row in rows.values()))
    side = WIDTH / max(across, 4)
    figure = Figure(figsize=(side * across, (side + 0.2) * (1 + len(rows)) + 0.5), layout="constrained")
    table = figure.subplots(1 + len(rows), across, squeeze=False)
    for axes in table.flat:
        axes.set_axis_off()
    _top(table[0], image, assignment, masks or {}, at)
    for (layer, row), line in zip(rows.items(), table[1:], strict=True):
        for axes, (view, level) in zip(line, row.items(), strict=False):
            _slice(axes, image, at, f"{view}, layer {layer}" if layer else view)
            opacity = 0.75 * np.clip(level[at], 0, 1) ** 0.5  # keep the slice visible at low activations
            axes.imshow(level[at], cmap=HEAT, vmin=0, vmax=1, alpha=opacity, origin="lower")
    scale = ScalarMappable(Normalize(0, 1), HEAT)
    places = table[1:].ravel().tolist()
    bar = figure.colorbar(scale, ax=places, location="bottom", shrink=0.4, pad=0.01, aspect=40)
    bar.set_label("activation", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7, colors=INK)
    return figure


def _rows(maps: Mapping[str, NDArray[np.floating]]) -> dict[str, dict[str, NDArray[np.floating]]]:
    """Layer -> view -> activations, in input order."""
    rows: dict[str, dict[str, NDArray[np.floating]]] = {}
    for name, level in maps.items():
        view, _, layer = name.partition("/")
        rows.setdefault(layer, {})[view] = level
    return rows


def _top(
    line: Sequence[Axes],
    image: NDArray[np.floating],
    assignment: NDArray[np.integer] | None,
    masks: Mapping[str, NDArray[np.integer]],
    at: int,
) -> None:
    places = iter(line)
    _slice(next(places), image, at, f"slice z = {at}")
    if assignment is not None:
        axes = next(places)
        _slice(axes, image, at, f"graph, {len(np.unique(assignment))} nodes")
        nodes = assignment[at * assignment.shape[0] // image.shape[0]]
        extent = (-0.5, image.shape[2] - 0.5, -0.5, image.shape[1] - 0.5)
        colors = ListedColormap(matplotlib.colormaps["tab20"](np.arange(NODE_COLORS) / 20))
        axes.imshow(nodes % NODE_COLORS, cmap=colors, vmin=-0.5, vmax=NODE_COLORS - 0.5, alpha=0.55,
                    origin="lower", extent=extent, interpolation="nearest")  # fmt: skip
    for name, mask in masks.items():
        axes = next(places)
        _slice(axes, image, at, name)
        for label in np.unique(mask[at][mask[at] > 0]):
            color = COLORS[(int(label) - 1) % len(COLORS)]
            axes.contour(mask[at] == label, levels=[0.5], colors=[color], linewidths=1.6)


def _slice(axes: Axes, image: NDArray[np.floating], at: int, title: str) -> None:
    low, high = np.percentile(image[at], (1, 99))
    axes.imshow(image[at], cmap="gray_r", vmin=low, vmax=high, origin="lower")
    axes.set_title(title, fontsize=8, color=INK, loc="left", pad=3)
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_linewidth(0.6)
        side.set_color(FAINT)
