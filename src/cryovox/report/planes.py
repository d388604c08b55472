"""Slices, scores and thumbnails of a tomogram as compact 8-bit images, for viewing in a browser."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume, release_pages
from cryovox.report.figures import MIN_OVERLAY_SCORE

Plane = NDArray[np.float32]
Bytes = NDArray[np.uint8]

MAX_SIDE, MAX_SLICES = 640, 96
"""Finest sampling: pixels along the longer side of a slice, and number of slices."""
SCORE_SIDE = 320
"""Pixels along the longer side of a slice of scores."""
QUALITIES = (70, 50, 35)
"""JPEG qualities, best first."""
COARSEST = 8
"""How many times coarser than the finest sampling slices may become to fit a page."""
GRAY_LIMITS, WINDOW = (0.1, 99.9), (1.0, 99.0)
"""Percentiles of the voxels that become 0 and 255, and that are black and white at first."""
SAMPLES = 4
"""Number of slices from which the size of all is estimated."""
THUMBNAIL = 44
"""Side of a thumbnail in pixels."""
REACH = 1.6
"""Half side of a thumbnail, in radii of the particle."""
COLUMNS = 25
"""Thumbnails in a row of a sheet."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How finely slices are stored: voxels per pixel, voxels per slice along z, and JPEG quality."""

    pixel: int
    depth: int
    quality: int


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices along z as JPEG images; row 0 is at the lowest y.

    Attributes
    ----------
    sampling
        Slice k is the mean of the voxels from ``k * depth`` on, and a pixel that of ``pixel * pixel`` voxels.
    shape : (rows, columns)
    window : (black, white)
        Gray values in 0 to 255 for display at first.
    images
        Encoded images, in the order of z.
    """

    sampling: Sampling
    shape: tuple[int, int]
    window: tuple[int, int]
    images: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class ScoreSlices:
    """Scores as PNG images of the best species and its level, 0 where no score reaches `low`.

    A pixel of value v > 0 belongs to species ``(v - 1) // levels``, and its level is ``(v - 1) % levels``:
    level i holds the scores from ``low + i * (high - low) / levels`` on.

    Attributes
    ----------
    pixel
        Voxels of the score map per pixel, of which the highest score is shown.
    shape : (rows, columns)
    first
        Index of the plane of the score map of each slice of the tomogram.
    images
        Plane of the score map to its image.
    """

    pixel: int
    shape: tuple[int, int]
    levels: int
    low: float
    high: float
    first: Sequence[int]
    images: Mapping[int, bytes]


def slices(volume: Volume, budget: int) -> Slices:
    """Encode the slices of a volume in at most about *budget* bytes; a memory map is read slab by slab.

    Sampling is as fine as the budget allows: first quality is reduced, then pixels become larger.
    """
    limits = gray_limits(volume)
    for sampling in _samplings(volume.shape):  # the coarsest one if none fits
        count = -(-volume.shape[0] // sampling.depth)
        sizes = [len(_jpeg(_gray(volume, k, sampling, limits), sampling.quality)) for k in _spread(count)]
        if float(np.mean(sizes)) * count <= budget:
            break
    images, shape = [], (0, 0)
    for k in range(count):
        pixels = _gray(volume, k, sampling, limits)
        shape = (pixels.shape[0], pixels.shape[1])
        images.append(_jpeg(pixels, sampling.quality))
    low, high, black, white = limits
    window = [round(255 * (value - low) / (high - low)) for value in (black, white)]
    return Slices(sampling, shape, (window[0], max(window[1], window[0] + 1)), images)


def gray_limits(volume: Volume, planes: int = 16) -> tuple[float, float, float, float]:
    """Gray values that become 0 and 255, and those of black and white, from some planes."""
    some = np.unique(np.linspace(0, volume.shape[0] - 1, planes).round().astype(int))
    values = np.concatenate([_read(volume, int(z), int(z) + 1).ravel()[::3] for z in some])
    if values.size == 0:
        return 0.0, 1.0, 0.0, 1.0
    low, high = np.percentile(values, GRAY_LIMITS)
    black, white = np.percentile(values, WINDOW)
    if not high > low:
        high = low + max(1e-6, abs(low) * 1e-3)
    return float(low), float(high), float(black), float(white)


def score_slices(
    scores: ScoreMap, centers: Sequence[float], least: float, best: float, budget: int
) -> ScoreSlices:
    """Encode the planes of a score map nearest to slices of the tomogram.

    Parameters
    ----------
    centers
        z of the slices in Å.
    least, best
        Lowest and highest score that matter: the lowest threshold, and the best pick.
    budget
        Approximate number of bytes; levels and then pixels become coarser to meet it.
    """
    last = scores.data.shape[1] - 1
    first = [int(np.clip(np.rint((z - scores.offset) / scores.voxel_size), 0, last)) for z in centers]
    needed = sorted(set(first))
    low, side = min(MIN_OVERLAY_SCORE, least / 2), max(scores.data.shape[2:])
    high, finest = max(best, 2 * low, 1e-6), -(-side // SCORE_SIDE)
    most = 254 // max(1, len(scores.species))
    for levels, times in ((15, 1), (7, 1), (7, 2), (5, 3), (3, 4), (3, 8)):
        levels, pixel = max(1, min(levels, most)), finest * times
        coding = (levels, pixel, low, high)
        some = [needed[i] for i in _spread(len(needed))]
        size = sum(len(_png(p)) for p in _coded(scores, some, coding).values())
        if size * len(needed) / len(some) <= budget:
            break
    images, shape = {}, (0, 0)
    for number, pixels in _each_coded(scores, needed, coding):
        images[number] = _png(pixels)
        shape = (pixels.shape[0], pixels.shape[1])
    return ScoreSlices(pixel, shape, levels, low, high, first, images)


def thumbnails(volume: Volume, picks: Particles, species: Sequence[Species]) -> bytes:
    """One JPEG sheet with a thumbnail of each pick, row by row.

    A thumbnail spans `REACH` radii to each side, and is the mean over z within half a radius, as in the
    static figures. What lies outside the tomogram is white.
    """
    count = len(picks)
    sheet = np.full((-(-count // COLUMNS) * THUMBNAIL, COLUMNS * THUMBNAIL), 255, np.uint8)
    for kind in species:
        own = np.flatnonzero(picks.species == kind.name)
        if not len(own):
            continue
        few = own[np.unique(np.linspace(0, len(own) - 1, 40).round().astype(int))]
        known = np.concatenate([_thumbnail(volume, picks.positions[i], kind.radius).ravel() for i in few])
        known = known[np.isfinite(known)]
        low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
        for i in own:
            crop = _thumbnail(volume, picks.positions[i], kind.radius)
            gray = np.clip((crop - low) * (255 / max(high - low, 1e-6)), 0, 255)
            row, column = divmod(int(i), COLUMNS)
            y, x = row * THUMBNAIL, column * THUMBNAIL
            sheet[y : y + THUMBNAIL, x : x + THUMBNAIL] = np.where(np.isfinite(gray), gray, 255)
    return _jpeg(sheet, 75)


def _thumbnail(volume: Volume, position: NDArray[np.float64], radius: float) -> Plane:
    """A square around a position at the resolution of thumbnails; NaN outside the tomogram."""
    step = 2 * REACH * radius / THUMBNAIL / volume.voxel_size  # voxels per pixel
    center = position / volume.voxel_size
    depth = max(0, int(radius / 2 / volume.voxel_size))
    z = int(np.rint(center[0]))
    z0, z1 = np.clip([z - depth, z + depth + 1], 0, volume.shape[0])
    lines = [center[axis] + (np.arange(THUMBNAIL) - (THUMBNAIL - 1) / 2) * step for axis in (1, 2)]
    spans = []
    for line, size in zip(lines, volume.shape[1:], strict=True):
        low = int(np.clip(math.floor(line[0]) - 2, 0, size))
        spans.append((low, int(np.clip(math.ceil(line[-1]) + 3, 0, size))))
    (y0, y1), (x0, x1) = spans
    if z1 <= z0 or y1 <= y0 or x1 <= x0:
        return np.full((THUMBNAIL, THUMBNAIL), np.nan, np.float32)
    block = _finite(np.asarray(volume.data[z0:z1, y0:y1, x0:x1], dtype=np.float32)).mean(axis=0)
    release_pages(volume.data)
    block = ndimage.gaussian_filter(block, max(0.6, step / 2))
    grid = np.meshgrid(lines[0] - y0, lines[1] - x0, indexing="ij")
    crop = ndimage.map_coordinates(block, grid, order=1, mode="nearest").astype(np.float32)
    for axis, line in enumerate(lines):
        outside = (line < -0.5) | (line > volume.shape[1 + axis] - 0.5)
        crop[outside if axis == 0 else (slice(None), outside)] = np.nan
    return crop


def _samplings(shape: tuple[int, int, int]) -> Iterator[Sampling]:
    pixel, depth = -(-max(shape[1:]) // MAX_SIDE), -(-shape[0] // MAX_SLICES)
    for times in range(1, COARSEST + 1):
        for quality in QUALITIES:
            yield Sampling(pixel * times, max(depth, pixel * times), quality)


def _spread(count: int) -> list[int]:
    """Indices of some of *count* items, from the inner part."""
    return sorted({(2 * i + 1) * count // (2 * SAMPLES) for i in range(SAMPLES)})


def _gray(volume: Volume, k: int, sampling: Sampling, limits: tuple[float, ...]) -> Bytes:
    """Slice k as gray values in 0 to 255."""
    block = _read(volume, k * sampling.depth, min((k + 1) * sampling.depth, volume.shape[0]))
    plane = binned(block.mean(axis=0), sampling.pixel)
    low, high = limits[:2]
    return np.clip(np.rint((plane - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


def binned(plane: Plane, pixel: int) -> Plane:
    """Means of squares of voxels; those at the end may be incomplete.

    Examples
    --------
    >>> binned(np.arange(6, dtype=np.float32).reshape(2, 3), 2).tolist()
    [[2.0, 3.5]]
    """
    return _reduced(plane, pixel, np.add) / _reduced(np.ones_like(plane), pixel, np.add)


def _reduced(plane: NDArray[Any], pixel: int, function: np.ufunc) -> NDArray[Any]:
    if pixel == 1:
        return plane
    rows = function.reduceat(plane, np.arange(0, plane.shape[0], pixel), axis=0)
    return np.asarray(function.reduceat(rows, np.arange(0, plane.shape[1], pixel), axis=1))


def _read(volume: Volume, start: int, stop: int) -> Plane:
    block = _finite(np.array(volume.data[start:stop], dtype=np.float32))
    release_pages(volume.data)
    return block


def _finite(block: Plane) -> Plane:
    broken = ~np.isfinite(block)
    if not broken.any():
        return block
    return np.where(broken, block.mean(where=~broken) if not broken.all() else 0, block).astype(np.float32)


Coding = tuple[int, int, float, float]  # levels, pixel, lowest and highest score


def _each_coded(
    scores: ScoreMap, planes: Sequence[int], coding: Coding, at_once: int = 8
) -> Iterator[tuple[int, Bytes]]:
    for start in range(0, len(planes), at_once):
        yield from _coded(scores, planes[start : start + at_once], coding).items()


def _coded(scores: ScoreMap, planes: Sequence[int], coding: Coding) -> dict[int, Bytes]:
    """Planes of a score map as species and level; they are read together if they are neighbors."""
    levels, pixel, low, high = coding
    near = planes[-1] - planes[0] < 2 * len(planes)
    start, stop = planes[0], planes[-1] + 1
    best: dict[int, Plane] = {}
    species: dict[int, NDArray[np.int64]] = {}
    for channel in range(len(scores.species)):
        block = np.asarray(scores.data[channel, start:stop], np.float32) if near else None
        for z in planes:
            plane = np.asarray(scores.data[channel, z], np.float32) if block is None else block[z - start]
            plane = _reduced(np.nan_to_num(plane), pixel, np.maximum)
            if z not in best:
                best[z], species[z] = plane.copy(), np.zeros(plane.shape, np.int64)
                continue
            higher = plane > best[z]
            best[z][higher], species[z][higher] = plane[higher], channel
    coded = {}
    for z in planes:
        level = np.clip(((best[z] - low) * (levels / (high - low))).astype(np.int64), 0, levels - 1)
        coded[z] = np.where(best[z] >= low, 1 + species[z] * levels + level, 0).astype(np.uint8)
    return coded


def _png(pixels: Bytes) -> bytes:
    return _encoded(pixels, lambda image, raw: image.save(raw, "png", optimize=True))


def _jpeg(pixels: Bytes, quality: int) -> bytes:
    return _encoded(pixels, lambda image, raw: image.save(raw, "jpeg", quality=quality, optimize=True))


def _encoded(pixels: Bytes, save: Callable[[Image.Image, io.BytesIO], None]) -> bytes:
    raw = io.BytesIO()
    save(Image.fromarray(pixels), raw)
    return raw.getvalue()
