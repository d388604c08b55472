"""Arrays with a voxel size: tomograms, label maps and score maps."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cryovox.core.particles import Species

ZYX = tuple[float, float, float]
Start = tuple[int, int, int]
SMALL = 64
SMALLEST_VOXEL, LARGEST_VOXEL = 0.1, 1000.0
"""Limits of plausible voxel sizes in Å."""


class Voxels(Protocol):
    """Interface of volumes in memory, memory-mapped or in a store: slicing reads the selected part.

    All other NumPy functions need ``np.asarray`` first, which reads the entire volume.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: Any, /) -> NDArray[Any]: ...
    def __array__(self, dtype: Any = None, /) -> NDArray[Any]: ...


@dataclass(frozen=True, kw_only=True)
class VolumeHeader:
    """Header of a volume file.

    Attributes
    ----------
    shape : (z, y, x)
    dtype
        Data type of the stored values.
    voxel_sizes : (z, y, x)
        Voxel size in Å as stored; 0 where unknown.
    origin, nstart : (z, y, x)
        As in :class:`Volume`.
    size_problem
        Why the voxel size cannot be used; None if it can.
    problems
        Problems of the header, including that of the voxel size, one sentence each.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    voxel_sizes: ZYX
    origin: ZYX = (0.0, 0.0, 0.0)
    nstart: Start = (0, 0, 0)
    size_problem: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def voxel_size(self) -> float | None:
        """Voxel size in Å; None if the header cannot be right."""
        return None if self.size_problem else round(float(np.mean(self.voxel_sizes)), 5)


def release_pages(data: Any) -> None:
    """Drop the pages of a memory-mapped volume from the resident memory; they are read again on access.

    Without it, a volume that was read once counts as memory of the process until it ends.
    """
    mapped = getattr(data, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def voxel_size_problem(voxel_sizes: ZYX, shape: tuple[int, int, int]) -> str | None:
    """Why a stored voxel size (z, y, x) in Å cannot be right; None if it can.

    Programs that do not know the voxel size often write 1.0 Å. It is accepted only for maps of at most 64
    voxels on the longest edge: small maps may be sampled so finely, tomograms are not.
    """
    z, y, x = voxel_sizes
    low, high = min(voxel_sizes), max(voxel_sizes)
    if low <= 0:
        return f"does not say its voxel size (x {x:g}, y {y:g}, z {z:g} Å)"
    if low < SMALLEST_VOXEL or high > LARGEST_VOXEL:
        return f"says a voxel size of x {x:g}, y {y:g}, z {z:g} Å, which cannot be"
    if high / low > 1.01:
        return f"has voxels that are not cubes: x {x:g}, y {y:g}, z {z:g} Å"
    if abs(low - 1) < 1e-5 and abs(high - 1) < 1e-5 and max(shape) > SMALL:
        return "says a voxel size of 1.0 Å, which writers leave that do not know it"
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A 3D map of real values, such as a tomogram.

    Attributes
    ----------
    data : (z, y, x) of any real dtype
        An array, a memory map, or a stored array that is read in slices: see :class:`Voxels`.
    voxel_size : float
        Voxel size in Å.
    origin : (z, y, x)
        Position of voxel (0, 0, 0) in the coordinate system of the file, in Å. It is copied to outputs and
        never shifts a position: position 0 is the center of voxel (0, 0, 0).
    nstart : (z, y, x)
        Index of voxel (0, 0, 0) in the grid of a larger map from which this one was cut (NXSTART, NYSTART,
        NZSTART of MRC). Like `origin` it is copied and shifts nothing. It counts voxels of this size:
        outputs on another grid have none, and store the position as their origin (see :meth:`place`).
    """

    data: Voxels
    voxel_size: float
    origin: ZYX = (0.0, 0.0, 0.0)
    nstart: Start = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise ValueError(f"a volume has axes (z, y, x), got shape {self.data.shape}")
        check_voxel_size(self.voxel_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.data.shape
        return z, y, x

    @property
    def place(self) -> ZYX:
        """Position of voxel (0, 0, 0) in Å: the origin, or `nstart` voxels if the origin is 0."""
        if any(self.origin):
            return self.origin
        z, y, x = (n * self.voxel_size for n in self.nstart)
        return z, y, x

    def with_data(self, data: Voxels) -> Volume:
        """A volume with other values on the same grid: voxel size, origin and `nstart` are kept."""
        return replace(self, data=data)


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """A map with the label of a species, or 0, at every voxel.

    Attributes
    ----------
    data : (z, y, x) uint8
        0 is background; the other values are the labels of `species`.
    voxel_size : float
        Voxel size in Å.
    species
        Species of the labels; empty if unknown.
    origin, nstart : (z, y, x)
        As in :class:`Volume`.
    """

    data: NDArray[np.integer[Any]]
    voxel_size: float
    species: tuple[Species, ...] = ()
    origin: ZYX = (0.0, 0.0, 0.0)
    nstart: Start = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise ValueError(f"a label map has axes (z, y, x), got shape {self.data.shape}")
        check_voxel_size(self.voxel_size)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreMap:
    """Scores of a network for each species at each voxel.

    Attributes
    ----------
    data : (k, z, y, x)
        In [0, 1], one channel per species; may be a lazily read array.
    voxel_size : float
        Voxel size of this map in Å; larger than that of the tomogram if the network has an output stride.
    species : k species, in the order of the channels
    offset : float
        Position in Å, on every axis, of the center of voxel (0, 0, 0) of this map. With an output stride s
        it is (s - 1) / 2 voxels of the tomogram.
    kind : "heatmap" or "mask"
        Whether the channels peak at centers or cover entire particles.
    thresholds : name -> score
        Minimum score of a pick, as stored in the model.
    origin, nstart : (z, y, x)
        Origin (Å) and `nstart` (voxels) of the tomogram.
    tomogram_shape, tomogram_voxel_size
        Shape and voxel size of the tomogram, which an output stride does not preserve; None if unknown.
    calibration
        From scores to probabilities, as stored in the model: values of a
        `cryovox.picking.calibration.Calibration`; None without one.
    """

    data: Any
    voxel_size: float
    species: tuple[Species, ...]
    offset: float = 0.0
    kind: str = "mask"
    thresholds: dict[str, float] = field(default_factory=dict)
    origin: ZYX = (0.0, 0.0, 0.0)
    tomogram_shape: tuple[int, int, int] | None = None
    tomogram_voxel_size: float | None = None
    nstart: Start = (0, 0, 0)
    calibration: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if len(self.data.shape) != 4 or self.data.shape[0] != len(self.species):
            raise ValueError(
                f"a score map has axes (k, z, y, x) with k = {len(self.species)} species, "
                f"got shape {self.data.shape}"
            )
        if self.kind not in ("heatmap", "mask"):
            raise ValueError(f"a score map is a 'heatmap' or a 'mask', got {self.kind!r}")
        check_voxel_size(self.voxel_size)


def check_voxel_size(voxel_size: float) -> None:
    """Raise ValueError unless it is a positive, finite length in Å."""
    if not (np.isfinite(voxel_size) and voxel_size > 0):
        raise ValueError(f"a voxel size is positive and in Å, got {voxel_size}")
