"""Coarser resolutions of a stored volume: means of blocks of 2 x 2 x 2 voxels, again and again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 64
SMALLEST = 128
"""Longest axis in voxels of a volume that gets no coarser resolution: viewers show it at once."""


def shapes(shape: tuple[int, ...], dtype: Any) -> list[tuple[int, ...]]:
    """Shapes (z, y, x) of all resolutions, the finest first.

    Volumes of bytes may be label maps or masks, of which a mean is none; they have one resolution.
    """
    result = [shape]
    while np.dtype(dtype).itemsize > 1 and max(result[-1]) > SMALLEST:
        result.append(tuple(max(1, n // 2) for n in result[-1]))
    return result


def offset(level: int) -> float:
    """Distance, in voxels of the finest resolution, between the first voxels of it and of a coarser one."""
    return (2**level - 1) / 2


def fill(fine: Any, coarse: Any) -> None:
    """Write a resolution from the next finer one, slab by slab.

    Parameters
    ----------
    fine, coarse : (z, y, x)
        Stored arrays; the second has half as many voxels along each axis, rounded down.
    """
    for z in range(0, coarse.shape[0], CHUNK):
        planes = slice(2 * z, 2 * min(z + CHUNK, coarse.shape[0]))
        coarse[z : z + CHUNK] = halved(np.asarray(fine[planes]), coarse.shape[1:], coarse.dtype)


def halved(block: NDArray[Any], plane: tuple[int, int], dtype: Any) -> NDArray[Any]:
    """Means of blocks of 2 x 2 x 2 voxels; an axis of one voxel stays."""
    shape = (max(1, len(block) // 2), *plane)
    values = block.astype(np.result_type(dtype, np.float32))
    for axis, n in enumerate(shape):
        step = min(2, values.shape[axis])
        parts = [np.take(values, np.arange(i, n * step, step), axis=axis) for i in range(step)]
        values = sum(parts[1:], start=parts[0]) / step
    return np.asarray(np.rint(values) if np.dtype(dtype).kind in "iu" else values, dtype=dtype)
