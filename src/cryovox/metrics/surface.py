"""Surface Dice: how much of the surfaces of two masks lies within a tolerance of each other.

Two masks of a membrane one voxel apart may share few voxels; their surfaces agree (S. Nikolov et al., 2018,
arXiv:1809.04430). Surfaces are voxels of a mask that share a face with a voxel outside; a face of the volume
is no surface.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryovox.core.boundary import boundary


def surface_counts(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    tolerance: float = 1.0,
    mask: NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Count the surface voxels of two masks that lie near the surface of the other.

    Parameters
    ----------
    predicted, truth : (z, y, x)
    tolerance
        Largest distance between centers of voxels, in voxels.
    mask : (z, y, x)
        Not 0 where voxels are counted.

    Returns
    -------
    (2,)
        Surface voxels within the tolerance, and all, of both masks together.
    """
    surfaces = boundary(predicted, True), boundary(truth, True)
    close = total = 0
    for own, other in (surfaces, surfaces[::-1]):
        counted = own if mask is None else own[np.asarray(mask[tuple(own.T)]) != 0]
        total += len(counted)
        if len(counted) and len(other):
            distances, _ = cKDTree(other).query(counted, distance_upper_bound=tolerance * (1 + 1e-9) + 1e-9)
            close += int(np.isfinite(distances).sum())
    return np.array([close, total], np.int64)


def surface_dice(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Surface Dice from counts (..., 2); NaN where neither mask has a surface."""
    close, total = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return np.where(total > 0, close / np.where(total > 0, total, 1.0), np.nan)
