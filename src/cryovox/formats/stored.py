"""Volumes in stores: arrays of which only the selected part is read, and headers of files that say little."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.intensity import slabs
from cryovox.core.reading import check_readable
from cryovox.core.sizes import size_text
from cryovox.core.volume import ZYX, VolumeHeader, voxel_size_problem
from cryovox.formats import COMPRESSED

UNKNOWN: ZYX = (0.0, 0.0, 0.0)
EXACT = 1 << 24
"""Largest integer up to which single precision stores all of them."""


class StoredVolume:
    """A stored array as a (z, y, x) volume, of which only the selected part is read.

    Parameters
    ----------
    stored
        Array of Zarr, HDF5 or the like with the axes z, y, x in any order, and other axes of length 1. It is
        asked for blocks: ``stored[low:high, ...]`` with an index or a slice for every axis.
    axes
        Indices of the axes z, y and x.
    """

    ndim = 3

    def __init__(self, stored: Any, axes: tuple[int, int, int] = (0, 1, 2)) -> None:
        self._stored, self._axes = stored, axes
        self.shape: tuple[int, ...] = tuple(int(stored.shape[axis]) for axis in axes)
        self.dtype: np.dtype[Any] = np.dtype(stored.dtype)
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        keys = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(k, (int, np.integer, slice)) for k in keys):  # such as masks and lists
            return self._block((0, n) for n in self.shape)[key]
        keys += (slice(None),) * (3 - len(keys))
        spans, inside = [], list[Any]()
        for n, k in zip(self.shape, keys, strict=True):
            selected = range(n)[k]
            indices = [selected] if isinstance(selected, int) else selected
            spans.append((min(indices), max(indices) + 1) if indices else (0, 0))
            inside.append(0 if isinstance(selected, int) else slice(None, None, selected.step))
        return self._block(spans)[tuple(inside)]

    def _block(self, spans: Iterable[tuple[int, int]]) -> NDArray[Any]:
        """Read the (z, y, x) block between low and high on each axis."""
        key: list[Any] = [0] * len(self._stored.shape)
        for axis, (low, high) in zip(self._axes, spans, strict=True):
            key[axis] = slice(low, high)
        order = [sorted(self._axes).index(axis) for axis in self._axes]
        return np.asarray(self._stored[tuple(key)]).transpose(order)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("stored voxels are always copied")
        return self[:].astype(dtype or self.dtype, copy=False)


def spatial_axes(path: Path, shape: tuple[int, ...], dtype: Any) -> tuple[int, int, int]:
    """Indices of the axes z, y, x: the only three, or those after leading axes of length 1."""
    if np.dtype(dtype).kind not in "biuf":
        raise RequestError(path, f"holds values of type {dtype}, not real numbers", "write real numbers")
    extra = len(shape) - 3
    if extra < 0 or any(n != 1 for n in shape[:extra]) or not all(shape):
        message = f"holds an array of shape {shape}; a volume has z, y and x"
        raise RequestError(path, message, "write one volume to a file of its own")
    return extra, extra + 1, extra + 2


def header_of(
    data: Any, voxel_sizes: ZYX = UNKNOWN, origin: ZYX = UNKNOWN, problem: str | None = None
) -> VolumeHeader:
    """Header of a volume with axes z, y, x.

    Parameters
    ----------
    data
        Array with `shape` and `dtype`.
    voxel_sizes, origin : (z, y, x)
        In Å; 0 where unknown.
    problem
        Why the voxel size cannot be used, if that is known.
    """
    z, y, x = (int(n) for n in data.shape)
    problem = problem or voxel_size_problem(voxel_sizes, (z, y, x))
    return VolumeHeader(
        shape=(z, y, x),
        dtype=np.dtype(data.dtype),
        voxel_sizes=voxel_sizes,
        origin=origin,
        size_problem=problem,
        problems=(problem,) if problem else (),
    )


def check_memory(path: Path, size: int) -> None:
    """Refuse a compressed file whose header announces more bytes than there is memory."""
    free = _free_memory()
    if free is not None and size > free:
        message = f"announces {size_text(size)} of voxels, and {size_text(free)} of memory are free"
        raise RequestError(path, message, "unpack it on disk first, with gunzip or bunzip2")


def _free_memory() -> int | None:
    """Bytes of memory that are free or can be freed; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 1024 * kilobytes[0] if kilobytes else None


def exact_type(path: Path, data: Any, kinds: Iterable[str]) -> np.dtype[Any]:
    """The first type that stores all integers of a volume exactly; an error if there is none.

    Parameters
    ----------
    path
        The output, for the message.
    data : (z, y, x) of integers
    kinds
        Types of NumPy, such as "i2", in the order of preference.
    """
    spans = [(int(slab.min()), int(slab.max())) for slab in slabs(data)]
    low, high = min(a for a, _ in spans), max(b for _, b in spans)
    for kind in map(np.dtype, kinds):
        limits = (-EXACT, EXACT) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
        if limits[0] <= low and high <= limits[1]:
            return kind
    message = f"cannot store integers from {low} to {high} exactly"
    raise RequestError(path, message, "name an output .zarr, .h5 or .npy")


def check_single_precision(path: Path, data: Any) -> None:
    """Raise an error for numbers beyond those of single precision, which would become infinite."""
    if np.dtype(data.dtype).itemsize <= 4:
        return
    largest = max(float(np.abs(slab[np.isfinite(slab)]).max(initial=0.0)) for slab in slabs(data))
    if largest > float(np.finfo(np.float32).max):
        message = f"cannot store {largest:g}, which is beyond single precision"
        raise RequestError(path, message, "name an output .zarr, .h5 or .npy, or correct the values")


def first_bytes(path: Path, size: int) -> bytes:
    """Beginning of a file of which parts are read alone."""
    check_unpacked(path)
    check_readable(path)
    with path.open("rb") as file:
        return file.read(size)


def reason_of(error: Exception) -> str:
    """First line of an error of a library, or its name."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def check_unpacked(path: Path) -> None:
    """Raise an error for a compressed file, of which no part could be read alone."""
    if path.suffix.lower() in COMPRESSED:
        plain = path.with_suffix("").name
        raise RequestError(path, "is compressed, or is to be", f"use gunzip or bunzip2, and name {plain}")
