"""Templates that were turned beforehand, for scenes that must be filled in milliseconds."""

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
"""Of the largest density; fainter rims are cut off."""
ALONG = np.arange(4096)

Voxels = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]


class CubeRotation(NamedTuple):
    """A rotation of the cube: which axis comes to lie along z, y and x, and whether it is reversed."""

    axes: tuple[tuple[int, bool], ...]
    matrix: NDArray[np.float64]
    """On (z, y, x) columns."""


@dataclass(frozen=True, eq=False)
class Pose:
    """A template in one pose, as lists of voxels of a box.

    Attributes
    ----------
    size : (z, y, x)
        Of the box.
    body : three (n,) int
        Indices along z, y and x of voxels with density.
    values : (n,) float32
        Their densities in volts.
    inside : three (m,) int
        Indices of the voxels of the support.
    probes : three (at most 32,) int
        A few of them, all over it: most collisions show there.
    centre : (3,)
        The particle's centre, in voxels from voxel (0, 0, 0) of the box.
    rotation : (3, 3)
        Active, reference to tomogram, acting on (x, y, z) columns.
    """

    size: tuple[int, int, int]
    body: Voxels
    values: NDArray[np.float32]
    inside: Voxels
    probes: Voxels
    centre: NDArray[np.float64]
    rotation: NDArray[np.float64]

    @property
    def volume(self) -> int:
        """Voxels of the support."""
        return len(self.inside[0])

    @classmethod
    def of(
        cls,
        density: NDArray[np.float32],
        support: NDArray[np.bool_],
        centre: NDArray[np.float64],
        rotation: NDArray[np.float64],
    ) -> Pose:
        """From a box of density and support."""
        worth = np.nonzero(support | (np.abs(density) > NEGLIGIBLE * np.abs(density).max()))
        low = np.array([int(axis.min()) for axis in worth])
        z, y, x = (int(axis.max()) + 1 - start for axis, start in zip(worth, low, strict=True))
        body, inside = (
            _voxels(axis - start for axis, start in zip(where, low, strict=True))
            for where in (worth, np.nonzero(support))
        )
        some = slice(None, None, -(-len(inside[0]) // 32))
        probes = _voxels(axis[some] for axis in inside)
        return cls((z, y, x), body, density[worth], inside, probes, centre - low, rotation)


class RotatedPose(NamedTuple):
    """A pose, turned once more by one of the 24 rotations of the cube."""

    pose: Pose
    turn: CubeRotation

    def centre(self) -> NDArray[np.float64]:
        """The particle's centre in the turned box, in voxels."""
        start = [self.pose.size[a] - 1 if flipped else 0 for a, flipped in self.turn.axes]
        return self.turn.matrix @ self.pose.centre + start

    def rotation(self) -> NDArray[np.float64]:
        """Active, reference to tomogram, acting on (x, y, z) columns."""
        return self.turn.matrix[::-1, ::-1] @ self.pose.rotation

    def size(self) -> list[int]:
        """Of the turned box, along z, y and x."""
        return [self.pose.size[a] for a, _ in self.turn.axes]

    def tables(self, corner: NDArray[np.intp], shape: tuple[int, int, int]) -> list[NDArray[np.intp]]:
        """For every axis of the *unturned* box, what each index adds to that in a flat periodic array.

        The corner of the turned box lies at *corner* of an array of *shape*.
        """
        steps = (shape[1] * shape[2], shape[2], 1)
        found: list[NDArray[np.intp]] = [ALONG] * 3
        for low, whole, step, (axis, flipped) in zip(corner, shape, steps, self.turn.axes, strict=True):
            places = (low + ALONG[: self.pose.size[axis]]) % whole * step
            found[axis] = places[::-1] if flipped else places
        return found


def flat_indices(voxels: Voxels, tables: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Indices of voxels in a flat array."""
    return tables[0][voxels[0]] + tables[1][voxels[1]] + tables[2][voxels[2]]


class PoseLibrary:
    """Every template in so many random poses, made when they are first asked for.

    Each pose is turned into 24 by the rotations of the cube, which move voxels onto voxels and keep
    the hand.

    Parameters
    ----------
    templates
        What to turn.
    voxel_sizes
        Edges of voxels in Å for which there are poses.
    poses
        Of each template and voxel size, before the rotations of the cube.
    seed
        What a pose is depends on this, on the template, the voxel size and its number, and on
        nothing else.
    """

    def __init__(
        self, templates: Sequence[Template], voxel_sizes: Sequence[float], poses: int, seed: Sequence[int]
    ) -> None:
        self.templates, self.voxel_sizes, self.poses = list(templates), list(voxel_sizes), poses
        self.seed = [int(s) for s in seed]
        self._made: dict[tuple[int, int, int], Pose] = {}

    def __len__(self) -> int:
        return self.poses * len(CUBE_ROTATIONS)

    def get(self, level: int, template: int, number: int) -> RotatedPose:
        """Pose *number*, below ``len(self)``, of a template at a voxel size."""
        which, again = divmod(number, len(CUBE_ROTATIONS))
        key = (level, template, which)
        found = self._made.get(key)
        if found is None:  # two threads may both make it, and make the same
            found = self._made[key] = self._make(*key)
        return RotatedPose(found, CUBE_ROTATIONS[again])

    def _make(self, level: int, template: int, which: int) -> Pose:
        rng = np.random.default_rng([*self.seed, level, template, which])
        rotation, shift = Rotation.random(random_state=rng).as_matrix(), rng.uniform(-0.5, 0.5, 3)
        density, support = rotate(self.templates[template], rotation, shift, self.voxel_sizes[level])
        return Pose.of(density, support, density.shape[0] // 2 + shift, rotation)


def _turns() -> list[CubeRotation]:
    found = []
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        matrix = np.zeros((3, 3))
        matrix[range(3), order] = np.where(flips, -1.0, 1.0)
        if np.linalg.det(matrix) > 0:
            found.append(CubeRotation(tuple(zip(order, flips, strict=True)), matrix))
    return found


CUBE_ROTATIONS = _turns()


def _voxels(axes: Iterable[NDArray[np.intp]]) -> Voxels:
    z, y, x = (np.ascontiguousarray(axis, np.intp) for axis in axes)
    return z, y, x
