"""Overlapping tiles over a volume and their blending weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Axis:
    """The tiles along one axis, in voxels of the input.

    Attributes
    ----------
    size
        Voxels of the volume on this axis.
    tile
        Edge of a tile.
    starts
        First voxel of each tile, evenly spaced. What the tiles cover beyond the volume is shared by its two
        faces.
    stride
        Input voxels per output voxel.
    """

    size: int
    tile: int
    starts: tuple[int, ...]
    stride: int

    @property
    def out_size(self) -> int:
        """Voxels of the output."""
        return -(-self.size // self.stride)

    def window(self) -> NDArray[np.float32]:
        """Weight of every output voxel of a tile: a Hann window, lifted off zero."""
        n = self.tile // self.stride
        hann = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
        return (hann + 1e-3).astype(np.float32)

    def total(self) -> NDArray[np.float32]:
        """Sum of the windows of all tiles at every output voxel of the volume."""
        window = self.window()
        total = np.zeros(self.out_size, np.float64)
        for start in self.starts:
            inner, outer = self.overlap(start)
            total[outer] += window[inner]
        return total.astype(np.float32)

    def overlap(self, start: int) -> tuple[slice, slice]:
        """Part of a tile that lies in the volume: slices of the tile's output and of the volume's."""
        first = start // self.stride
        low = max(0, first)
        high = min(self.out_size, first + self.tile // self.stride)
        return slice(low - first, high - first), slice(low, high)

    def inside(self, start: int) -> tuple[slice, slice]:
        """Part of a tile that lies in the volume, in input voxels: slices of the tile and of the volume."""
        low, high = max(0, start), min(self.size, start + self.tile)
        return slice(low - start, high - start), slice(low, high)


def plan(size: int, tile: int, overlap: float, stride: int = 1) -> Axis:
    """Place the fewest tiles that cover an axis.

    Parameters
    ----------
    size
        Voxels of the volume.
    tile
        Edge of a tile; a multiple of *stride*.
    overlap
        Overlap of neighboring tiles as a fraction of the tile.
    stride
        Input voxels per output voxel.
    """
    step = max(stride, round(tile * (1 - overlap)) // stride * stride)
    count = 1 + max(0, -(-(size - tile) // step))
    before = (tile + (count - 1) * step - size) // 2 // stride * stride
    return Axis(size, tile, tuple(step * i - before for i in range(count)), stride)
