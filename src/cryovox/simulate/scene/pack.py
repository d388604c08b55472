"""Random packing of particles without overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.simulate.scene.canvas import FREE, MATTER, Canvas, Window
from cryovox.simulate.scene.prepared import PreparedTemplate, dilate

CANDIDATES = (64, 512, 2048, 2048, 4096, 4096)
"""Candidate positions for each rotation drawn for one particle."""
MAX_FAILURES = 4
"""Consecutive failures after which the remaining particles of a species are skipped."""
PROBES = 96
"""Voxels of a particle in the first, quick overlap test."""
REFRESH_AFTER = 16
"""Placed particles after which the distance map may be refreshed."""


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """An object of the particle list.

    Attributes
    ----------
    name
        Species.
    position : (3,)
        (z, y, x) in Å.
    rotation : (3, 3)
        Acting on (x, y, z).
    instance
        Value in the instance map.
    voxels
        Voxels of its support within the volume.
    """

    name: str
    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    instance: int
    voxels: int


class FreeSpace:
    """Coarse distance map of free space, from which candidate centers are drawn.

    The map samples every `step` voxels and never underestimates a distance: candidates that it excludes
    are impossible, and those that it allows are tested voxel by voxel.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.step = 1 + (canvas.grid.size > 10**6) + (canvas.grid.size > 5 * 10**6)
        self.refresh()

    def refresh(self) -> None:
        """Compute the distance map of the current grid."""
        lattice = tuple(slice(self.canvas.margin % self.step, None, self.step) for _ in range(3))
        free = self.canvas.grid[lattice] == FREE
        distance = ndimage.distance_transform_edt(free) if not free.all() else np.full(free.shape, np.inf)
        first = self.canvas.margin // self.step
        inner = tuple(slice(first, first - (-n // self.step)) for n in self.canvas.shape)
        self.distance = (distance[inner] * self.step).astype(np.float32)
        self.placed, self._candidates = 0, dict[float, NDArray[np.intp]]()

    def sample(self, radius: float, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Draw n voxels (n, 3) that may be the center of a sphere of *radius* voxels, or (0, 3)."""
        if radius not in self._candidates:
            slack = 0.87 * self.step + 0.87  # half diagonals of a lattice cell and of a voxel
            self._candidates[radius] = np.flatnonzero(self.distance >= radius - slack)
        candidates = self._candidates[radius]
        if not len(candidates):
            return np.zeros((0, 3), np.intp)
        index = candidates[rng.integers(len(candidates), size=n)]
        cells = np.stack(np.unravel_index(index, self.distance.shape), -1)
        jitter = rng.integers(self.step, size=(n, 3)) - self.step // 2
        return np.asarray(np.clip(cells * self.step + jitter, 0, np.array(self.canvas.shape) - 1))


def target_counts(
    templates: Sequence[PreparedTemplate],
    counts: Mapping[str, int],
    weights: Mapping[str, float] | None,
    occupancy: float | None,
    slab_voxels: int,
) -> dict[str, int]:
    """Number of particles of each species: *counts*, then as many as *occupancy* needs."""
    number = {t.name: counts.get(t.name, 0) for t in templates}
    if occupancy is None:
        return number
    filled = sum(number[t.name] * t.size for t in templates)
    fractions = np.array([1.0 if weights is None else weights.get(t.name, 0.0) for t in templates])
    sizes = np.array([t.size for t in templates], float)
    missing, mean_size = occupancy * slab_voxels - filled, float(fractions @ sizes)
    if missing > 0 and mean_size > 0:
        for template, more in zip(templates, fractions * missing / mean_size, strict=True):
            number[template.name] += round(more)
    return number


def pack(
    canvas: Canvas,
    templates: Sequence[PreparedTemplate],
    number: Mapping[str, int],
    gap: int,
    rng: np.random.Generator,
    on_progress: ProgressCallback = no_progress,
) -> list[PlacedObject]:
    """Place particles at random in uniform rotations, the largest species first.

    Parameters
    ----------
    number
        Particles of each species; fewer are placed if there is no space.
    gap
        Minimum distance between particles in voxels along the axes.
    """
    reach = max((t.support.half for t in templates), default=0) + gap
    if reach > canvas.margin:
        raise ValueError(f"the canvas has a margin of {canvas.margin} voxels, particles reach {reach}")
    placed: list[PlacedObject] = []
    if not any(number.values()):
        return placed
    space, tried, wanted = FreeSpace(canvas), 0, sum(number.values())
    for template in sorted(templates, key=lambda t: -t.bulk):
        failures = 0
        for attempt in range(number[template.name]):
            on_progress("particles", (tried + attempt) / wanted)
            particle = _place_at_random(space, template, gap, rng)
            failures = 0 if particle else failures + 1
            if particle:
                placed.append(particle)
            if failures == MAX_FAILURES:
                break
        tried += number[template.name]
    return placed


def _place_at_random(
    space: FreeSpace, template: PreparedTemplate, gap: int, rng: np.random.Generator
) -> PlacedObject | None:
    """Try several rotations, each at many positions."""
    for n in CANDIDATES:
        stale = REFRESH_AFTER // 4 if n == CANDIDATES[-1] else REFRESH_AFTER
        if space.placed >= stale and n > CANDIDATES[0]:
            space.refresh()
        centers = space.sample(template.inner_radius + gap, n, rng)
        if not len(centers):
            return None
        rotation = Rotation.random(random_state=rng).as_matrix()
        shift = rng.uniform(-0.5, 0.5, 3)
        coverage = template.coverage(rotation, shift)
        center = _first_fit(space.canvas, dilate(coverage > 0.5, gap), centers, rng)
        if center is not None:
            space.placed += 1
            return place(space.canvas, template, (rotation, shift), center, coverage)
    return None


def fits(canvas: Canvas, mask: NDArray[np.bool_], center: NDArray[np.intp]) -> bool:
    """Whether the voxels of *mask*, a cube around *center*, are free."""
    low = center - mask.shape[0] // 2 + canvas.margin
    if (low < 0).any() or (low + mask.shape[0] > canvas.grid.shape).any():
        return False
    window = tuple(slice(a, a + mask.shape[0]) for a in low)
    return not bool(canvas.grid[window][mask].any())


def place(
    canvas: Canvas,
    template: PreparedTemplate,
    pose: tuple[NDArray[np.float64], NDArray[np.float64]],
    center: NDArray[np.intp],
    coverage: NDArray[np.float32],
    *,
    displace: bool = False,
) -> PlacedObject:
    """Add a particle to the canvas.

    Parameters
    ----------
    pose
        Rotation (3, 3), and shift (z, y, x) from the center of the voxel in voxels.
    center : (3,)
        Voxel.
    coverage
        ``template.coverage(*pose)``.
    displace
        Replace the potential in its place, as a membrane protein replaces lipids.
    """
    rotation, shift = pose
    instance = canvas.new_instance()
    window, part = _clip_to_volume(center, template.support.half, canvas.shape)
    if displace:
        canvas.potential[window] *= 1 - np.clip(coverage[part], 0, 1)
    mask = coverage[part] > 0.5
    canvas.labels[window][mask] = template.label
    canvas.instances[window][mask] = instance
    low = center - template.support.half + canvas.margin
    canvas.grid[tuple(slice(a, a + len(coverage)) for a in low)][coverage > 0.5] = MATTER
    window, part = _clip_to_volume(center, template.density.half, canvas.shape)
    canvas.potential[window] += template.density.rotated(rotation, shift)[part]
    position = (center + shift) * canvas.voxel_size
    return PlacedObject(template.name, position, rotation, instance, int(np.count_nonzero(mask)))


def _first_fit(
    canvas: Canvas, mask: NDArray[np.bool_], centers: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp] | None:
    grid = canvas.grid
    strides = np.array([grid.shape[1] * grid.shape[2], grid.shape[2], 1])
    offsets = (np.argwhere(mask) - mask.shape[0] // 2) @ strides
    starts = (centers + canvas.margin) @ strides
    flat = grid.reshape(-1)
    probes = offsets[rng.integers(len(offsets), size=PROBES)]
    for k in np.flatnonzero(~flat[starts[:, None] + probes].any(1)):
        if not flat[starts[k] + offsets].any():
            return np.asarray(centers[k])
    return None


def _clip_to_volume(
    center: NDArray[np.intp], half: int, shape: tuple[int, int, int]
) -> tuple[Window, Window]:
    """Overlap of a cube with the volume: slices of the volume and of the cube."""
    low = [max(int(c) - half, 0) for c in center]
    high = [min(int(c) + half + 1, n) for c, n in zip(center, shape, strict=True)]
    z, y, x = (slice(a, max(b, a)) for a, b in zip(low, high, strict=True))
    dz, dy, dx = (
        slice(a - int(c) + half, max(b, a) - int(c) + half) for a, b, c in zip(low, high, center, strict=True)
    )
    return (z, y, x), (dz, dy, dx)
