"""Grids of rotations for a search: even, and reduced by symmetry.

The 24 rotations of the cube divide SO(3) into 24 equal cells. Each holds the same body-centered cubic lattice
of rotation vectors, the thinnest covering of space by a lattice (construction of C. Karney, J. Mol. Graph.
Model. 25 (2007) 595). Good spacings put layers of the lattice symmetric about the faces of the cell, 45° from
its center.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryovox.simulate.particles.beads import point_group

LATTICES = (
    (38.8, 46.5), (21.1, 36.74), (19.0, 26.09), (15.0, 22.18), (12.8, 20.3), (9.6, 17.1), (9.0, 13.75),
    (6.9, 10.65),
)  # fmt: skip
"""Covering radius and spacing of lattices in degrees, coarse ones first."""
FINE = 1.15
"""Spacing of finer lattices over the step; its ratio to the covering radius was always 1.19 or more."""
_CELL = np.tan(np.pi / 8)


def rotation_grid(step: float, symmetry: str = "C1") -> NDArray[np.float64]:
    """Rotations such that every rotation lies within *step* degrees of one of them, modulo symmetry.

    Parameters
    ----------
    step
        Angle in degrees.
    symmetry
        Point group of the reference, such as "C1", "D2", "T", "O" or "I", as of
        :meth:`scipy.spatial.transform.Rotation.create_group`.

    Returns
    -------
    rotations : (r, 3, 3)
        Active, reference to tomogram, acting on (x, y, z) columns.
    """
    group = point_group(symmetry)
    cells, is_reduced = _cosets(point_group("O"), group)
    local = _cell(np.deg2rad(_spacing(step))).as_matrix()
    rotations = _distinct(np.einsum("vij,cjk->cvik", local, cells).reshape(-1, 3, 3))
    return rotations if is_reduced else _asymmetric(rotations, group, np.deg2rad(step))


def _cosets(cube: NDArray[np.float64], group: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """One rotation of each coset of a subgroup of the cube group; of any other group all rotations."""
    products = np.einsum("cij,gjk->cgik", cube, group)
    same = np.abs(products[:, :, None] - cube).max(axis=(-1, -2)) < 1e-6
    if not same.any(axis=-1).all():
        return cube, False
    return cube[np.unique(same.argmax(axis=-1).min(axis=1))], True


def _spacing(step: float) -> float:
    """Largest spacing of the lattice whose covering radius is at most *step*, in degrees."""
    for radius, spacing in LATTICES:
        if radius <= step:
            return spacing
    layers = np.ceil(90 / (FINE * step) - 0.45)
    return float(90 / (layers + 0.45))


def _cell(spacing: float) -> Rotation:
    """Rotations of the lattice in the cell around the identity: a cube with cut corners."""
    reach = int(np.ceil(1.1 / spacing)) + 1
    at = np.arange(-reach, reach + 1.0)
    corners = np.stack(np.meshgrid(at, at, at, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = spacing * np.concatenate([corners, corners + 0.5])
    rotations = Rotation.from_rotvec(vectors[np.linalg.norm(vectors, axis=1) < 1.1])
    *axis, w = np.abs(rotations.as_quat()).T
    rodrigues = np.stack(axis, axis=1) / w[:, None]
    inside = (rodrigues.max(axis=1) <= _CELL + 1e-9) & (rodrigues.sum(axis=1) <= 1 + 1e-9)
    return rotations[inside]


def _distinct(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without copies on faces that two cells share."""
    rounded = np.round(rotations, 6).reshape(-1, 9) + 0.0
    _, first = np.unique(rounded, axis=0, return_index=True)
    return rotations[np.sort(first)]


def _asymmetric(
    rotations: NDArray[np.float64], group: NDArray[np.float64], step: float
) -> NDArray[np.float64]:
    """Rotations that are enough for a particle of that point group.

    Of the equivalent rotations R g, the one with the smallest angle is searched. A grid point within *step*
    of it has an angle that exceeds the smallest of its own equivalents by less than two steps.
    """
    if len(group) == 1:
        return rotations
    equivalent = np.arccos(np.clip((np.einsum("rij,gji->rg", rotations, group) - 1) / 2, -1, 1))
    angle = np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1))
    return rotations[angle <= equivalent.min(axis=1) + 2 * step]
