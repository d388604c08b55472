"""Rotations that a membrane allows: the main axis of a membrane protein lies along the normal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMOOTHING = 1.5
"""Standard deviation in voxels by which a mask is smoothed before its gradient is taken."""
NEIGHBORHOOD = 3.0
"""Standard deviation in voxels of the region whose gradients give a normal."""


@dataclass(frozen=True, eq=False)
class AxisCone:
    """The z axis of the template lies within an angle of a line at each voxel.

    Attributes
    ----------
    normals : (3, z, y, x) float32
        (x, y, z) of the line, of length 1; 0 where nothing is searched. The sign has no meaning, since a
        mask does not say which side of a membrane is which.
    cosine
        Of the largest angle.
    """

    normals: NDArray[np.float32]
    cosine: float

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Voxels that are searched."""
        return np.asarray(self.normals.any(axis=0))

    def within(self, box: tuple[slice, ...]) -> AxisCone:
        """Of a part of the volume."""
        return AxisCone(self.normals[:, *box], self.cosine)

    def at(self, index: tuple[NDArray[np.intp], ...]) -> AxisCone:
        """At the voxels of a coarser grid: see :func:`numpy.ix_`."""
        z, y, x = index
        return AxisCone(np.ascontiguousarray(self.normals[:, z, y, x]), self.cosine)


def membrane_cone(membrane: NDArray[np.bool_], distance: float, angle: float) -> AxisCone:
    """Lines along the normals of a membrane.

    The normal is the main direction of the gradients of the smoothed mask (structure tensor). Voxels beside
    the membrane have that of the nearest voxel in it.

    Parameters
    ----------
    membrane : (z, y, x)
        Mask of the bilayer, or of a larger shell around it.
    distance
        Largest distance in voxels from the membrane that is searched.
    angle
        Largest angle in degrees.
    """
    smooth = ndimage.gaussian_filter(membrane.astype(np.float32), SMOOTHING)
    gradients = np.gradient(smooth)
    away, nearest = ndimage.distance_transform_edt(~membrane, return_indices=True)
    inside = away <= distance
    used, index = np.unique(np.ravel_multi_index(nearest[:, inside], membrane.shape), return_inverse=True)
    tensor = np.empty((len(used), 3, 3))
    for i in range(3):
        for j in range(i, 3):
            product = ndimage.gaussian_filter(gradients[i] * gradients[j], NEIGHBORHOOD)
            tensor[:, i, j] = tensor[:, j, i] = product.ravel()[used]
    lines = np.linalg.eigh(tensor)[1][:, ::-1, -1]  # of the largest eigenvalue, as (x, y, z)
    normals = np.zeros((3, *membrane.shape), np.float32)
    normals[:, inside] = lines[index].T
    return AxisCone(normals, float(np.cos(np.deg2rad(angle))))
