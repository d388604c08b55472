"""Where picks are not wanted: outside a mask and near the faces of the volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles

Shape = tuple[int, int, int]
Allowed = Callable[[NDArray[np.float64]], NDArray[np.bool_]]
NearFaces = Callable[[NDArray[np.float64], float], NDArray[np.bool_]]


def exclude(
    particles: Particles,
    shape: Shape,
    voxel_size: float,
    mask: NDArray[Any] | None = None,
    border: float = 0.0,
) -> Particles:
    """Leave out particles that are outside the mask, outside the volume or close to its faces.

    Parameters
    ----------
    particles
        In the frame of the tomogram.
    shape, voxel_size
        Of the tomogram; voxels in Å.
    mask : (z, y, x)
        Not 0 where particles may lie; a particle counts by the voxel that holds its centre. It covers
        the tomogram, at its sampling or coarser or finer by a whole factor.
    border : float
        Least distance of a centre to the outer faces of the volume, in Å.
    """
    return particles.take(allowed(shape, voxel_size, 0.0, mask, border)(particles.positions))


def allowed(
    shape: Shape, voxel_size: float, offset: float, mask: NDArray[Any] | None, border: float
) -> Allowed:
    """Give the function that tells which positions, in Å, may hold a particle.

    Parameters
    ----------
    shape, voxel_size, offset
        Of the map that is searched; the last two in Å.
    """
    low = offset - voxel_size / 2
    sides = np.asarray(shape) * voxel_size
    look = None if mask is None else _lookup(mask, shape, voxel_size, low)

    def test(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
        depth = positions - low
        inside = np.asarray(((depth >= border) & (sides - depth >= border)).all(axis=1))
        return inside if look is None else inside & look(positions)

    return test


def near_faces(shape: Shape, voxel_size: float, offset: float, border: float | None) -> NearFaces:
    """Give the function that tells which positions, in Å, lie too close to a face for their species.

    Parameters
    ----------
    shape, voxel_size, offset
        Of the map; the last two in Å.
    border
        Least distance of a centre to the outer faces, in Å; half the radius of the species where None.
    """
    low = offset - voxel_size / 2
    sides = np.asarray(shape) * voxel_size

    def test(positions: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
        width = radius / 2 if border is None else border
        depth = positions - low
        return np.asarray(((depth < width) | (sides - depth < width)).any(axis=1))

    return test


def _lookup(mask: NDArray[Any], shape: Shape, voxel_size: float, low: float) -> Allowed:
    """Read a mask that shares the low corner of the map; its voxels may be a whole factor off."""
    edge = voxel_size / _factor(mask.shape, shape)
    last = np.asarray(mask.shape) - 1

    def look(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
        index = np.floor((positions - low) / edge).astype(np.intp)
        inside = np.asarray(((index >= 0) & (index <= last)).all(axis=1))
        z, y, x = np.clip(index, 0, last).T
        return inside & (np.asarray(mask[z, y, x]) != 0)

    return look


def _factor(mask: tuple[int, ...], shape: Shape) -> float:
    """How many voxels of the mask lie along one of the map."""
    if len(mask) == 3 and min(mask) > 0:
        for finer in range(1, 17):
            if all(abs(m - finer * n) < finer for m, n in zip(mask, shape, strict=True)):
                return float(finer)
            if all(abs(finer * m - n) < finer for m, n in zip(mask, shape, strict=True)):
                return 1.0 / finer
    raise RequestError(
        "--mask", f"has shape {mask}, the volume has {shape}", "give a mask that covers the tomogram"
    )
