"""Voxels that are computed when they are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
Float32 = NDArray[np.float32]


class VoxelsOnAccess(ABC):
    """Voxels (z, y, x), read by integers and slices like an array, and computed box by box.

    Parameters
    ----------
    shape
        Of the whole volume.
    """

    dtype = np.dtype(np.float32)
    ndim = 3

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    @abstractmethod
    def box(self, z: Span, y: Span, x: Span) -> Float32:
        """Voxels of a box, which lies inside and may be empty."""

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("voxels on access are always computed")
        return self[:, :, :].astype(dtype or np.float32, copy=False)

    def __getitem__(self, key: Any) -> Float32:
        """Voxels at integers and slices; negative steps are not supported."""
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > 3 or not all(isinstance(k, slice | int | np.integer) for k in keys):
            raise IndexError("voxels on access are read by integers and slices")
        keys = (*keys, *[slice(None)] * (3 - len(keys)))
        spans, inner = zip(*(_span(k, n) for k, n in zip(keys, self.shape, strict=True)), strict=True)
        return self.box(*spans)[inner]


def _span(key: Any, size: int) -> tuple[Span, Any]:
    """First and last voxel that a key reads, and the key within them."""
    if isinstance(key, slice):
        start, stop, step = key.indices(size)
        if step < 1:
            raise IndexError("voxels on access are read forwards")
        return (start, max(start, stop)), slice(None, None, step)
    index = int(key) + (size if key < 0 else 0)
    if not 0 <= index < size:
        raise IndexError(f"index {key} is out of bounds for an axis of {size} voxels")
    return (index, index + 1), 0
