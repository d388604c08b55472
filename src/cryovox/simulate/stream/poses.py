"""Precomputed rotations of templates, for boxes that are filled in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryovox.simulate.particles.rotate import rotate
from cryovox.simulate.particles.template import Template

NEGLIGIBLE = 0.01
"""Density, relative to the maximum, below which voxels outside the support are dropped."""
STEPS = np.arange(4096)

Voxels = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]


class CubeRotation(NamedTuple):
    """A rotation of the cube: source axis of each of z, y and x, and whether it is reversed."""

    axes: tuple[tuple[int, bool], ...]
    matrix: NDArray[np.float64]
    """Acting on (z, y, x) columns."""


@dataclass(frozen=True, eq=False)
class Pose:
    """A template in one pose, as lists of voxels of a box.

    Attributes
    ----------
    size
        Box size (z, y, x) in voxels.
    body : three (n,) int
        Indices along z, y and x of voxels with density.
    values : (n,) float32
        Their densities in volts.
    support : three (m,) int
        Indices of the voxels of the support.
    probes : three (at most 32,) int
        Some of them, evenly spread, for a quick overlap test.
    center : (3,)
        The particle's center, in voxels from voxel (0, 0, 0) of the box.
    rotation : (3, 3)
        Active, reference to tomogram, acting on (x, y, z) columns.
    """

    size: tuple[int, int, int]
    body: Voxels
    values: NDArray[np.float32]
    support: Voxels
    probes: Voxels
    center: NDArray[np.float64]
    rotation: NDArray[np.float64]

    @property
    def volume(self) -> int:
        """Voxels of the support."""
        return len(self.support[0])

    @classmethod
    def of(
        cls,
        density: NDArray[np.float32],
        support: NDArray[np.bool_],
        center: NDArray[np.float64],
        rotation: NDArray[np.float64],
    ) -> Pose:
        """From a box of density and support."""
        body = np.nonzero(support | (np.abs(density) > NEGLIGIBLE * np.abs(density).max()))
        low = np.array([int(axis.min()) for axis in body])
        z, y, x = (int(axis.max()) + 1 - start for axis, start in zip(body, low, strict=True))
        shifted, inside = (
            _voxels(axis - start for axis, start in zip(index, low, strict=True))
            for index in (body, np.nonzero(support))
        )
        probes = _voxels(axis[:: -(-len(inside[0]) // 32)] for axis in inside)
        return cls((z, y, x), shifted, density[body], inside, probes, center - low, rotation)


class RotatedPose(NamedTuple):
    """A pose after one of the 24 rotations of the cube."""

    pose: Pose
    cube_rotation: CubeRotation

    def center(self) -> NDArray[np.float64]:
        """Center of the particle in the rotated box, in voxels."""
        start = [self.pose.size[a] - 1 if flipped else 0 for a, flipped in self.cube_rotation.axes]
        return self.cube_rotation.matrix @ self.pose.center + start

    def rotation(self) -> NDArray[np.float64]:
        """Active, reference to tomogram, acting on (x, y, z) columns."""
        return self.cube_rotation.matrix[::-1, ::-1] @ self.pose.rotation

    def size(self) -> list[int]:
        """Size (z, y, x) of the rotated box."""
        return [self.pose.size[a] for a, _ in self.cube_rotation.axes]

    def index_tables(self, corner: NDArray[np.intp], shape: tuple[int, int, int]) -> list[NDArray[np.intp]]:
        """Per axis of the *original* box, the contribution of an index to that in a flat periodic array.

        The corner of the rotated box lies at *corner* of an array of *shape*.
        """
        strides = (shape[1] * shape[2], shape[2], 1)
        tables: list[NDArray[np.intp]] = [STEPS] * 3
        for low, n, stride, (axis, flipped) in zip(
            corner, shape, strides, self.cube_rotation.axes, strict=True
        ):
            offsets = (low + STEPS[: self.pose.size[axis]]) % n * stride
            tables[axis] = offsets[::-1] if flipped else offsets
        return tables


def flat_indices(voxels: Voxels, tables: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Indices of voxels in a flat array."""
    return tables[0][voxels[0]] + tables[1][voxels[1]] + tables[2][voxels[2]]


class PoseLibrary:
    """Random poses of every template, computed on first use.

    Each pose is multiplied by the 24 rotations of the cube, which map voxels onto voxels and preserve
    handedness.

    Parameters
    ----------
    templates
        Species.
    voxel_sizes
        Voxel sizes in Å; a *level* is an index into them.
    poses
        Poses of each template and voxel size, before the rotations of the cube.
    seed
        A pose depends on the seed, the template, the voxel size and its number only.
    """

    def __init__(
        self, templates: Sequence[Template], voxel_sizes: Sequence[float], poses: int, seed: Sequence[int]
    ) -> None:
        self.templates, self.voxel_sizes, self.poses = list(templates), list(voxel_sizes), poses
        self.seed = [int(s) for s in seed]
        self._cache: dict[tuple[int, int, int], Pose] = {}

    def __len__(self) -> int:
        return self.poses * len(CUBE_ROTATIONS)

    def get(self, level: int, template: int, number: int) -> RotatedPose:
        """Pose *number*, below ``len(self)``, of a template at a voxel size."""
        index, cube_rotation = divmod(number, len(CUBE_ROTATIONS))
        key = (level, template, index)
        pose = self._cache.get(key)
        if pose is None:  # two threads may both compute it, with the same result
            pose = self._cache[key] = self._compute(*key)
        return RotatedPose(pose, CUBE_ROTATIONS[cube_rotation])

    def _compute(self, level: int, template: int, index: int) -> Pose:
        rng = np.random.default_rng([*self.seed, level, template, index])
        rotation, shift = Rotation.random(random_state=rng).as_matrix(), rng.uniform(-0.5, 0.5, 3)
        density, support = rotate(self.templates[template], rotation, shift, self.voxel_sizes[level])
        return Pose.of(density, support, density.shape[0] // 2 + shift, rotation)


def _cube_rotations() -> list[CubeRotation]:
    rotations = []
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        matrix = np.zeros((3, 3))
        matrix[range(3), order] = np.where(flips, -1.0, 1.0)
        if np.linalg.det(matrix) > 0:
            rotations.append(CubeRotation(tuple(zip(order, flips, strict=True)), matrix))
    return rotations


CUBE_ROTATIONS = _cube_rotations()


def _voxels(axes: Iterable[NDArray[np.intp]]) -> Voxels:
    z, y, x = (np.ascontiguousarray(axis, np.intp) for axis in axes)
    return z, y, x
