"""What surrounds particles: masks, surfaces and other particles, as distances in Å."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryovox.core.boundary import boundary
from cryovox.core.particles import Particles

Float = NDArray[np.float64]


def mask_distances(positions: Float, mask: NDArray[np.bool_], voxel_size: float) -> Float:
    """Distance to a mask.

    Parameters
    ----------
    positions : (n, 3)
        In Å as (z, y, x).
    mask : (z, y, x)
        With at least one voxel inside.
    voxel_size
        Voxel size of the mask in Å.

    Returns
    -------
    (n,)
        In Å: outside, the distance to the center of the nearest voxel of the mask; inside, minus the distance
        to the center of the nearest voxel that is not of it. Faces of the volume are no surface, so that a
        mask of all voxels has the distance -inf.
    """
    zyx = positions / voxel_size
    inside = _values(mask, zyx)
    distances = np.full(len(zyx), np.inf)
    for value, sign in ((True, 1.0), (False, -1.0)):  # distance to the voxels of this value
        rows = np.flatnonzero(inside != value)
        surface = boundary(mask, value)
        if len(rows):
            apart = cKDTree(surface).query(zyx[rows])[0] if len(surface) else np.inf
            distances[rows] = sign * apart * voxel_size
    return distances


def lamella_depths(positions: Float, mask: NDArray[np.bool_], voxel_size: float) -> Float:
    """Depth below the upper or lower surface of a lamella, whichever is closer, in Å.

    The surfaces are the first and the last voxel of the mask along z at each y and x. They are found outside
    the volume too, if the mask ends at its faces. Negative outside the lamella, NaN where the column of the
    mask is empty.
    """
    zyx = positions / voxel_size
    y, x = (np.clip(np.rint(zyx[:, i]).astype(np.intp), 0, mask.shape[i] - 1) for i in (1, 2))
    columns = mask[:, y, x]
    low = columns.argmax(axis=0) - 0.5
    high = len(mask) - columns[::-1].argmax(axis=0) - 0.5
    depth = np.minimum(zyx[:, 0] - low, high - zyx[:, 0]) * voxel_size
    return np.where(columns.any(axis=0), depth, np.nan)


def nearest_neighbors(particles: Particles) -> Float:
    """Distance in Å to the nearest other particle of the same tomogram and species; inf if there is none."""
    distances = np.full(len(particles), np.inf)
    for rows in groups(particles):
        if len(rows) > 1:
            places = particles.positions[rows]
            distances[rows] = cKDTree(places).query(places, k=2)[0][:, 1]
    return distances


def neighbor_counts(particles: Particles, distance: float) -> NDArray[np.intp]:
    """Number of other particles of the same tomogram and species within a distance in Å."""
    counts = np.zeros(len(particles), dtype=np.intp)
    for rows in groups(particles):
        tree = cKDTree(particles.positions[rows])
        counts[rows] = tree.query_ball_point(particles.positions[rows], distance, return_length=True) - 1
    return counts


def groups(particles: Particles, by_species: bool = True) -> Iterator[NDArray[np.intp]]:
    """Indices of the particles of each tomogram, and of each species in it."""
    sources = particles.tomograms if particles.tomograms is not None else np.zeros(len(particles), "<U1")
    kinds = particles.species if by_species else np.zeros(len(particles), "<U1")
    keys = np.unique(np.stack([sources.astype(str), kinds.astype(str)], axis=1), axis=0, return_inverse=True)
    which = keys[1].ravel()
    for key in range(len(keys[0])):
        yield np.flatnonzero(which == key)


def _values(mask: NDArray[np.bool_], zyx: Float) -> NDArray[np.bool_]:
    """Value of the voxel that holds each position; False outside the volume."""
    voxels = np.rint(zyx).astype(np.intp)
    valid = ((voxels >= 0) & (voxels < mask.shape)).all(axis=1)
    values = np.zeros(len(zyx), dtype=bool)
    values[valid] = mask[tuple(voxels[valid].T)]
    return values
