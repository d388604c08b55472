"""Split a region at its necks into touching particles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from cryovox.picking.peaks import local_maxima, separate

Float = NDArray[np.float64]

NECK = 0.75
"""A neck is thinner than this fraction of the thinner of the two bodies that it joins."""
THIN = 0.35
"""A body is at least this fraction as thick as the thickest of its region."""


def split_region(region: NDArray[np.bool_], radius_vox: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Assign the voxels of a region to the bodies that touch in it.

    Bodies are maxima of the distance to the surface, more than 1.2 radii apart, with a neck on the line
    between any two of them. A voxel belongs to the body whose sphere is nearest.

    Parameters
    ----------
    region : (z, y, x) bool
        One connected region.
    radius_vox : float
        Radius of a particle in voxels.

    Returns
    -------
    voxels : (n, 3) int
        Voxels of the region.
    body : (n,) int
        Index of the body of each voxel.
    """
    voxels = np.argwhere(region)
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1, 1:-1]
    smooth = ndimage.gaussian_filter(depth.astype(np.float32), max(0.5, 0.15 * radius_vox))
    centers, depths = _bodies(smooth, radius_vox)
    if len(centers) < 2:
        return voxels, np.zeros(len(voxels), np.intp)
    return voxels, _nearest(voxels, centers, depths)


def _bodies(depth: NDArray[np.float32], radius_vox: float) -> tuple[Float, Float]:
    """Centers and depths of the bodies, deepest first."""
    shape = (depth.shape[0], depth.shape[1], depth.shape[2])
    centers, values = local_maxima(
        lambda start, stop: depth[start:stop], shape, max(THIN * float(depth.max()), 1e-6)
    )
    order = separate(centers, values, 1.2 * radius_vox)
    kept: list[int] = []
    for i in order:
        near = [j for j in kept if np.linalg.norm(centers[i] - centers[j]) < 4 * radius_vox]
        if all(_neck(depth, centers[i], centers[j]) < NECK * values[i] for j in near):
            kept.append(int(i))
    return centers[kept], values[kept].astype(np.float64)


def _neck(depth: NDArray[np.float32], one: Float, other: Float) -> float:
    """Minimum depth on the line between two centers."""
    steps = max(2, int(2 * np.linalg.norm(other - one)))
    line = one + np.linspace(0, 1, steps + 1)[:, None] * (other - one)
    return float(ndimage.map_coordinates(depth, line.T, order=1, mode="nearest").min())


def _nearest(voxels: NDArray[np.intp], centers: Float, depths: Float) -> NDArray[np.intp]:
    """Body with the lowest squared distance minus squared depth, among the eight nearest."""
    k = min(8, len(centers))
    distance, body = KDTree(centers).query(voxels, k=k)
    power = np.square(distance) - np.square(depths[body])
    return body[np.arange(len(voxels)), power.argmin(axis=1)]
