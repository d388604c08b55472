"""The grids that a scene is drawn on, and who may be drawn where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryovox.simulate.config.scene import SceneConfig

FREE, MATTER, OUTSIDE = 0, 1, 2
"""Of the occupancy grid: nothing, an object, or beyond the slab or the volume."""

BLOCK, BATCH = 8, 256
"""Edge in voxels of the blocks in which large bodies are evaluated, and how many at a time."""
INNER = np.argwhere(np.ones((BLOCK, BLOCK, BLOCK)))
"""Voxels of a block."""

Floats = NDArray[np.float32] | NDArray[np.float64]
Window = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Slab:
    """The sample between two parallel planes.

    Attributes
    ----------
    centre : (3,) z, y, x in Å
    normal : (3,) unit vector, z, y, x
    half
        Half of the thickness in Å; that of the volume where the slab fills it.
    full
        Whether it fills the volume.
    """

    centre: NDArray[np.float64]
    normal: NDArray[np.float64]
    half: float
    full: bool

    def depth(self, points: Floats) -> NDArray[np.float64]:
        """Signed distance of points (..., 3) from the middle plane, in Å."""
        found: NDArray[np.float64] = (points - self.centre) @ self.normal
        return found

    def sample(self, inset: float, rng: np.random.Generator) -> float | None:
        """Draw a depth at least *inset* Å below both faces; None where the slab is too thin."""
        room = self.half - inset
        return float(rng.uniform(-room, room)) if room >= 0 else None


def place_slab(config: SceneConfig) -> Slab:
    """Lay the slab into the volume."""
    middle = (np.array(config.shape) - 1) / 2 * config.voxel_size
    if config.slab is None:
        return Slab(middle, np.array([1.0, 0.0, 0.0]), config.shape[0] * config.voxel_size / 2, full=True)
    if config.slab_centre is not None:
        middle[0] = config.slab_centre
    turn = Rotation.from_euler("xy", config.slab_tilt, degrees=True)
    normal = turn.apply([0.0, 0.0, 1.0])[::-1]
    return Slab(middle, normal, config.slab / 2, full=False)


class Canvas:
    """The grids of one scene while it is being drawn.

    Attributes
    ----------
    potential : (z, y, x) float32, volts
    labels : (z, y, x) uint8
    instances : (z, y, x) uint16, uint32 once there are more objects than that can tell
    grid : uint8
        Occupancy, with `margin` voxels more on every side.
    occupancy : (z, y, x) uint8
        `grid` without its margin, as a view.
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
        """Count one more object."""
        self.count += 1
        if self.count == 2**16:
            self.instances = self.instances.astype(np.uint32)
        return self.count

    def assign(self, index: NDArray[np.intp], label: int, identity: int) -> None:
        """Give voxels (flat indices) to an object."""
        self.labels.reshape(-1)[index] = label
        self.instances.reshape(-1)[index] = identity
        self.occupancy[np.unravel_index(index, self.shape)] = MATTER

    def add(self, index: NDArray[np.intp], potential: Floats) -> None:
        """Add volts to voxels (flat indices, none twice)."""
        self.potential.reshape(-1)[index] += potential.astype(np.float32)

    def occupancy_at(self, index: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Occupancy of voxels (flat indices)."""
        found: NDArray[np.uint8] = self.occupancy[np.unravel_index(index, self.shape)]
        return found

    def points(self, index: NDArray[np.intp]) -> NDArray[np.float64]:
        """Positions (n, 3) as z, y, x in Å of voxels (flat indices)."""
        where = np.stack(np.unravel_index(index, self.shape), -1)
        return where.astype(np.float64) * self.voxel_size

    def voxels_near(
        self, distance: Callable[[Floats], Floats], low: Floats, high: Floats, reach: float, *, solid: bool
    ) -> NDArray[np.intp]:
        """Find the voxels near a surface, or near and inside of it.

        Parameters
        ----------
        distance
            From points (n, 3), z, y, x in Å, to signed distances in Å, negative inside; no more than
            a quarter above the truth.
        low, high : (3,)
            Corners of a box in Å that holds the body.
        reach
            Largest distance that is wanted, in Å.
        solid
            All that is inside is wanted too.

        Returns
        -------
        (n,) flat indices, rising within a block
        """
        limit = 1.25 * (reach + (BLOCK - 1) * self.voxel_size * 3**0.5 / 2)
        corners, last = self._blocks(low, high)
        there = distance((corners + (BLOCK - 1) / 2) * self.voxel_size)
        corners = corners[there <= limit if solid else np.abs(there) <= limit]
        found = [np.zeros(0, np.intp)]
        for start in range(0, len(corners), BATCH):
            where = (corners[start : start + BATCH, None] + INNER).reshape(-1, 3)
            where = where[(where < last).all(1)]
            away = distance(where.astype(np.float32) * np.float32(self.voxel_size))
            where = where[away <= reach if solid else np.abs(away) <= reach]
            found.append(where @ np.array([self.shape[1] * self.shape[2], self.shape[2], 1]))
        return np.concatenate(found)

    def touches_object(self, distance: Callable[[Floats], Floats], reach: float) -> bool:
        """Whether a surface comes within *reach* Å of an object; a quick look that misses small ones."""
        sample = np.argwhere(self.occupancy[::3, ::3, ::3] == MATTER)
        points = sample.astype(np.float32) * np.float32(3 * self.voxel_size)
        return len(points) > 0 and bool((np.abs(distance(points)) < reach).any())

    def _blocks(self, low: Floats, high: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Give the first voxels (n, 3) of the blocks that fill a box, and the voxel (3,) after its last."""
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
    plane = (y - slab.centre[1])[:, None] * slab.normal[1] + (x - slab.centre[2]) * slab.normal[2]
    side = (
        slice(margin - pad, grid.shape[1] - margin + pad),
        slice(margin - pad, grid.shape[2] - margin + pad),
    )
    for k, height in enumerate((z - slab.centre[0]) * slab.normal[0]):
        grid[(margin + k, *side)][np.abs(plane + height) <= slab.half] = FREE
    return grid


def partial_volume(depth: Floats, voxel: float) -> Floats:
    """How much of a voxel lies below a surface: 0 to 1 over one voxel around depth 0."""
    return np.clip(0.5 + depth / voxel, 0.0, 1.0)


def orthonormal_frame(direction: Floats) -> NDArray[np.float64]:
    """Give a right-handed rotation (3, 3) whose third column is a unit vector."""
    third = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    first = np.cross(np.eye(3)[np.abs(third).argmin()], third)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(third, first), third], axis=1)


def random_direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a direction, all alike."""
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)
