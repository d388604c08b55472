"""Membranes, filaments, gold beads and ice crystals in a periodic box.

They are background for particles: their voxels carry labels of their own while a box is filled, so that
particles keep clear of them, and no label afterwards. `PeriodicBox.surroundings` keeps these labels.

Membrane sheets and filaments cross the box and continue at the opposite face: a sheet is a level set of a
function that grows by an integer along each axis, and a filament is a closed curve of the torus. Vesicles and
crystals are precomputed like the poses of particles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from cryovox.simulate.config.surroundings import SurroundingsConfig
from cryovox.simulate.scene.canvas import partial_volume, random_direction
from cryovox.simulate.scene.fiducials import FACES
from cryovox.simulate.scene.filaments import CROSSOVER, OUTER_RADIUS, cross_section
from cryovox.simulate.scene.membranes import bilayer_profile, half_width
from cryovox.simulate.scene.surfaces import random_deformed_sphere
from cryovox.simulate.stream.box import CRYSTAL, FILAMENT, GOLD, MAX_ATTEMPTS, MEMBRANE, Grids, Shape, place
from cryovox.simulate.stream.poses import CUBE_ROTATIONS, Pose, RotatedPose

NORMALS = np.array(
    [(0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 1, -1), (1, 0, 0), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1)]
)
"""Periods of the level function of a sheet along z, y and x."""
MAX_SLOPE = 0.5
"""Maximum slope of the waves of sheets and filaments."""
RIGHT_HANDED = {0: (2, 1), 1: (0, 2), 2: (1, 0)}
"""The two other axes (of z, y, x) for each axis of a filament, in right-handed order."""
FILAMENT_POTENTIAL = 3.0
"""Volts above ice, as in the scenes of `cryovox.simulate.scene`."""
REACH = 75.0
"""Distance in Å from the middle of a bilayer at which its potential is cut."""
BULGE = 0.12
"""Deviation of a vesicle from a sphere, relative to its radius."""
IDENTITY = np.eye(3)

Floats = NDArray[np.floating]


class Surroundings:
    """Surroundings of particles; shapes that are slow to compute are kept.

    Parameters
    ----------
    config
        Kinds, numbers and sizes.
    voxel_sizes
        Voxel sizes in Å; a *level* is an index into them.
    seed
        Of the precomputed shapes.
    """

    def __init__(self, config: SurroundingsConfig, voxel_sizes: Sequence[float], seed: Sequence[int]) -> None:
        self.config, self.voxel_sizes, self.seed = config, list(voxel_sizes), [int(s) for s in seed]
        self._cache: dict[tuple[int, int, int], Pose] = {}

    def draw(self, level: int, shape: Shape, rng: np.random.Generator) -> Grids:
        """Grids of a box that hold surroundings in a fraction `share` of the cases, else nothing."""
        grids, config = Grids.empty(shape), self.config
        if rng.random() >= config.share:
            return grids
        adders: tuple[tuple[int, Callable[[], object]], ...] = (
            (config.crystals, lambda: self._place_shape(grids, level, 1, rng)),
            (config.sheets, lambda: add_sheet(grids, self.voxel_sizes[level], config, rng)),
            (config.vesicles, lambda: self._place_shape(grids, level, 0, rng)),
            (config.filaments, lambda: add_filament(grids, self.voxel_sizes[level], rng)),
            (config.beads, lambda: add_bead(grids, self.voxel_sizes[level], config, rng)),
        )
        for most, add in adders:
            present = rng.random() < config.kind_share
            for _ in range(int(rng.integers(1, most + 1)) if present and most else 0):
                add()
        texture = rng.uniform(*config.texture)
        molecules = rng.standard_normal(shape, np.float32) * np.float32(texture)
        np.add(grids.potential, molecules, out=grids.potential)
        return grids

    def _place_shape(self, grids: Grids, level: int, kind: int, rng: np.random.Generator) -> None:
        number = int(rng.integers(self.config.shapes))
        _place_somewhere(grids, self._shape(level, kind, number), (MEMBRANE, CRYSTAL)[kind], rng)

    def _shape(self, level: int, kind: int, number: int) -> Pose:
        """Vesicle (kind 0) or crystal (kind 1); two threads may both compute it, with the same result."""
        key = (level, kind, number)
        if key not in self._cache:
            make, rng = (vesicle, crystal)[kind], np.random.default_rng([*self.seed, *key])
            self._cache[key] = make(self.voxel_sizes[level], self.config, rng)
        return self._cache[key]


def vesicle(voxel_size: float, config: SurroundingsConfig, rng: np.random.Generator) -> Pose:
    """A closed bilayer; its support is the bilayer without the lumen."""
    radius, thickness = rng.uniform(*config.vesicle_radius), rng.uniform(*config.thickness)
    protein = rng.uniform(*config.protein_mass)
    points, shape = _cube_points((1 + BULGE) * radius + REACH, voxel_size)
    center = rng.uniform(-0.5, 0.5, 3) * voxel_size
    surface = random_deformed_sphere(center, radius, BULGE, rng)
    distance = surface.distance(points)
    density = np.where(np.abs(distance) < REACH, bilayer_profile(distance, thickness, voxel_size, protein), 0)
    inside = np.abs(distance) <= half_width(thickness)
    return _pose(density, inside, shape)


def crystal(voxel_size: float, config: SurroundingsConfig, rng: np.random.Generator) -> Pose:
    """An ice crystal: a ball cut by random planes."""
    radius = rng.uniform(*config.crystal_radius)
    points, shape = _cube_points(radius, voxel_size)
    planes = [(random_direction(rng), rng.uniform(0.5, 1.0) * radius) for _ in range(FACES)]
    distance = np.linalg.norm(points, axis=1) - radius
    for normal, offset in planes:
        np.maximum(distance, points @ normal.astype(np.float32) - offset, out=distance)
    body = partial_volume(-distance, voxel_size)
    return _pose(rng.uniform(*config.crystal_potential) * body, body > 0.5, shape)


def add_bead(grids: Grids, voxel_size: float, config: SurroundingsConfig, rng: np.random.Generator) -> None:
    """Add a gold bead."""
    radius = rng.uniform(*config.bead_diameter) / 2
    points, shape = _cube_points(radius, voxel_size)
    shift = rng.uniform(-0.5, 0.5, 3).astype(np.float32) * np.float32(voxel_size)
    body = partial_volume(radius - np.linalg.norm(points - shift, axis=1), voxel_size)
    bead = _pose(rng.uniform(*config.bead_potential) * body, body > 0.5, shape)
    _place_somewhere(grids, bead, GOLD, rng)


def add_sheet(grids: Grids, voxel_size: float, config: SurroundingsConfig, rng: np.random.Generator) -> None:
    """Add a wavy bilayer that crosses the box and meets itself at the opposite faces."""
    shape = grids.labels.shape
    periods = NORMALS[rng.integers(len(NORMALS))]
    lengths = np.array(shape) * voxel_size
    steepness = float(np.linalg.norm(periods / lengths))
    level, squared_gradient = [], []
    for axis, (n, size, count) in enumerate(zip(periods, lengths, shape, strict=True)):
        wave, phase = rng.uniform(0, MAX_SLOPE) * steepness * size / (2 * np.pi), rng.uniform(0, 2 * np.pi)
        t = np.arange(count) / count
        angle = 2 * np.pi * t + phase
        level.append(_along(n * t + wave * np.sin(angle), axis))
        squared_gradient.append(_along(((n + 2 * np.pi * wave * np.cos(angle)) / size) ** 2, axis))
    function = reduce(np.add, level) + np.float32(rng.random())
    function -= np.rint(function)
    reach = np.float32(1.6 * steepness * REACH)
    near = np.nonzero(np.abs(function) < reach)
    gradient = np.sqrt(sum(part[_clipped(near, part.shape)] for part in squared_gradient))
    distance = function[near] / np.maximum(gradient, np.float32(steepness / 4))
    thickness, protein = rng.uniform(*config.thickness), rng.uniform(*config.protein_mass)
    profile = bilayer_profile(distance, thickness, voxel_size, protein)
    body = np.abs(distance) <= half_width(thickness)
    _add(grids, near, np.where(np.abs(distance) < REACH, profile, 0), body, MEMBRANE)


def add_filament(grids: Grids, voxel_size: float, rng: np.random.Generator) -> None:
    """Add a microtubule or actin filament that crosses the box along an axis or a diagonal of its plane."""
    kind = ("microtubule", "actin")[int(rng.integers(2))]
    axis = int(rng.choice(3, p=(0.1, 0.45, 0.45)))
    order = (axis, *RIGHT_HANDED[axis])
    shape = tuple(grids.labels.shape[a] for a in order)
    lengths = np.array(shape) * voxel_size
    curve = _Curve.draw(shape, lengths, voxel_size, [a == 0 for a in order], rng)
    radius, angle, along, near = curve.cylindrical(OUTER_RADIUS[kind] + voxel_size)
    body, density = cross_section(kind, radius, angle, along, voxel_size)
    back = np.argsort(order)
    voxels = tuple(near[k] for k in back)
    _add(grids, voxels, FILAMENT_POTENTIAL * density, body > 0.5, FILAMENT)


@dataclass(frozen=True, eq=False)
class _Curve:
    """A closed curve of the periodic box, as a function of the coordinate along its first axis.

    Attributes
    ----------
    shape, lengths
        Of the box, first axis first; in voxels and in Å.
    voxel_size
        Å.
    centers, slopes : (n, 2)
        Other two coordinates in Å, and their derivatives.
    """

    shape: tuple[int, ...]
    lengths: NDArray[np.float64]
    voxel_size: float
    centers: NDArray[np.float64]
    slopes: NDArray[np.float64]

    @classmethod
    def draw(
        cls,
        shape: tuple[int, ...],
        lengths: NDArray[np.float64],
        voxel_size: float,
        is_z: Sequence[bool],
        rng: np.random.Generator,
    ) -> _Curve:
        """A line with a wave; it winds about the box in the plane of the sample only."""
        t = np.arange(shape[0]) / shape[0]
        centers, slopes = [], []
        for axis in (1, 2):
            winding = 0 if is_z[axis] or is_z[0] else int(rng.integers(-1, 2))
            wave = rng.uniform(0, MAX_SLOPE / 2) * lengths[0] / (2 * np.pi)
            angle = 2 * np.pi * t + rng.uniform(0, 2 * np.pi)
            centers.append((rng.random() + winding * t) * lengths[axis] + wave * np.sin(angle))
            slopes.append((winding * lengths[axis] + 2 * np.pi * wave * np.cos(angle)) / lengths[0])
        return cls(shape, lengths, voxel_size, np.stack(centers, 1), np.stack(slopes, 1))

    def cylindrical(self, reach: float) -> tuple[Floats, Floats, Floats, tuple[NDArray[np.intp], ...]]:
        """Radius and position along the curve in Å, angle in radians, and indices of voxels within reach."""
        first, second = (self._offsets(k) for k in (0, 1))
        limit = reach * float(np.sqrt(1 + (self.slopes**2).sum(1).max()))
        close = (np.abs(first) < limit)[:, :, None] & (np.abs(second) < limit)[:, None, :]
        i, j, k = np.nonzero(close)
        u, v, slope = first[i, j], second[i, k], self.slopes[i]
        stretch = np.sqrt(1 + (slope**2).sum(1))
        shift = (u * slope[:, 0] + v * slope[:, 1]) / stretch
        radius = np.sqrt(np.maximum(u**2 + v**2 - shift**2, 0))
        near = radius < reach
        arc = np.cumsum(np.sqrt(1 + (self.slopes**2).sum(1))) * self.voxel_size
        period = max(1, round(arc[-1] / CROSSOVER)) * CROSSOVER / arc[-1]  # the helix meets itself
        along = (arc[i] + shift) * period
        return radius[near], np.arctan2(v, u)[near], along[near], (i[near], j[near], k[near])

    def _offsets(self, axis: int) -> NDArray[np.float64]:
        """Offsets (n, m) in Å of the voxels along one axis from the curve, each to its nearest image."""
        length = self.lengths[axis + 1]
        offset = np.arange(self.shape[axis + 1]) * self.voxel_size - self.centers[:, axis, None]
        return np.asarray(offset - length * np.rint(offset / length))


def _add(
    grids: Grids,
    voxels: tuple[NDArray[np.intp], ...],
    potential: Floats,
    body: NDArray[np.bool_],
    label: int,
) -> None:
    """Add an object unless its body overlaps another."""
    inside = tuple(index[body] for index in voxels)
    if not grids.labels[inside].any():
        grids.labels[inside] = label
        grids.potential[voxels] += potential.astype(np.float32)


def _place_somewhere(grids: Grids, pose: Pose, label: int, rng: np.random.Generator) -> None:
    """Place a shape at a random position and orientation, if there is room."""
    rotated = RotatedPose(pose, CUBE_ROTATIONS[rng.integers(len(CUBE_ROTATIONS))])
    shape = grids.labels.shape
    if all(a <= b for a, b in zip(rotated.size(), shape, strict=True)):
        any(place(rotated, at, label, grids) for at in rng.integers(0, shape, (MAX_ATTEMPTS, 3)))


def _cube_points(reach: float, voxel_size: float) -> tuple[NDArray[np.float32], Shape]:
    """Points (n, 3) in Å of a cube around the origin, and its shape."""
    half = int(np.ceil(reach / voxel_size)) + 1
    axis = np.arange(-half, half + 1, dtype=np.float32) * np.float32(voxel_size)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return points, (len(axis), len(axis), len(axis))


def _pose(density: Floats, inside: NDArray[np.bool_], shape: Shape) -> Pose:
    middle = np.array(shape) // 2
    return Pose.of(density.astype(np.float32).reshape(shape), inside.reshape(shape), middle, IDENTITY)


def _along(values: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    shape = [1, 1, 1]
    shape[axis] = len(values)
    return values.astype(np.float32).reshape(shape)


def _clipped(index: tuple[NDArray[np.intp], ...], shape: tuple[int, ...]) -> tuple[NDArray[np.intp], ...]:
    """Indices into an array that is broadcast along its axes of length 1."""
    return tuple(i if n > 1 else np.zeros_like(i) for i, n in zip(index, shape, strict=True))
