"""Drawings of a picking result: slices with scores and picks, galleries of picks, histograms of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume, Voxels, release_pages
from cryovox.picking.lamella import Lamella
from cryovox.report.drawing import (
    FAINT,
    INK,
    Bar,
    Drawing,
    Extent,
    Gray,
    Line,
    Note,
    Panel,
    Plane,
    Ring,
    Tint,
)

# M. Okabe and K. Ito, Color Universal Design (2008): suitable for color-blind readers
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2")
WIDTH, HEIGHT = 864.0, 768.0
"""Largest drawing in pixels, without its margins."""
LEFT, TOP, BELOW, GAP = 46.0, 20.0, 34.0, 20.0
"""Margins of a panel with axes, for its ticks and title, and space between panels."""
MIN_OVERLAY_SCORE = 0.1  # lower scores are transparent
MASK_OPACITY = 0.35
NARROWEST = 1e-3  # scores that lie closer together share one bar of a histogram

Voxel = tuple[int, int, int]
Axes3 = tuple[int, int, int]  # vertical, horizontal, normal: indices into (z, y, x)


def slices(
    volume: Volume,
    scores: ScoreMap | None = None,
    particles: Particles | None = None,
    species: Sequence[Species] = (),
    at: Voxel | None = None,
    sign: int = -1,
    lamella: Lamella | None = None,
    surroundings: ScoreMap | None = None,
) -> Drawing:
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
    surroundings
        Scores of membranes and other surroundings, which are tinted where they reach their thresholds.
    """
    at = at or dense_place(volume, particles, species)
    unit, scale = ("nm", 0.1) if max(volume.shape) * volume.voxel_size >= 1000 else ("Å", 1.0)
    drawing, boxes = _layout(volume)
    for (name, order), box in zip(PLANES.items(), boxes, strict=True):
        place = at[order[2]] * volume.voxel_size
        gray = _gray(volume, at[order[2]], order, sign, scale)
        title = f"{name} at {'zyx'[order[2]]} = {place * scale:.4g} {unit}"
        labels = (f"{'zyx'[order[1]]} ({unit})", f"{'zyx'[order[0]]} ({unit})")
        panel = Panel(name, box, gray.extent, title, labels, items=[gray])
        if scores is not None:
            panel.items += _overlay(scores, species, place, order, scale)
        if surroundings is not None:
            panel.items += _masks(surroundings, place, order, scale)
        panel.items += _crosshair(panel.span, [at[axis] * volume.voxel_size * scale for axis in order[:2]])
        if particles is not None:
            panel.items += _circles(particles, species, place, order, scale)
        if lamella is not None:
            panel.items += _faces(lamella, at, order, volume.voxel_size * scale)
        drawing.panels.append(panel)
    _add_legend(drawing, species, scores is not None, () if surroundings is None else surroundings.species)
    return drawing


PLANES: Mapping[str, Axes3] = {"XY": (1, 2, 0), "XZ": (0, 2, 1), "YZ": (1, 0, 2)}


def _layout(volume: Volume) -> tuple[Drawing, list[tuple[float, float, float, float]]]:
    """An empty drawing, and the boxes of XY, of XZ below it, and of YZ to its right, all of one scale."""
    depth, height, width = (n * volume.voxel_size for n in volume.shape)
    least = max(depth, 0.2 * max(height, width))  # the legend needs some space
    zoom = min(WIDTH / (width + least), HEIGHT / (height + least))
    depth, height, width, least = depth * zoom, height * zoom, width * zoom, least * zoom
    below, right = 2 * TOP + height + BELOW, 2 * LEFT + width + GAP
    size = right + max(least, 130.0) + GAP, below + max(least, 40.0) + BELOW
    boxes = [(LEFT, TOP, width, height), (LEFT, below, width, depth), (right, TOP, depth, height)]
    return Drawing(size), boxes


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
) -> Drawing:
    """Gallery of the best, middle and worst picks of one species, each with its score.

    A thumbnail is the mean over z within half a radius of the pick; voxels outside the tomogram are white.
    """
    picks = particles.named(species.name).sorted()
    across = max(1, n // 3)
    rows = thirds(len(picks), across)
    half = int(np.ceil(2.0 * species.radius / volume.voxel_size)) + 1
    crops = {i: _crop(volume, picks.positions[i], half, species.radius / 2) for _, row in rows for i in row}
    limits = _limits(list(crops.values()), sign)
    cell = (WIDTH - LEFT) / across
    side = 0.94 * cell
    drawing = Drawing((WIDTH, (cell + TOP) * max(1, len(rows))))
    for line, (name, members) in enumerate(rows):
        top = line * (cell + TOP) + TOP
        drawing.notes.append(Note((2.0, top + side / 2), name))
        for column, i in enumerate(members):
            voxel = np.rint(picks.positions[i] / volume.voxel_size) * volume.voxel_size
            ends = [s * (half + 0.5) * volume.voxel_size + float(c) for c in voxel[:0:-1] for s in (-1, 1)]
            extent = (ends[0], ends[1], ends[2], ends[3])
            box = (LEFT + column * cell, top, side, side)
            center = (float(picks.positions[i, 2]), float(picks.positions[i, 1]))
            ring = Ring(center, species.radius, tint, "4 3")
            panel = Panel(name, box, extent, f"{picks.scores[i]:.2f}")
            panel.items += [Gray(crops[i], extent, limits), ring]
            drawing.panels.append(panel)
    if rows:
        drawing.panels[0].items += _scale_bar(drawing.panels[0].span)
    return drawing


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


def score_histogram(
    particles: Particles, threshold: float | Mapping[str, float], species: Sequence[str] = ()
) -> Drawing:
    """Histogram of the pick scores of each species, with the picking threshold.

    Species have the order and colors of *species*, and are sorted by name without it.
    """
    names = list(species) or sorted(set(particles.species.tolist())) or ["no picks"]
    across = min(3, len(names))
    width, height = WIDTH * max(across, 1.6) / 3 / across - LEFT - GAP, 130.0
    cell = LEFT + width + GAP, TOP + height + BELOW
    drawing = Drawing((across * cell[0], -(-len(names) // across) * cell[1]))
    for i, name in enumerate(names):
        down, right = divmod(i, across)
        box = (right * cell[0] + LEFT, down * cell[1] + TOP, width, height)
        at = threshold.get(name) if isinstance(threshold, Mapping) else threshold
        drawing.panels.append(
            _histogram(name, particles.named(name).scores, at, box, COLORS[i % len(COLORS)])
        )
    return drawing


def _histogram(
    name: str,
    scores: NDArray[np.floating],
    threshold: float | None,
    box: tuple[float, float, float, float],
    color: str,
) -> Panel:
    ends = [*([] if threshold is None else [threshold]), *scores.tolist()] or [0.0, 1.0]
    low, high = min(ends), max(ends)
    low, high = (low, high) if high - low > NARROWEST else (low - 0.05, high + 0.05)
    bins = int(np.clip(2 * len(scores) ** 0.5, 8, 40))
    counts, edges = np.histogram(scores, bins, (low, high))
    top, margin = 1.05 * max(1, int(counts.max())), 0.03 * (high - low)
    span = (low - margin, high + margin, 0.0, top)
    panel = Panel(name, box, span, f"{name}: {len(scores)}", ("score", "picks"), frame=False)
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        panel.items.append(Bar((left, right, 0.0, float(count)), color))
    if threshold is not None:
        panel.items.append(Line([(threshold, 0.0), (threshold, top)], INK, 1.4, "5 3"))
        panel.items.append(Note((threshold + margin / 3, 0.92 * top), f"threshold {threshold:.3g}", 10))
    return panel


def _gray(volume: Volume, cut: int, order: Axes3, sign: int, scale: float) -> Gray:
    thick = slice(max(0, cut - 1), cut + 2)
    index: list[Any] = [slice(None)] * 3
    index[order[2]] = thick
    plane = _finite(_read(volume.data, tuple(index))).mean(axis=order[2])
    if order[0] > order[1]:
        plane = plane.T
    plane = ndimage.gaussian_filter(plane, 0.8)
    return Gray(plane, _extent(plane.shape, volume.voxel_size, 0.0, scale), _limits([plane], sign))


def _read(data: Voxels, index: tuple[slice, slice, slice], planes: int = 32) -> Plane:
    """Part of a volume; of a memory map, a slice along z would otherwise keep every page in memory."""
    z, y, x = index
    (start, stop, _), parts = z.indices(data.shape[0]), []
    for first in range(start, stop, planes):
        parts.append(np.array(data[first : min(first + planes, stop), y, x], np.float32))
        release_pages(data)
    return np.concatenate(parts)


def _overlay(
    scores: ScoreMap, species: Sequence[Species], place: float, order: Axes3, scale: float
) -> list[Tint]:
    channels, tints = {s.name: k for k, s in enumerate(scores.species)}, []
    for i, one in enumerate(species):
        if one.name not in channels:
            continue
        plane = _score_plane(scores, channels[one.name], place, order)
        clear = (np.nan_to_num(plane) - MIN_OVERLAY_SCORE) / (1 - MIN_OVERLAY_SCORE)
        extent = _extent(plane.shape, scores.voxel_size, scores.offset, scale)
        tints.append(Tint(0.6 * np.clip(clear, 0, 1), extent, COLORS[i % len(COLORS)], one.name))
    return tints


def _score_plane(scores: ScoreMap, channel: int, place: float, order: Axes3) -> Plane:
    """Scores at a place in Å along the normal of a slice, by the nearest plane."""
    last = scores.data.shape[1 + order[2]] - 1
    index: list[Any] = [channel, slice(None), slice(None), slice(None)]
    index[1 + order[2]] = int(np.clip(np.rint((place - scores.offset) / scores.voxel_size), 0, last))
    plane = np.asarray(scores.data[tuple(index)], dtype=np.float32)
    return plane.T if order[0] > order[1] else plane


def _masks(surroundings: ScoreMap, place: float, order: Axes3, scale: float) -> list[Tint]:
    """Tints where the scores of surroundings reach their thresholds."""
    tints = []
    for i, kind in enumerate(surroundings.species):
        plane = _score_plane(surroundings, i, place, order)
        inside = np.where(plane >= surroundings.thresholds[kind.name], MASK_OPACITY, 0)
        extent = _extent(plane.shape, surroundings.voxel_size, surroundings.offset, scale)
        tints.append(Tint(inside.astype(np.float32), extent, COLORS[-1 - i], kind.name))
    return tints


def _crosshair(span: Extent, at: Sequence[float]) -> list[Line]:
    """Lines where the other two slices lie."""
    left, right, bottom, top = span
    lines = [(left, at[0]), (right, at[0])], [(at[1], bottom), (at[1], top)]
    return [Line(points, FAINT, 0.8, "6 4") for points in lines]


def _circles(
    particles: Particles, species: Sequence[Species], place: float, order: Axes3, scale: float
) -> list[Ring]:
    vertical, horizontal, cut = order
    rings = []
    for i, one in enumerate(species):
        where = particles.named(one.name).positions
        squared = one.radius**2 - (where[:, cut] - place) ** 2
        for center, square in zip(where[squared > 0], squared[squared > 0], strict=True):
            middle = (float(center[horizontal]) * scale, float(center[vertical]) * scale)
            rings.append(Ring(middle, float(square) ** 0.5 * scale, COLORS[i % len(COLORS)]))
    return rings


def _faces(lamella: Lamella, at: Voxel, order: Axes3, scale: float) -> list[Line]:
    """Lines where the faces of the sample meet a slice along z."""
    if order[2] == 0:
        return []
    along = np.array([0.0, lamella.shape[3 - order[2]] - 1.0])
    y, x = (along, at[2]) if order[2] == 2 else (at[1], along)
    lines = []
    for plane in filter(None, (lamella.lower, lamella.upper)):
        z = plane.at(y, x) * scale
        points = (along * scale, z) if order[0] == 0 else (z, along * scale)
        lines.append(Line(np.transpose(points).tolist(), COLORS[0], 1.2, "6 3"))
    return lines


def _extent(
    shape: tuple[int, ...], voxel_size: float, offset: float, scale: float
) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of a plane whose first voxel is centered at *offset*."""
    start = (offset - voxel_size / 2) * scale
    return start, start + shape[1] * voxel_size * scale, start, start + shape[0] * voxel_size * scale


def _add_legend(
    drawing: Drawing, species: Sequence[Species], scored: bool, masks: Sequence[Species] = ()
) -> None:
    """Names and colors of the species, and of masks, right of XZ and below YZ."""
    if not species:
        return
    _, below, _, _ = drawing.panels[1].box
    left = drawing.panels[2].box[0]
    title = "picks (circles), scores (tint)" if scored else "picks"
    drawing.notes.append(Note((left - LEFT + GAP, below + 8), title))
    named = [(one.name, COLORS[i % len(COLORS)]) for i, one in enumerate(species)]
    named += [(f"{one.name} (mask)", COLORS[-1 - i]) for i, one in enumerate(masks)]
    for i, (name, color) in enumerate(named):
        drawing.keys.append(((left - LEFT + GAP + 6, below + 26 + 16 * i), name, color))


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


def _scale_bar(span: Extent) -> list[Line | Note]:
    left, right, bottom, _ = span
    side = right - left
    nice = [m * 10.0**e for e in range(1, 5) for m in (1, 2, 5)]
    length = max([n for n in nice if n <= 0.45 * side], default=nice[0])
    start, level = left + 0.07 * side, bottom + 0.08 * side
    points = [(start, level), (start + length, level)]
    text = Note((start, level + 0.04 * side), f"{length / 10:g} nm", 10)
    return [Line(points, "#ffffff", 5), Line(points, INK, 2.5), text]


def _limits(planes: Sequence[Plane], sign: int) -> tuple[float, float]:
    """Values that are black and white, so that particles are dark."""
    values = np.concatenate([p[np.isfinite(p)] for p in planes]) if planes else np.zeros(1)
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, [1, 99])
    low, high = float(low), float(max(high, low + 1e-6))
    return (high, low) if sign > 0 else (low, high)


def _finite(block: Plane) -> Plane:
    broken = ~np.isfinite(block)
    if not broken.any():
        return block
    return np.where(broken, block.mean(where=~broken) if not broken.all() else 0, block).astype(np.float32)
