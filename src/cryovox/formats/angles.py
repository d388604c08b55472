"""Conversion between Euler angles of RELION and rotation matrices.

The angles (rot, tilt, psi) of RELION are intrinsic ZYZ angles in degrees of the rotation from the tomogram to
the reference. Our matrices rotate the reference into the tomogram, so one is the inverse of the other. Both
act on (x, y, z) column vectors.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation


def rotations_of(eulers: ArrayLike) -> NDArray[np.float64]:
    """Active rotations from the reference to the tomogram.

    Parameters
    ----------
    eulers : (n, 3)
        rot, tilt, psi in degrees.

    Returns
    -------
    rotations : (n, 3, 3)

    Examples
    --------
    The inverse of a tilt by -90 degrees about y turns the z axis of the reference into x:

    >>> rotations_of([[0, -90, 0]])[0] @ [0, 0, 1]
    array([1., 0., 0.])
    """
    angles = np.asarray(eulers, dtype=np.float64).reshape(-1, 3)
    if not len(angles):
        return np.zeros((0, 3, 3))
    matrices = np.array(Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix())
    np.round(matrices, 15, out=matrices)
    matrices += 0.0  # no negative zeros
    return matrices


def eulers_of(rotations: ArrayLike) -> NDArray[np.float64]:
    """Inverse of :func:`rotations_of`: (n, 3) rot, tilt, psi in degrees; psi is 0 at gimbal lock."""
    matrices = np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3)
    if not len(matrices):
        return np.zeros((0, 3))
    with warnings.catch_warnings():  # of gimbal lock
        warnings.simplefilter("ignore")
        return np.asarray(Rotation.from_matrix(matrices).inv().as_euler("ZYZ", degrees=True))
