"""Where picks may lie: inside the volume and a mask, and away from the edges of the volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.volume import ScoreMap

Shape = tuple[int, int, int]
Float = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Bounds:
    """Volume, mask and border that decide which positions are accepted.

    Attributes
    ----------
    shape : (z, y, x)
        Shape of the map that is searched.
    voxel_size : float
        Voxel size of the map in Å.
    offset : float
        Position in Å, on every axis, of the center of voxel (0, 0, 0) of the map.
    mask : (z, y, x) or None
        Not 0 where particles may lie. It covers the map, at its sampling or coarser or finer by an integer
        factor. A position counts by the voxel of the mask that holds it.
    border : float or None
        Minimum distance in Å of a center from the outer faces; half the radius of the species where None.
    """

    shape: Shape
    voxel_size: float
    offset: float = 0.0
    mask: NDArray[Any] | None = None
    border: float | None = None

    def __post_init__(self) -> None:
        if self.mask is not None:
            _sampling(self.mask.shape, self.shape)

    @classmethod
    def of_scores(cls, scores: ScoreMap, mask: NDArray[Any] | None, border: float | None) -> Bounds:
        """Bounds of the tomogram where its shape is known, else of the score map."""
        if scores.tomogram_shape is None or scores.tomogram_voxel_size is None:
            return cls(scores.data.shape[1:], scores.voxel_size, scores.offset, mask, border)
        return cls(scores.tomogram_shape, scores.tomogram_voxel_size, 0.0, mask, border)

    @property
    def low(self) -> float:
        """Lower corner of the map in Å, on every axis."""
        return self.offset - self.voxel_size / 2

    def contain(self, positions: Float) -> Mask:
        """Whether positions (n, 3) in Å lie inside the volume and the mask."""
        depth = positions - self.low
        inside = np.asarray(((depth >= 0.0) & (self._extent - depth >= 0.0)).all(axis=1))
        return inside if self.mask is None else inside & self._in_mask(positions, self.mask)

    def near_edge(self, positions: Float, radius: float) -> Mask:
        """Whether positions (n, 3) in Å of a species with that radius lie too close to the outer faces."""
        width = radius / 2 if self.border is None else self.border
        depth = positions - self.low
        return np.asarray(((depth < width) | (self._extent - depth < width)).any(axis=1))

    @property
    def _extent(self) -> Float:
        return np.asarray(self.shape) * self.voxel_size

    def _in_mask(self, positions: Float, mask: NDArray[Any]) -> Mask:
        voxel_size = self.voxel_size / _sampling(mask.shape, self.shape)
        last = np.asarray(mask.shape) - 1
        index = np.floor((positions - self.low) / voxel_size).astype(np.intp)
        inside = np.asarray(((index >= 0) & (index <= last)).all(axis=1))
        z, y, x = np.clip(index, 0, last).T
        return inside & (np.asarray(mask[z, y, x]) != 0)


def _sampling(mask: tuple[int, ...], shape: Shape) -> float:
    """Voxels of the mask along one voxel of the map."""
    if len(mask) == 3 and min(mask) > 0:
        for factor in range(1, 17):
            if all(abs(m - factor * n) < factor for m, n in zip(mask, shape, strict=True)):
                return float(factor)
            if all(abs(factor * m - n) < factor for m, n in zip(mask, shape, strict=True)):
                return 1.0 / factor
    raise RequestError(
        "--mask", f"has shape {mask}, the volume has {shape}", "give a mask that covers the tomogram"
    )
