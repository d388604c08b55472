"""Boundary of the sample in a tomogram: two planes, estimated without training.

Above and below a lamella or a layer of ice there is vacuum, where gray values vary less. The volume is
divided into columns along z; each column is split where the spread of its gray values steps up and down, and
a plane is fitted to the steps of all columns, for each of the two faces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.optimize import least_squares

from cryovox.core.intensity import slabs
from cryovox.core.volume import Volume

Float = NDArray[np.float64]
Columns = tuple[Float, Float, Float, Float]
"""Levels along z (n,), y and x of the columns (k,), and the logarithms of their spreads (k, n)."""

SCALE = 40.0
"""Size in Å of the blocks over which gray values are averaged, to suppress noise."""
COLUMN = 300.0
"""Minimum side of a column in Å."""
MAX_COLUMNS = 8
"""Maximum number of columns along y and x."""
MIN_COLUMNS = 9
"""Minimum number of columns for two planes."""
MAX_LEVELS = 256
"""Maximum number of levels along z at which a column is measured."""
MIN_LEVELS = 16
MIN_RATIO = 1.25
"""Minimum ratio of the spreads inside and outside, beside each face."""
MIN_AGREEMENT = 0.75
"""Minimum fraction of the columns with a step at the fitted plane."""
ROUGHNESS = 150.0
"""Distance in Å from the plane within which the step of a column agrees with it."""
MAX_TILT = 30.0
"""Maximum angle in degrees between a face and the plane z = 0."""
MIN_RADII = 6.0
"""Minimum thickness of a volume, in radii of the particles, for which an estimate is useful."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Face of the sample, z = offset + along_y * y + along_x * x, all in voxels."""

    offset: float
    along_y: float
    along_x: float

    def at(self, y: Any, x: Any) -> Any:
        """Position z of the plane in voxels."""
        return self.offset + self.along_y * y + self.along_x * x

    def height(self, zyx: Float) -> Float:
        """Distance of positions (n, 3) in voxels from the plane, positive at higher z."""
        return np.asarray((zyx[:, 0] - self.at(zyx[:, 1], zyx[:, 2])) / self.steepness)

    @property
    def steepness(self) -> float:
        """Distance along z per distance perpendicular to the plane."""
        return float(np.sqrt(1.0 + self.along_y**2 + self.along_x**2))


@dataclass(frozen=True)
class Lamella:
    """Sample between two planes.

    Attributes
    ----------
    lower, upper : Plane or None
        Faces at low and at high z; None where the sample reaches the face of the volume.
    shape : (z, y, x)
        Shape of the volume.
    voxel_size : float
        In Å.
    """

    lower: Plane | None
    upper: Plane | None
    shape: tuple[int, int, int]
    voxel_size: float

    def contain(self, positions: Float, margin: Any = 0.0) -> NDArray[np.bool_]:
        """Whether positions (n, 3) in Å lie between the planes, or at most the margin in Å outside.

        Parameters
        ----------
        positions : (n, 3)
            As (z, y, x) in Å.
        margin : float or (n,)
            Of all positions or of each.
        """
        zyx, width = positions / self.voxel_size, np.asarray(margin) / self.voxel_size
        inside = np.ones(len(zyx), dtype=bool)
        if self.lower is not None:
            inside &= self.lower.height(zyx) >= -width
        if self.upper is not None:
            inside &= self.upper.height(zyx) <= width
        return inside

    def masks(self, margin: float = 0.0) -> Iterator[NDArray[np.bool_]]:
        """Plane by plane along z, which voxels lie inside or at most the margin in Å outside."""
        low, high = self._limits(margin)
        for z in range(self.shape[0]):
            yield (z >= low) & (z <= high)

    def _limits(self, margin: float) -> tuple[Float, Float]:
        """Lowest and highest z in voxels at every y and x, with a margin in Å."""
        y, x = np.ogrid[: self.shape[1], : self.shape[2]]
        limits = [np.full(self.shape[1:], sign * np.inf) for sign in (-1, 1)]
        for limit, plane, sign in zip(limits, (self.lower, self.upper), (-1, 1), strict=True):
            if plane is not None:
                limit[:] = plane.at(y, x) + sign * margin / self.voxel_size * plane.steepness
        return limits[0], limits[1]

    @cached_property
    def faces(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lowest and highest z in voxels of the lower and of the upper face, within the volume."""
        last = self.shape[0] - 1
        return _span(self.lower, self.shape, 0.0), _span(self.upper, self.shape, float(last))

    @property
    def thickness(self) -> float:
        """Thickness along z in Å at the center of the volume."""
        y, x = (self.shape[1] - 1) / 2, (self.shape[2] - 1) / 2
        low = 0.0 if self.lower is None else max(0.0, float(self.lower.at(y, x)))
        high = self.shape[0] - 1.0 if self.upper is None else float(self.upper.at(y, x))
        return (min(self.shape[0] - 1.0, high) - low) * self.voxel_size

    @property
    def thinnest(self) -> float:
        """Smallest thickness along z in Å, within the volume."""
        z, y, x = self.shape
        corners = [(v, u) for v in (0, y - 1) for u in (0, x - 1)]
        low = [0.0 if self.lower is None else max(0.0, float(self.lower.at(*c))) for c in corners]
        high = [z - 1.0 if self.upper is None else min(z - 1.0, float(self.upper.at(*c))) for c in corners]
        return min(b - a for a, b in zip(low, high, strict=True)) * self.voxel_size

    @property
    def tilt(self) -> float:
        """Largest angle in degrees between a face and the plane z = 0."""
        planes = [plane for plane in (self.lower, self.upper) if plane is not None]
        slopes = [float(np.hypot(plane.along_y, plane.along_x)) for plane in planes]
        return float(np.degrees(np.arctan(max(slopes))))

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Lamella:
        """The lamella of :meth:`to_dict`."""
        lower, upper = (
            None if facts["planes"][name] is None else Plane(*facts["planes"][name])
            for name in ("lower", "upper")
        )
        z, y, x = facts["shape"]
        return cls(lower, upper, (z, y, x), facts["voxel_size"])

    def __str__(self) -> str:
        (a, b), (c, d) = self.faces
        low = "the face of the volume" if self.lower is None else f"z {a:.0f}-{b:.0f}"
        high = "the face of the volume" if self.upper is None else f"z {c:.0f}-{d:.0f}"
        thick = f"{self.thickness / 10:.0f} nm at the center, tilted by up to {self.tilt:.1f} degrees"
        return f"the sample lies between {low} and {high} ({thick})"

    def to_dict(self) -> dict[str, Any]:
        """Facts for a manifest: planes in voxels, extent and thickness."""
        faces = {"lower": self.lower, "upper": self.upper}
        rounded = {
            name: None if plane is None else [round(value, 6) for value in astuple(plane)]
            for name, plane in faces.items()
        }
        extent = {name: [round(z, 2) for z in span] for name, span in zip(faces, self.faces, strict=True)}
        grid = {"shape": list(self.shape), "voxel_size": self.voxel_size}
        return {"planes": rounded, "z": extent, "thickness": round(self.thickness, 1), **grid}


def _span(plane: Plane | None, shape: tuple[int, int, int], otherwise: float) -> tuple[float, float]:
    if plane is None:
        return otherwise, otherwise
    corners = [plane.at(y, x) for y in (0, shape[1] - 1) for x in (0, shape[2] - 1)]
    low, high = np.clip([min(corners), max(corners)], 0, shape[0] - 1)
    return float(low), float(high)


def estimate(volume: Volume, radius: float = 0.0) -> tuple[Lamella | None, str]:
    """Estimate the faces of the sample; one pass over all voxels.

    Parameters
    ----------
    volume
        The tomogram; a memory map is read in slabs.
    radius
        Radius in Å of the largest particles. Volumes and samples that are thin compared with it give none.

    Returns
    -------
    lamella, reason
        None and the reason where there is no clear boundary; else the lamella and its description.
    """
    thick = volume.shape[0] * volume.voxel_size
    if volume.shape[0] < MIN_LEVELS or thick < MIN_RADII * radius:
        return None, "the volume is too thin for an estimate of the sample boundary"
    columns = measure_columns(volume)
    if columns is None:
        return None, "the volume is too small, or mostly constant: no estimate of the sample boundary"
    lower, upper = _faces(columns)
    lamella = Lamella(lower, upper, volume.shape, volume.voxel_size)
    doubt = _doubt(lamella, columns, 2 * radius)
    return (None, doubt) if doubt else (lamella, str(lamella))


def _faces(columns: Columns) -> tuple[Plane | None, Plane | None]:
    """Planes through the steps of the columns; None for a face that most columns do not have."""
    levels, y, x, spread = columns
    edges = np.array([_edges(profile) for profile in spread])
    step = float(levels[1] - levels[0])
    planes: list[Plane | None] = []
    for face, border in ((0, 0), (1, len(levels))):
        inside = edges[:, face] != border
        if inside.sum() < max(MIN_COLUMNS, 0.5 * len(edges)):
            planes.append(None)
            continue
        z = levels[0] + (edges[inside, face] - 0.5) * step
        planes.append(_fit(z, y[inside], x[inside], step))
    return planes[0], planes[1]


def _doubt(lamella: Lamella, columns: Columns, thinnest: float) -> str:
    """Why the planes are no clear boundary; empty if they are."""
    if lamella.lower is None and lamella.upper is None:
        return "the sample fills the volume, or has no clear boundary"
    least = max(thinnest, 4 * float(columns[0][1] - columns[0][0]) * lamella.voxel_size)
    if lamella.tilt > MAX_TILT or lamella.thinnest < least:
        return "there is no clear boundary of a sample as thick as the particles"
    for plane, sign in ((lamella.lower, 1), (lamella.upper, -1)):
        if plane is not None and not _is_step(plane, sign, columns, lamella.voxel_size):
            return "there is no clear boundary of the sample along z"
    return ""


def _is_step(plane: Plane, sign: int, columns: Columns, voxel_size: float) -> bool:
    """Whether the spread of most columns steps up at a plane, from its outer to its inner side."""
    levels, y, x, spread = columns
    step = float(levels[1] - levels[0])
    depth = sign * (levels[None] - plane.at(y, x)[:, None])
    guard, width = max(step, ROUGHNESS / voxel_size), step * max(4, len(levels) // 10)
    inner, outer = ((depth > 0) & (depth <= width)), ((depth < 0) & (depth >= -width))
    usable = (inner.sum(axis=1) >= 2) & (outer.sum(axis=1) >= 2)
    if usable.sum() < max(MIN_COLUMNS, 0.5 * len(spread)):
        return False
    jumps = (_mean(spread, inner) - _mean(spread, outer))[usable]
    near = np.abs(_steepest(depth, spread, guard + width))[usable] <= guard
    typical = float(np.median(jumps))
    agree = float((near & (jumps > 0.5 * max(typical, np.log(MIN_RATIO)))).mean())
    return typical >= np.log(MIN_RATIO) and agree >= MIN_AGREEMENT


def _steepest(depth: Float, spread: Float, reach: float) -> Float:
    """Depth of the step up in each column: the best fit of two constants within a reach of the plane."""
    steps = np.zeros(len(spread))
    for row, (place, profile) in enumerate(zip(depth, spread, strict=True)):
        order = np.argsort(place)
        kept = order[np.abs(place[order]) <= reach]
        sums, count = np.cumsum(profile[kept] - profile[kept].mean()), np.arange(1, len(kept) + 1)
        # the sum up to the step is lowest, weighted by the sizes of the two parts
        rise = -sums[:-1] / np.sqrt(count[:-1] * (len(kept) - count[:-1]))
        at = int(rise.argmax())
        steps[row] = (place[kept[at]] + place[kept[at + 1]]) / 2
    return steps


def _mean(values: Float, where: NDArray[np.bool_]) -> Float:
    return np.asarray((values * where).sum(axis=1) / np.maximum(1, where.sum(axis=1)))


def measure_columns(volume: Volume) -> Columns | None:
    """Logarithm of the spread of gray values along the columns of a volume.

    Returns
    -------
    levels, y, x, spread : (n,), (k,), (k,), (k, n)
        z of the levels, y and x of the centers of k columns, all in voxels, and their spreads; None for too
        few columns that are not constant. Planes and columns of padding are left out.
    """
    side = max(1, round(SCALE / volume.voxel_size))
    blocks = [max(1, n // side) for n in volume.shape[1:]]
    counts = [
        int(np.clip(n * volume.voxel_size // COLUMN, 1, min(MAX_COLUMNS, max(1, b // 4))))
        for n, b in zip(volume.shape[1:], blocks, strict=True)
    ]
    if counts[0] * counts[1] < MIN_COLUMNS:
        return None
    rows = [
        _spreads(np.asarray(plane), side, counts) for slab in slabs(volume.data, 1 << 22) for plane in slab
    ]
    spread = np.stack(rows).reshape(len(rows), -1)
    filled = np.flatnonzero((spread > 0).mean(axis=1) > 0.5)
    if len(filled) < MIN_LEVELS:
        return None
    first, spread = int(filled[0]), spread[filled[0] : filled[-1] + 1]
    kept: NDArray[np.bool_] = np.asarray((spread > 0).all(axis=0))
    if kept.sum() < max(MIN_COLUMNS, 0.5 * len(kept)):
        return None
    merged = -(-len(spread) // MAX_LEVELS)
    usable = len(spread) // merged * merged
    logs = np.log(spread[:usable, kept]).reshape(-1, merged, int(kept.sum())).mean(axis=1).T
    levels = first + (merged - 1) / 2 + merged * np.arange(logs.shape[1])
    centers = [(np.arange(c) + 0.5) * (b // c) * side - 0.5 for c, b in zip(counts, blocks, strict=True)]
    y, x = (grid.ravel()[kept] for grid in np.meshgrid(*centers, indexing="ij"))
    return levels, y, x, median_filter(logs, size=(1, 3), mode="nearest")


def _spreads(plane: NDArray[Any], side: int, counts: list[int]) -> Float:
    """Standard deviation in each column of one plane, clipped at three sigma: gold hardly affects it."""
    values = plane.astype(np.float64)
    values[~np.isfinite(values)] = 0.0
    (rows, columns), (across, along) = (max(1, n // side) for n in values.shape), counts
    height, width = rows // across, columns // along
    whole = values[: across * height * side, : along * width * side]
    if side > 1 and min(values.shape) >= side:
        whole = whole.reshape(across * height, side, along * width, side).mean(axis=(1, 3))
    tiles = whole.reshape(across, height, along, width).transpose(0, 2, 1, 3).reshape(across * along, -1)
    deviation = np.square(tiles - np.median(tiles, axis=1, keepdims=True))
    variance = deviation.mean(axis=1)
    for _ in range(4):
        near = deviation <= 9 * variance[:, None]
        variance = (deviation * near).sum(axis=1) / np.maximum(1, near.sum(axis=1))
    return np.asarray(np.sqrt(variance))


def _edges(profile: Float) -> tuple[int, int]:
    """Range [first, last) of the levels with a higher spread, the best fit of two constants."""
    n = len(profile)
    sums = np.concatenate([[0.0], np.cumsum(profile - profile.mean())])
    first, last = np.triu_indices(n + 1, k=2)
    count = (last - first).astype(np.float64)
    inside = sums[last] - sums[first]
    explained = np.where((inside > 0) & (count < n), inside**2 * n / (count * np.maximum(1, n - count)), -1.0)
    best = int(explained.argmax())
    return int(first[best]), int(last[best])


def _fit(z: Float, y: Float, x: Float, step: float) -> Plane:
    """Robust fit of a plane to the steps of the columns."""
    scale = max(float(np.ptp(y)), float(np.ptp(x)), 1.0)
    columns = [np.ones(len(z)), (y - y.mean()) / scale, (x - x.mean()) / scale]
    basis = np.stack(columns, axis=1)
    start = np.array([np.median(z), 0.0, 0.0])
    fitted = least_squares(lambda p: basis @ p - z, start, loss="cauchy", f_scale=max(1.0, step)).x
    offset, along_y, along_x = (float(v) for v in fitted / np.array([1.0, scale, scale]))
    return Plane(offset - along_y * float(y.mean()) - along_x * float(x.mean()), along_y, along_x)
