"""The boundary of a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def boundary(mask: NDArray[np.bool_], value: bool) -> NDArray[np.intp]:
    """Voxels (n, 3) with this value that share a face with one of the other value."""
    surface = np.zeros(mask.shape, dtype=bool)
    for axis in range(3):
        ahead = np.moveaxis(mask, axis, 0)
        edge = np.moveaxis(surface, axis, 0)
        changes = ahead[1:] != ahead[:-1]
        edge[1:] |= changes & (ahead[1:] == value)
        edge[:-1] |= changes & (ahead[:-1] == value)
    return np.argwhere(surface)
