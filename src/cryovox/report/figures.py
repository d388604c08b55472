"""Figures of a picking result: slices with scores and picks, and galleries of picks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume, Voxels, release_pages
from cryovox.picking.lamella import Lamella

# M. Okabe and K. Ito, Color Universal Design (2008): suitable for color-blind readers
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2")
INK, FAINT = "#2b2f36", "#8a909a"
WIDTH, HEIGHT = 9.0, 8.0  # inches
MIN_OVERLAY_SCORE = 0.1  # lower scores are transparent

Voxel = tuple[int, int, int]
Axes3 = tuple[int, int, int]  # vertical, horizontal, normal: indices into (z, y, x)
Plane = NDArray[np.float32]


def slices(
    volume: Volume,
    scores: ScoreMap | None = None,
    particles: Particles | None = None,
    species: Sequence[Species] = (),
    at: Voxel | None = None,
    sign: int = -1,
    lamella: Lamella | None = None,
) -> Figure:
    """Three orthogonal slices with scores as an overlay and picks as circles.

    A circle is the intersection of the slice with the sphere of a particle: its radius is
    ``sqrt(r^2 - d^2)`` at a distance d from the center. Only the displayed planes are read.

    Parameters
    ----------
    species
        Displayed species, in the order of the colors.
    at : (z, y, x) voxel
        Intersection of the slices; by default the place with the most picks, or the center.
    sign
        +1 if particles are bright in `volume`, -1 if dark; the figure always shows them dark.
    lamella
        Faces of the sample, dashed lines in XZ and YZ.
    """
    at = at or dense_place(volume, particles, species)
    unit, scale = ("nm", 0.1) if max(volume.shape) * volume.voxel_size >= 1000 else ("Å", 1.0)
    depth, height, width = (n * volume.voxel_size for n in volume.shape)
    # xy above xz, yz to the right, with aligned axes; the thin axis keeps a minimum size
    depth = max(depth, 0.2 * max(height, width))
    wide, tall = width + depth, height + depth
    zoom = min(WIDTH / wide, HEIGHT / tall)
    figure = Figure(figsize=(wide * zoom + 0.9, tall * zoom + 0.9), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[width, depth], height_ratios=[height, depth])
    for cell, name, order in (
        (grid[0, 0], "XY", (1, 2, 0)),
        (grid[1, 0], "XZ", (0, 2, 1)),
        (grid[0, 1], "YZ", (1, 0, 2)),
    ):
        axes = figure.add_subplot(cell, label=name)
        place = at[order[2]] * volume.voxel_size
        _gray(axes, volume, at[order[2]], order, sign, scale)
        if scores is not None:
            _overlay(axes, scores, species, place, order, scale)
        if particles is not None:
            _circles(axes, particles, species, place, order, scale)
        for line, axis in ((axes.axhline, order[0]), (axes.axvline, order[1])):
            line(at[axis] * volume.voxel_size * scale, color=FAINT, lw=0.6, ls=(0, (6, 4)), alpha=0.8)
        if lamella is not None:
            _faces(axes, lamella, at, order, volume.voxel_size * scale)
        cut = "zyx"[order[2]]
        axes.set_title(f"{name} at {cut} = {place * scale:.4g} {unit}", fontsize=9, color=INK, loc="left")
        axes.set_ylabel(f"{'zyx'[order[0]]} ({unit})", fontsize=8, color=INK)
        axes.set_xlabel(f"{'zyx'[order[1]]} ({unit})", fontsize=8, color=INK)
        _style_axes(axes)
    _legend(figure, grid[1, 1], species, scores is not None)
    return figure


def dense_place(
    volume: Volume, particles: Particles | None, species: Sequence[Species] = ()
) -> tuple[int, int, int]:
    """Voxel of the pick with the most other picks near its planes; the center without picks."""
    if particles is None or not len(particles):
        return volume.shape[0] // 2, volume.shape[1] // 2, volume.shape[2] // 2
    where = particles.positions
    reach = min([s.radius for s in species], default=5 * volume.voxel_size) / 2
    near = []
    for along in where.T:
        ranked = np.sort(along)
        near.append(np.searchsorted(ranked, along + reach) - np.searchsorted(ranked, along - reach))
    # the xy plane is displayed largest; the others break ties
    best = where[int(np.argmax(near[0] + 0.3 * (near[1] + near[2])))]
    z, y, x = np.clip(np.rint(best / volume.voxel_size).astype(int), 0, np.array(volume.shape) - 1)
    return int(z), int(y), int(x)


def montage(
    volume: Volume,
    particles: Particles,
    species: Species,
    n: int = 24,
    sign: int = -1,
    tint: str = COLORS[0],
) -> Figure:
    """Gallery of the best, middle and worst picks of one species, each with its score.

    A thumbnail is the mean over z within half a radius of the pick; voxels outside the tomogram are white.
    """
    picks = particles.named(species.name).sorted()
    across = max(1, n // 3)
    rows = thirds(len(picks), across)
    half = int(np.ceil(2.0 * species.radius / volume.voxel_size)) + 1
    crops = {i: _crop(volume, picks.positions[i], half, species.radius / 2) for _, row in rows for i in row}
    low, high = _limits(list(crops.values()))
    lines = max(1, len(rows))
    figure = Figure(figsize=(WIDTH, (WIDTH - 0.4) / across * 1.17 * lines + 0.1))
    table = figure.subplots(lines, across, squeeze=False)
    figure.subplots_adjust(0.03, 0.1 / (lines * 1.2), 0.995, 1 - 0.16 / lines, wspace=0.06, hspace=0.16)
    for axes in table.flat:
        axes.set_axis_off()
    for (name, members), line in zip(rows, table, strict=False):
        line[0].text(-0.06, 0.5, name, rotation=90, ha="right", va="center", fontsize=8, color=INK)
        line[0].texts[0].set_transform(line[0].transAxes)
        for i, axes in zip(members, line, strict=False):
            voxel = np.rint(picks.positions[i] / volume.voxel_size) * volume.voxel_size
            ends = [s * (half + 0.5) * volume.voxel_size + c for c in (voxel[2], voxel[1]) for s in (-1, 1)]
            cmap = "gray_r" if sign > 0 else "gray"
            extent = (ends[0], ends[1], ends[2], ends[3])
            image = axes.imshow(crops[i], cmap=cmap, vmin=low, vmax=high, origin="lower", extent=extent)
            image.set_interpolation("bilinear")
            axes.set_axis_on()
            axes.set(xticks=[], yticks=[])
            _style_axes(axes)
            center = (picks.positions[i, 2], picks.positions[i, 1])
            axes.add_patch(Circle(center, species.radius, fill=False, lw=1.2, ls=(0, (2, 2)), ec=tint))
            axes.set_title(f"{picks.scores[i]:.2f}", fontsize=8, color=INK, pad=2)
    if rows:
        _scale_bar(table[0, 0], (2 * half + 1) * volume.voxel_size)
    return figure


def thirds(n: int, across: int) -> list[tuple[str, list[int]]]:
    """Indices of the best, middle and worst of n ranked items, at most *across* of each.

    Examples
    --------
    >>> thirds(9, 2)
    [('best', [0, 1]), ('middle', [3, 4]), ('worst', [7, 8])]
    >>> thirds(2, 4)
    [('all', [0, 1])]
    """
    if n <= across:
        return [("all", list(range(n)))] if n else []
    if n < 3 * across:
        best, middle, worst = (part.tolist() for part in np.array_split(np.arange(n), 3))
    else:
        start = (n - across) // 2
        best, middle, worst = (list(range(i, i + across)) for i in (0, start, n - across))
    named = [("best", best), ("middle", middle), ("worst", worst)]
    return [(name, members) for name, members in named if members]


def png(figure: Figure, limit: int = 400_000, dpi: float = 110) -> bytes:
    """Encode a figure as PNG of at most *limit* bytes, with fewer colors and then fewer pixels if needed."""
    while True:
        drawn, raw = _drawn(figure, dpi), io.BytesIO()
        drawn.save(raw, format="png")
        if raw.tell() <= limit:
            return raw.getvalue()
        small = io.BytesIO()
        # noisy gray values compress poorly; a palette image is a third of the size of RGB
        drawn.quantize(160).save(small, format="png", optimize=True)
        if small.tell() <= limit or dpi < 30:
            return small.getvalue()
        dpi *= max(0.5, 0.95 * (limit / small.tell()) ** 0.5)


def _drawn(figure: Figure, dpi: float) -> Image.Image:
    """A figure as pixels, laid out and drawn once; `savefig` does both twice."""
    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def svg(figure: Figure) -> bytes:
    """Encode a figure as SVG; equal figures give equal bytes."""
    raw = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "cryovox"}):
        figure.savefig(raw, format="svg", facecolor="white", metadata={"Date": None})
    return raw.getvalue()


def _gray(axes: Axes, volume: Volume, cut: int, order: Axes3, sign: int, scale: float) -> None:
    thick = slice(max(0, cut - 1), cut + 2)
    index: list[Any] = [slice(None)] * 3
    index[order[2]] = thick
    plane = _finite(_read(volume.data, tuple(index))).mean(axis=order[2])
    if order[0] > order[1]:
        plane = plane.T
    plane = ndimage.gaussian_filter(plane, 0.8)
    low, high = _limits([plane])
    extent = _extent(plane.shape, volume.voxel_size, 0.0, scale)
    cmap = "gray_r" if sign > 0 else "gray"
    axes.imshow(plane, cmap=cmap, vmin=low, vmax=high, origin="lower", extent=extent)


def _read(data: Voxels, index: tuple[slice, slice, slice], planes: int = 32) -> Plane:
    """Part of a volume; of a memory map, a slice along z would otherwise keep every page in memory."""
    z, y, x = index
    (start, stop, _), parts = z.indices(data.shape[0]), []
    for first in range(start, stop, planes):
        parts.append(np.array(data[first : min(first + planes, stop), y, x], np.float32))
        release_pages(data)
    return np.concatenate(parts)


def _overlay(
    axes: Axes, scores: ScoreMap, species: Sequence[Species], place: float, order: Axes3, scale: float
) -> None:
    channels = {s.name: k for k, s in enumerate(scores.species)}
    last = scores.data.shape[1 + order[2]] - 1
    cut = int(np.clip(np.rint((place - scores.offset) / scores.voxel_size), 0, last))
    for i, one in enumerate(species):
        if one.name not in channels:
            continue
        index: list[Any] = [channels[one.name], slice(None), slice(None), slice(None)]
        index[1 + order[2]] = cut
        plane = np.asarray(scores.data[tuple(index)], dtype=np.float32)
        if order[0] > order[1]:
            plane = plane.T
        tinted = np.empty((*plane.shape, 4), np.float32)
        tinted[..., :3] = to_rgb(COLORS[i % len(COLORS)])
        tinted[..., 3] = 0.6 * np.clip(
            (np.nan_to_num(plane) - MIN_OVERLAY_SCORE) / (1 - MIN_OVERLAY_SCORE), 0, 1
        )
        extent = _extent(plane.shape, scores.voxel_size, scores.offset, scale)
        axes.imshow(tinted, origin="lower", extent=extent, interpolation="nearest", label=one.name)


def _circles(
    axes: Axes, particles: Particles, species: Sequence[Species], place: float, order: Axes3, scale: float
) -> None:
    vertical, horizontal, cut = order
    for i, one in enumerate(species):
        where = particles.named(one.name).positions
        squared = one.radius**2 - (where[:, cut] - place) ** 2
        for center, square in zip(where[squared > 0], squared[squared > 0], strict=True):
            middle = (center[horizontal] * scale, center[vertical] * scale)
            ring = Circle(middle, float(np.sqrt(square)) * scale, fill=False, lw=1.1, label=one.name)
            ring.set_edgecolor(COLORS[i % len(COLORS)])
            axes.add_patch(ring)


def _faces(axes: Axes, lamella: Lamella, at: Voxel, order: Axes3, scale: float) -> None:
    """Lines where the faces of the sample meet a slice along z."""
    if order[2] == 0:
        return
    along = np.array([0.0, lamella.shape[3 - order[2]] - 1.0])
    y, x = (along, at[2]) if order[2] == 2 else (at[1], along)
    for plane in filter(None, (lamella.lower, lamella.upper)):
        z = plane.at(y, x) * scale
        horizontal, vertical = (along * scale, z) if order[0] == 0 else (z, along * scale)
        limits = axes.get_xlim(), axes.get_ylim()
        axes.plot(horizontal, vertical, color=COLORS[0], lw=0.9, ls="--", label="sample boundary")
        axes.set(xlim=limits[0], ylim=limits[1])


def _extent(
    shape: tuple[int, ...], voxel_size: float, offset: float, scale: float
) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of a plane whose first voxel is centered at *offset*."""
    start = (offset - voxel_size / 2) * scale
    return start, start + shape[1] * voxel_size * scale, start, start + shape[0] * voxel_size * scale


def _legend(figure: Figure, cell: Any, species: Sequence[Species], scored: bool) -> None:
    axes = figure.add_subplot(cell, label="legend")
    axes.set_axis_off()
    handles = [
        Line2D(
            [], [], ls="", marker="o", ms=9, mfc="none", mew=1.6, mec=COLORS[i % len(COLORS)], label=s.name
        )
        for i, s in enumerate(species)
    ]
    if handles:
        title = "picks (circles), scores (tint)" if scored else "picks"
        box = axes.legend(handles=handles, loc="center", frameon=False, fontsize=8, title=title)
        box.get_title().set_fontsize(8)
        box.set_in_layout(False)


def _crop(volume: Volume, position: NDArray[np.float64], half: int, depth: float) -> Plane:
    """Mean over z of a square around a position; NaN outside the tomogram."""
    z, y, x = np.rint(position / volume.voxel_size).astype(int)
    planes = int(depth / volume.voxel_size)
    z0, z1 = np.clip([z - planes, z + planes + 1], 0, volume.shape[0])
    crop = np.full((2 * half + 1, 2 * half + 1), np.nan, np.float32)
    y0, y1 = np.clip([y - half, y + half + 1], 0, volume.shape[1])
    x0, x1 = np.clip([x - half, x + half + 1], 0, volume.shape[2])
    if z1 > z0 and y1 > y0 and x1 > x0:
        block = _finite(np.asarray(volume.data[z0:z1, y0:y1, x0:x1], dtype=np.float32))
        inside = (slice(y0 - y + half, y1 - y + half), slice(x0 - x + half, x1 - x + half))
        crop[inside] = ndimage.gaussian_filter(block.mean(axis=0), 0.6)
        release_pages(volume.data)
    return crop


def _scale_bar(axes: Axes, side: float) -> None:
    nice = [m * 10.0**e for e in range(1, 5) for m in (1, 2, 5)]
    length = max([n for n in nice if n <= 0.45 * side], default=nice[0])
    left, _, bottom, _ = axes.images[0].get_extent()
    start, level = left + 0.07 * side, bottom + 0.08 * side
    axes.plot([start, start + length], [level, level], color="white", lw=4, solid_capstyle="butt")
    axes.plot([start, start + length], [level, level], color=INK, lw=2, solid_capstyle="butt")
    label = f"{length / 10:g} nm"
    background = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.8}
    axes.text(start, level + 0.05 * side, label, fontsize=6.5, color=INK, va="bottom", bbox=background)


def _limits(planes: Sequence[Plane]) -> tuple[float, float]:
    values = np.concatenate([p[np.isfinite(p)] for p in planes]) if planes else np.zeros(1)
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, [1, 99])
    return float(low), float(max(high, low + 1e-6))


def _finite(block: Plane) -> Plane:
    broken = ~np.isfinite(block)
    if not broken.any():
        return block
    return np.where(broken, block.mean(where=~broken) if not broken.all() else 0, block).astype(np.float32)


def _style_axes(axes: Axes) -> None:
    axes.tick_params(labelsize=7, colors=INK, length=3, width=0.6)
    for side in axes.spines.values():
        side.set_linewidth(0.6)
        side.set_color(FAINT)
