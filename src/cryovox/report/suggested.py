"""Report page of `cryovox suggest`: an image and the coordinates of each suggested position, by rank."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cryovox.core.atomic import replacing
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.report.figures import COLORS
from cryovox.report.page import embedded, template

Gray = NDArray[np.uint8]

GAP = 1
"""Width of the white gap between two slices, in voxels."""
PLANES = (("XY", 0), ("XZ", 1), ("YZ", 2))
"""Name of a slice and its normal axis in (z, y, x)."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchedTomogram:
    """A tomogram, its contrast (+1 if particles are bright, -1 if dark), and two counts."""

    volume: Volume
    sign: int = -1
    candidates: int = 0
    labeled: int = 0


@dataclass(frozen=True, slots=True)
class SuggestionCard:
    """One suggested position; circles are (x, y) in voxels of the image."""

    rank: int
    species: str
    tomogram: str
    voxel: str
    angstrom: str
    numbers: str
    uri: str
    width: int
    height: int
    circles: tuple[tuple[float, float], ...]
    radius: float
    color: str


def write_suggested_page(
    path: Path,
    places: Particles,
    tomograms: Mapping[str, SearchedTomogram],
    species: Sequence[Species],
    run: Mapping[str, Any],
) -> None:
    """Write the page atomically as one self-contained HTML file.

    Parameters
    ----------
    places
        Suggested positions by rank, with `tomograms` and the columns `uncertainty` and `diversity`.
    tomograms
        Tomograms by name.
    species
        Names and radii in Å.
    run
        Metadata of the run, all of which are shown.
    """
    page = template("suggested.html").render(
        title="Suggested annotations",
        tiles=_tiles(places, tomograms, species),
        tomograms=tomograms,
        cards=list(_cards(places, tomograms, species)),
        command=run.get("command", ""),
        model=run.get("model", "MODEL"),
        facts=[(name, _words(value)) for name, value in run.items() if name != "command"],
    )
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8")


def three_slices(
    volume: Volume, position: NDArray[np.float64], radius: float, sign: int = -1
) -> tuple[Gray, tuple[tuple[float, float], ...]]:
    """XY, XZ and YZ slices through a position, side by side, with dark particles.

    A slice is the mean of the planes within half a radius. It extends two radii to every side and is white
    outside the tomogram. The first axis of its name points to the right, the second upwards.

    Parameters
    ----------
    position : (z, y, x)
        Position in Å, as is *radius*.
    sign
        +1 if particles are bright in the volume, -1 if dark.

    Returns
    -------
    picture : (n, 3 n + 2) uint8
    centers
        Center of the position in each slice, (x, y) in voxels from the upper left corner of the image.
    """
    half = int(np.ceil(2 * radius / volume.voxel_size)) + 1
    thick = max(1, int(radius / 2 / volume.voxel_size))
    center = np.rint(position / volume.voxel_size).astype(int)
    cube = _cube(volume, center, half)
    side, strips, middles = 2 * half + 1, [], []
    off = position / volume.voxel_size - center + half + 0.5
    for i, (_, axis) in enumerate(PLANES):
        near = np.take(cube, range(half - min(thick, half), half + min(thick, half) + 1), axis)
        # image rows run downwards
        strips += [_mean(near, axis)[::-1], np.full((side, GAP), np.nan)]
        up, right = np.delete(off, axis)
        middles.append((round(float(right) + i * (side + GAP), 3), round(float(side - up), 3)))
    return _gray(np.hstack(strips[:-1]), inverted=sign > 0), tuple(middles)


def _cube(volume: Volume, center: NDArray[np.intp], half: int) -> NDArray[np.float32]:
    """Cube of voxels around a center; NaN outside the volume."""
    cube = np.full((2 * half + 1,) * 3, np.nan, np.float32)
    spans = [(max(0, c - half), min(n, c + half + 1)) for c, n in zip(center, volume.shape, strict=True)]
    if all(low < high for low, high in spans):
        inside = tuple(slice(*span) for span in spans)
        where = tuple(slice(a - c + half, b - c + half) for (a, b), c in zip(spans, center, strict=True))
        cube[where] = volume.data[inside]
    return cube


def _mean(planes: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    """Smoothed mean of the finite values along an axis; NaN without any."""
    finite = np.isfinite(planes)
    count = finite.sum(axis)
    mean = np.where(finite, planes, 0).sum(axis, dtype=np.float64) / np.maximum(count, 1)
    weight = ndimage.gaussian_filter((count > 0).astype(np.float64), 0.6)
    smooth = ndimage.gaussian_filter(np.where(count > 0, mean, 0.0), 0.6) / np.maximum(weight, 1e-6)
    return np.where(count > 0, smooth, np.nan)


def _gray(values: NDArray[np.float64], inverted: bool) -> Gray:
    """Gray values scaled from the 1st to the 99th percentile; NaN is white."""
    finite = np.isfinite(values)
    low, high = np.percentile(values[finite], [1, 99]) if finite.any() else (0.0, 1.0)
    share = (np.where(finite, values, high) - low) / max(float(high - low), 1e-9)
    share = np.clip(1 - share if inverted else share, 0, 1)
    return np.where(finite, np.rint(255 * share), 255).astype(np.uint8)


def _cards(
    places: Particles, tomograms: Mapping[str, SearchedTomogram], species: Sequence[Species]
) -> Iterator[SuggestionCard]:
    order = [s.name for s in species]
    radii = {s.name: s.radius for s in species}
    names = [] if places.tomograms is None else places.tomograms.tolist()
    for i, name in enumerate(names):
        shown, kind, position = tomograms[name], str(places.species[i]), places.positions[i]
        picture, centers = three_slices(shown.volume, position, radii[kind], shown.sign)
        words = [("score", places.scores), *((k, places.extra[k]) for k in ("uncertainty", "diversity"))]
        yield SuggestionCard(
            rank=i + 1,
            species=kind,
            tomogram=name,
            voxel=", ".join(f"{v:.1f}" for v in position[::-1] / shown.volume.voxel_size),
            angstrom=", ".join(f"{v:.1f}" for v in position[::-1]),
            numbers=", ".join(f"{word} {float(column[i]):.2f}" for word, column in words),
            uri=embedded("png", _png(picture)),
            width=picture.shape[1],
            height=picture.shape[0],
            circles=centers,
            radius=round(radii[kind] / shown.volume.voxel_size, 3),
            color=COLORS[order.index(kind) % len(COLORS)],
        )


def _png(picture: Gray) -> bytes:
    raw = io.BytesIO()
    Image.fromarray(picture).save(raw, format="png", optimize=True)
    return raw.getvalue()


def _tiles(
    places: Particles, tomograms: Mapping[str, SearchedTomogram], species: Sequence[Species]
) -> list[tuple[str, str]]:
    counts = [(f"{int((places.species == s.name).sum()):,}", s.name) for s in species[:6]]
    return [
        (f"{len(places):,}", "suggestion" if len(places) == 1 else "suggestions"),
        *(counts if len(species) > 1 else []),
        (f"{sum(t.candidates for t in tomograms.values()):,}", "candidates"),
        (f"{sum(t.labeled for t in tomograms.values()):,}", "already labeled"),
    ]


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items()) or "none"
    return "default" if value is None else str(value)
