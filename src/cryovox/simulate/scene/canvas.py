"""Voxel grids of a scene: potential, labels, instances and occupancy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryovox.simulate.config.scene import SceneConfig

FREE, MATTER, OUTSIDE = 0, 1, 2
"""Values of the occupancy grid: free, occupied by an object, outside the slab or the volume."""

BLOCK, BATCH = 8, 256
"""Block size in voxels for evaluating distance functions, and blocks per batch."""
INNER = np.argwhere(np.ones((BLOCK, BLOCK, BLOCK)))
"""(BLOCK**3, 3) voxel offsets within a block."""

Floats = NDArray[np.float32] | NDArray[np.float64]
Window = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Slab:
    """Slab of ice between two parallel planes.

    Attributes
    ----------
    center : (3,)
        (z, y, x) in Å.
    normal : (3,)
        Unit vector (z, y, x).
    half
        Half thickness in Å.
    full
        Whether the slab fills the volume.
    """

    center: NDArray[np.float64]
    normal: NDArray[np.float64]
    half: float
    full: bool

    def depth(self, points: Floats) -> NDArray[np.float64]:
        """Signed distance of points (..., 3) from the middle plane, in Å."""
        return np.asarray((points - self.center) @ self.normal)

    def sample(self, inset: float, rng: np.random.Generator) -> float | None:
        """Draw a depth at least *inset* Å from both faces; None if the slab is too thin."""
        limit = self.half - inset
        return float(rng.uniform(-limit, limit)) if limit >= 0 else None


def place_slab(config: SceneConfig) -> Slab:
    """Position of the slab in the volume."""
    middle = (np.array(config.shape) - 1) / 2 * config.voxel_size
    if config.slab is None:
        return Slab(middle, np.array([1.0, 0.0, 0.0]), config.shape[0] * config.voxel_size / 2, full=True)
    if config.slab_center is not None:
        middle[0] = config.slab_center
    normal = Rotation.from_euler("xy", config.slab_tilt, degrees=True).apply([0.0, 0.0, 1.0])[::-1]
    return Slab(middle, normal, config.slab / 2, full=False)


class Canvas:
    """Mutable grids of a scene under construction.

    Attributes
    ----------
    potential : (z, y, x) float32
        Volts above ice.
    labels : (z, y, x) uint8
    instances : (z, y, x) uint16
        uint32 from 65,536 objects on.
    grid : uint8
        Occupancy, padded by `margin` voxels on every side.
    occupancy : (z, y, x) uint8
        View of `grid` without the padding.
    slab_voxels
        Number of voxels in the slab.
    count
        Number of objects.
    """

    def __init__(self, config: SceneConfig, margin: int) -> None:
        self.shape, self.voxel_size, self.slab = config.shape, config.voxel_size, place_slab(config)
        self.margin = margin
        self.potential = np.zeros(self.shape, np.float32)
        self.labels = np.zeros(self.shape, np.uint8)
        self.instances: NDArray[np.uint16] | NDArray[np.uint32] = np.zeros(self.shape, np.uint16)
        self.grid = _free_space(self.shape, margin, self.slab, self.voxel_size, config.cut)
        inner = slice(margin, -margin) if margin else slice(None)
        self.occupancy = self.grid[inner, inner, inner]
        self.slab_voxels = int(np.count_nonzero(self.occupancy == FREE))
        self.count = 0

    def new_instance(self) -> int:
        """Number of a new object."""
        self.count += 1
        if self.count == 2**16:
            self.instances = self.instances.astype(np.uint32)
        return self.count

    def assign(self, index: NDArray[np.intp], label: int, instance: int) -> None:
        """Assign voxels (flat indices) to an object."""
        self.labels.reshape(-1)[index] = label
        self.instances.reshape(-1)[index] = instance
        self.occupancy[np.unravel_index(index, self.shape)] = MATTER

    def add(self, index: NDArray[np.intp], potential: Floats) -> None:
        """Add volts to voxels (unique flat indices)."""
        self.potential.reshape(-1)[index] += potential.astype(np.float32)

    def occupancy_at(self, index: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Occupancy of voxels (flat indices)."""
        return np.asarray(self.occupancy[np.unravel_index(index, self.shape)])

    def points(self, index: NDArray[np.intp]) -> NDArray[np.float64]:
        """Positions (n, 3) of voxels (flat indices), (z, y, x) in Å."""
        return np.stack(np.unravel_index(index, self.shape), -1).astype(np.float64) * self.voxel_size

    def voxels_near(
        self, distance: Callable[[Floats], Floats], low: Floats, high: Floats, reach: float, *, solid: bool
    ) -> NDArray[np.intp]:
        """Flat indices (n,) of voxels near a surface, ascending within a block.

        Parameters
        ----------
        distance
            Signed distance function from points (n, 3), (z, y, x) in Å, to Å; negative inside.
            It may exceed the true distance by 25 %.
        low, high : (3,)
            Corners in Å of a bounding box.
        reach
            Maximum distance in Å.
        solid
            Include the interior.
        """
        limit = 1.25 * (reach + (BLOCK - 1) * self.voxel_size * 3**0.5 / 2)
        corners, last = self._blocks(low, high)
        distances = distance((corners + (BLOCK - 1) / 2) * self.voxel_size)
        corners = corners[distances <= limit if solid else np.abs(distances) <= limit]
        indices = [np.zeros(0, np.intp)]
        for start in range(0, len(corners), BATCH):
            voxels = (corners[start : start + BATCH, None] + INNER).reshape(-1, 3)
            voxels = voxels[(voxels < last).all(1)]
            distances = distance(voxels.astype(np.float32) * np.float32(self.voxel_size))
            voxels = voxels[distances <= reach if solid else np.abs(distances) <= reach]
            indices.append(voxels @ np.array([self.shape[1] * self.shape[2], self.shape[2], 1]))
        return np.concatenate(indices)

    def touches_object(self, distance: Callable[[Floats], Floats], reach: float) -> bool:
        """Whether a surface comes within *reach* Å of an object; a coarse test on every third voxel."""
        sample = np.argwhere(self.occupancy[::3, ::3, ::3] == MATTER)
        points = sample.astype(np.float32) * np.float32(3 * self.voxel_size)
        return len(points) > 0 and bool((np.abs(distance(points)) < reach).any())

    def _blocks(self, low: Floats, high: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First voxels (n, 3) of the blocks that cover a box, and the exclusive end (3,) of the box."""
        first = np.clip(np.floor(low / self.voxel_size), 0, self.shape).astype(np.intp)
        last = np.clip(np.ceil(high / self.voxel_size) + 1, 0, self.shape).astype(np.intp)
        axes = [np.arange(a, b, BLOCK) for a, b in zip(first, last, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3), last


def _free_space(
    shape: tuple[int, int, int], margin: int, slab: Slab, voxel: float, cut: bool
) -> NDArray[np.uint8]:
    grid = np.full([n + 2 * margin for n in shape], OUTSIDE, np.uint8)
    pad = margin if cut else 0
    z, y, x = ((np.arange(-p, n + p) * voxel) for n, p in zip(shape, (0, pad, pad), strict=True))
    plane = (y - slab.center[1])[:, None] * slab.normal[1] + (x - slab.center[2]) * slab.normal[2]
    side = (
        slice(margin - pad, grid.shape[1] - margin + pad),
        slice(margin - pad, grid.shape[2] - margin + pad),
    )
    for k, height in enumerate((z - slab.center[0]) * slab.normal[0]):
        grid[(margin + k, *side)][np.abs(plane + height) <= slab.half] = FREE
    return grid


def partial_volume(depth: Floats, voxel: float) -> Floats:
    """Fraction of a voxel below a surface: 0 to 1 over one voxel around depth 0."""
    return np.clip(0.5 + depth / voxel, 0.0, 1.0)


def orthonormal_frame(direction: Floats) -> NDArray[np.float64]:
    """Right-handed rotation (3, 3) whose third column is *direction*, normalized."""
    third = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    first = np.cross(np.eye(3)[np.abs(third).argmin()], third)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(third, first), third], axis=1)


def random_direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a unit vector, uniform on the sphere."""
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)
