"""Conversion between Euler angles and rotation matrices, in closed form, which is fast for long lists.

The angles (rot, tilt, psi) of RELION are intrinsic ZYZ angles in degrees of the rotation from the tomogram to
the reference. Our matrices rotate the reference into the tomogram, so one is the inverse of the other. Both
act on (x, y, z) column vectors.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Axes = Literal["ZYZ", "ZXZ"]
GIMBAL_LOCK = 1e-7
"""Sine of the second angle below which the first and the third are one rotation."""


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
    return matrices_of("ZYZ", eulers, inverse=True)


def eulers_of(rotations: ArrayLike) -> NDArray[np.float64]:
    """Inverse of :func:`rotations_of`: (n, 3) rot, tilt, psi in degrees; psi is 0 at gimbal lock."""
    return angles_of("ZYZ", rotations, inverse=True)


def matrices_of(axes: Axes, degrees: ArrayLike, *, inverse: bool = False) -> NDArray[np.float64]:
    """Rotation matrices (n, 3, 3) of intrinsic Euler angles (n, 3) in degrees, or their inverses."""
    first, second, third = np.deg2rad(np.asarray(degrees, dtype=np.float64).reshape(-1, 3)).T
    ca, sa, cb, sb, cg, sg = (f(a) for a in (first, second, third) for f in (np.cos, np.sin))
    result = np.empty((len(first), 3, 3))
    rows = result.swapaxes(1, 2) if inverse else result
    if axes == "ZYZ":
        rows[:, 0] = np.stack([ca * cb * cg - sa * sg, -ca * cb * sg - sa * cg, ca * sb], axis=1)
        rows[:, 1] = np.stack([sa * cb * cg + ca * sg, -sa * cb * sg + ca * cg, sa * sb], axis=1)
        rows[:, 2] = np.stack([-sb * cg, sb * sg, cb], axis=1)
    else:
        rows[:, 0] = np.stack([ca * cg - sa * cb * sg, -ca * sg - sa * cb * cg, sa * sb], axis=1)
        rows[:, 1] = np.stack([sa * cg + ca * cb * sg, -sa * sg + ca * cb * cg, -ca * sb], axis=1)
        rows[:, 2] = np.stack([sb * sg, sb * cg, cb], axis=1)
    np.round(result, 15, out=result)
    result += 0.0  # no negative zeros
    return result


def angles_of(axes: Axes, rotations: ArrayLike, *, inverse: bool = False) -> NDArray[np.float64]:
    """Intrinsic Euler angles (n, 3) in degrees of rotations (n, 3, 3), or of their inverses.

    The second angle is from 0 to 180; the third is 0 at gimbal lock.
    """
    matrices = np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3)
    r = matrices.swapaxes(1, 2) if inverse else matrices
    sine = np.hypot(r[:, 2, 0], r[:, 2, 1])
    locked = sine < GIMBAL_LOCK
    if axes == "ZYZ":
        first = np.arctan2(r[:, 1, 2], r[:, 0, 2])
        third = np.arctan2(r[:, 2, 1], -r[:, 2, 0])
        alone = np.arctan2(-r[:, 0, 1], r[:, 1, 1])
    else:
        first = np.arctan2(r[:, 0, 2], -r[:, 1, 2])
        third = np.arctan2(r[:, 2, 0], r[:, 2, 1])
        alone = np.arctan2(r[:, 1, 0], r[:, 0, 0])
    first, third = np.where(locked, alone, first), np.where(locked, 0.0, third)
    return np.rad2deg(np.stack([first, np.arctan2(sine, r[:, 2, 2]), third], axis=1))
