"""Crowding: many particles in little room, and none in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryovox.simulate.scene.canvas import FREE, MATTER, Canvas, Window
from cryovox.simulate.scene.prepared import PreparedTemplate, dilate

CANDIDATES = (64, 512, 2048, 2048, 4096, 4096)
"""Places that are tried with each of the rotations drawn for one particle."""
PATIENCE = 4
"""Particles of a species in a row that find no room before the rest of them is given up."""
PROBE = 96
"""Voxels that are looked at before all of a particle's are."""
STALE = 16
"""Particles placed until the map of free space is made anew, where there is need."""


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """An object that is listed.

    Attributes
    ----------
    name
        Of the species.
    position : (3,) z, y, x in Å
    rotation : (3, 3) acting on x, y, z
    identity
        Value in the instance map.
    voxels
        Of its support, within the volume.
    """

    name: str
    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    instance: int
    voxels: int


class FreeSpace:
    """Where centres may go: a coarse map of the distance to what is occupied.

    The map samples every few voxels, so that distances are never too short: what it rules out is
    impossible, and what it leaves is tested voxel by voxel.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.step = 1 + (canvas.grid.size > 10**6) + (canvas.grid.size > 5 * 10**6)
        self.refresh()

    def refresh(self) -> None:
        """Look at the grid again."""
        lattice = tuple(slice(self.canvas.margin % self.step, None, self.step) for _ in range(3))
        free = self.canvas.grid[lattice] == FREE
        clear = ndimage.distance_transform_edt(free) if not free.all() else np.full(free.shape, np.inf)
        first = self.canvas.margin // self.step
        inner = tuple(slice(first, first - (-n // self.step)) for n in self.canvas.shape)
        self.clear = (clear[inner] * self.step).astype(np.float32)
        self.since, self._known = 0, dict[float, NDArray[np.intp]]()

    def sample(self, radius: float, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Draw n voxels (n, 3) that could be the centre of a ball of *radius* voxels, or (0, 3)."""
        if radius not in self._known:
            slack = 0.87 * self.step + 0.87  # half diagonals of a cell of the lattice and of a voxel
            self._known[radius] = np.flatnonzero(self.clear >= radius - slack)
        known = self._known[radius]
        if not len(known):
            return np.zeros((0, 3), np.intp)
        cells = np.stack(np.unravel_index(known[rng.integers(len(known), size=n)], self.clear.shape), -1)
        jitter = rng.integers(self.step, size=(n, 3)) - self.step // 2
        drawn: NDArray[np.intp] = np.clip(cells * self.step + jitter, 0, np.array(self.canvas.shape) - 1)
        return drawn


def target_counts(
    stamps: Sequence[PreparedTemplate],
    counts: Mapping[str, int],
    weights: Mapping[str, float] | None,
    occupancy: float | None,
    slab_voxels: int,
) -> dict[str, int]:
    """Say how many of each species: the counts, then what else reaches the occupancy."""
    number = {one.name: counts.get(one.name, 0) for one in stamps}
    if occupancy is None:
        return number
    filled = sum(number[one.name] * one.size for one in stamps)
    share = np.array([1.0 if weights is None else weights.get(one.name, 0.0) for one in stamps])
    sizes = np.array([one.size for one in stamps], float)
    missing, each = occupancy * slab_voxels - filled, float(share @ sizes)
    if missing > 0 and each > 0:
        for one, more in zip(stamps, share * missing / each, strict=True):
            number[one.name] += round(more)
    return number


def pack(
    canvas: Canvas,
    stamps: Sequence[PreparedTemplate],
    number: Mapping[str, int],
    gap: int,
    rng: np.random.Generator,
) -> list[PlacedObject]:
    """Place particles at random, the bulkiest species first, each in a uniform rotation.

    Parameters
    ----------
    number
        Of each species; fewer are placed where there is no more room.
    gap
        Voxels along the axes that stay free around each.
    """
    reach = max((one.support.half for one in stamps), default=0) + gap
    if reach > canvas.margin:
        raise ValueError(f"the canvas has a margin of {canvas.margin} voxels, particles reach {reach}")
    placed: list[PlacedObject] = []
    if not any(number.values()):
        return placed
    space = FreeSpace(canvas)
    for one in sorted(stamps, key=lambda s: -s.bulk):
        failed = 0
        for _ in range(number[one.name]):
            found = _settle(space, one, gap, rng)
            failed = 0 if found else failed + 1
            if found:
                placed.append(found)
            if failed == PATIENCE:
                break
    return placed


def _settle(
    space: FreeSpace, one: PreparedTemplate, gap: int, rng: np.random.Generator
) -> PlacedObject | None:
    """Find room for one more particle, in several rotations and at many places."""
    for n in CANDIDATES:
        if space.since >= (STALE // 4 if n == CANDIDATES[-1] else STALE) and n > CANDIDATES[0]:
            space.refresh()
        centres = space.sample(one.inner + gap, n, rng)
        if not len(centres):
            return None
        turn = Rotation.random(random_state=rng).as_matrix()
        shift = rng.uniform(-0.5, 0.5, 3)
        cover = one.coverage(turn, shift)
        chosen = _first_fit(space.canvas, dilate(cover > 0.5, gap), centres, rng)
        if chosen is not None:
            space.since += 1
            return place(space.canvas, one, (turn, shift), chosen, cover)
    return None


def fits(canvas: Canvas, mask: NDArray[np.bool_], centre: NDArray[np.intp]) -> bool:
    """Whether a cube of voxels around *centre* is free where *mask* is set."""
    half = mask.shape[0] // 2
    low = centre - half + canvas.margin
    if (low < 0).any() or (low + mask.shape[0] > canvas.grid.shape).any():
        return False
    window = tuple(slice(a, a + mask.shape[0]) for a in low)
    return not bool(canvas.grid[window][mask].any())


def place(
    canvas: Canvas,
    one: PreparedTemplate,
    pose: tuple[NDArray[np.float64], NDArray[np.float64]],
    centre: NDArray[np.intp],
    cover: NDArray[np.float32],
    *,
    displace: bool = False,
) -> PlacedObject:
    """Draw a particle.

    Parameters
    ----------
    pose
        Rotation (3, 3), and shift (3,) from the centre of the voxel in voxels, z, y, x.
    centre : (3,) voxel
    cover
        What ``one.cover(*pose)`` gives.
    displace
        It takes the place of what is there, as a protein that of lipids.
    """
    turn, shift = pose
    identity = canvas.new_instance()
    window, part = _clipped(centre, one.support.half, canvas.shape)
    if displace:
        canvas.potential[window] *= 1 - np.clip(cover[part], 0, 1)
    mask = cover[part] > 0.5
    canvas.labels[window][mask] = one.label
    canvas.instances[window][mask] = identity
    low = centre - one.support.half + canvas.margin
    canvas.grid[tuple(slice(a, a + len(cover)) for a in low)][cover > 0.5] = MATTER
    window, part = _clipped(centre, one.density.half, canvas.shape)
    canvas.potential[window] += one.density.rotated(turn, shift)[part]
    position = (centre + shift) * canvas.voxel_size
    return PlacedObject(one.name, position, turn, identity, int(np.count_nonzero(mask)))


def _first_fit(
    canvas: Canvas, mask: NDArray[np.bool_], centres: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp] | None:
    grid = canvas.grid
    strides = np.array([grid.shape[1] * grid.shape[2], grid.shape[2], 1])
    offsets = (np.argwhere(mask) - mask.shape[0] // 2) @ strides
    bases = (centres + canvas.margin) @ strides
    flat = grid.reshape(-1)
    probe = offsets[rng.integers(len(offsets), size=PROBE)]
    for k in np.flatnonzero(~flat[bases[:, None] + probe].any(1)):
        if not flat[bases[k] + offsets].any():
            found: NDArray[np.intp] = centres[k]
            return found
    return None


def _clipped(centre: NDArray[np.intp], half: int, shape: tuple[int, int, int]) -> tuple[Window, Window]:
    """Give the part of the volume that a cube covers, and the part of the cube that lies in the volume."""
    low = [max(int(c) - half, 0) for c in centre]
    high = [min(int(c) + half + 1, n) for c, n in zip(centre, shape, strict=True)]
    z, y, x = (slice(a, max(b, a)) for a, b in zip(low, high, strict=True))
    dz, dy, dx = (
        slice(a - int(c) + half, max(b, a) - int(c) + half) for a, b, c in zip(low, high, centre, strict=True)
    )
    return (z, y, x), (dz, dy, dx)
