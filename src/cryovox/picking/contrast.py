"""How much denser a place is than its surroundings, at the size of a particle.

The response to a difference of Gaussians, as in :func:`cryovox.picking.blobs.dog`, on a grid that is as
coarse as the radius allows, and interpolated at the voxels of a score map when it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.core.on_access import Float32, Span, VoxelsOnAccess
from cryovox.core.volume import ScoreMap, Voxels, release_pages

NARROW, WIDE = 0.5, 0.8
"""Standard deviations of the Gaussians, in radii; a ball of the radius responds most at about this width."""
SAMPLES = 4.0
"""Voxels of the coarse grid per radius, at least where the tomogram has as many."""
MOST_VOXELS = 16_000_000
"""Largest coarse grid, which takes 0.3 GB with its copies; beyond it the grid is coarser."""


@dataclass(frozen=True, eq=False)
class BlobContrast:
    """Response to a ball of one radius, on a coarse grid.

    Attributes
    ----------
    field : (z, y, x)
        In the units of the tomogram; positive where it is denser.
    voxel_size, offset
        Of the grid, in Å; the offset is the position of the center of its first voxel on every axis.
    deviation
        Standard deviation of the field over the tomogram, by which contrasts are divided; 0 where it is
        constant.
    """

    field: Float32
    voxel_size: float
    offset: float
    deviation: float

    def at(self, scores: ScoreMap) -> VoxelsOnAccess:
        """Contrast in standard deviations at the voxels of a score map."""
        return _Interpolated(self, scores)


def blob_contrast(
    data: Voxels, voxel_size: float, radius: float, bright: Callable[[NDArray[Any]], Float32]
) -> BlobContrast:
    """Measure the contrast of balls in a tomogram.

    Parameters
    ----------
    data : (z, y, x)
        Read in slabs.
    voxel_size, radius
        In Å.
    bright
        From values of a slab to gray values in which particles are bright.
    """
    factor = _factor(data.shape, voxel_size, radius)
    binned = _binned(data, factor, bright)
    width = radius / (factor * voxel_size)
    field = ndimage.gaussian_filter(binned, NARROW * width)
    field -= ndimage.gaussian_filter(binned, WIDE * width)
    deviation = float(field.std(dtype=np.float64))
    return BlobContrast(field, factor * voxel_size, (factor - 1) / 2 * voxel_size, deviation)


def _factor(shape: tuple[int, ...], voxel_size: float, radius: float) -> int:
    """Voxels of the tomogram along an edge of one of the coarse grid."""
    finest = int(radius / SAMPLES / voxel_size)
    fewest = int(np.ceil((np.prod(shape, dtype=float) / MOST_VOXELS) ** (1 / 3)))
    return max(1, min(max(finest, fewest), *shape))


def _binned(data: Voxels, factor: int, bright: Callable[[NDArray[Any]], Float32]) -> Float32:
    """Means of cubes; the last voxels are left out where they fill none."""
    z, y, x = (n // factor for n in data.shape)
    planes = max(1, 16 // factor)
    slabs = []
    for first in range(0, z, planes):
        last = min(first + planes, z)
        slab = bright(np.asarray(data[first * factor : last * factor, : y * factor, : x * factor]))
        slabs.append(slab.reshape(last - first, factor, y, factor, x, factor).mean(axis=(1, 3, 5)))
        release_pages(data)
    return np.concatenate(slabs)


class _Interpolated(VoxelsOnAccess):
    """Contrast at the voxels of a score map, linear between the voxels of the coarse grid."""

    def __init__(self, contrast: BlobContrast, scores: ScoreMap) -> None:
        _, z, y, x = scores.data.shape
        super().__init__((z, y, x))
        self._contrast = contrast
        self._first = (scores.offset - contrast.offset) / contrast.voxel_size
        self._step = scores.voxel_size / contrast.voxel_size

    def box(self, z: Span, y: Span, x: Span) -> Float32:
        if not self._contrast.deviation > 0:
            return np.zeros([b - a for a, b in (z, y, x)], np.float32)
        values = self._contrast.field
        for axis, (start, stop) in enumerate((z, y, x)):
            values = self._along(values, axis, start, stop)
        return values / np.float32(self._contrast.deviation)

    def _along(self, values: Float32, axis: int, start: int, stop: int) -> Float32:
        last = values.shape[axis] - 1
        places = np.clip(self._first + self._step * np.arange(start, stop), 0, last)
        low = np.minimum(places.astype(np.intp), max(last - 1, 0))
        weight = (places - low).astype(np.float32)
        weight = weight.reshape([-1 if at == axis else 1 for at in range(3)])
        high = np.minimum(low + 1, last)
        return values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight
