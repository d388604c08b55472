"""Fill a periodic box with particles, in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.simulate.stream.poses import PoseLibrary, RotatedPose, flat_indices

Shape = tuple[int, int, int]
MAX_FACE_SLOPE = 0.3
"""Maximum slope of the faces of a sample along y and along x."""
MAX_ATTEMPTS = 6
"""Candidate positions of a particle before it is left out."""
MEMBRANE, FILAMENT, GOLD, CRYSTAL = 255, 254, 253, 252
"""Labels of voxels of the surroundings while a box is filled; the finished box has 0 there."""
SURROUNDINGS = CRYSTAL
"""Labels from here on are those of surroundings."""
EMPTY = 251
"""Label of voxels outside of the sample, in `PeriodicBox.surroundings`."""


@dataclass(frozen=True, eq=False)
class Grids:
    """Potential in volts and labels of a box that is being filled."""

    potential: NDArray[np.float32]
    labels: NDArray[np.uint8]

    @classmethod
    def empty(cls, shape: Shape) -> Grids:
        """Ice alone."""
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.uint8))


@dataclass(frozen=True, eq=False)
class PeriodicBox:
    """A periodic box with particles.

    Attributes
    ----------
    potential : (z, y, x) float32
        Volts.
    labels : (z, y, x) uint8
        Channel + 1 inside particles, 0 elsewhere.
    surroundings : (z, y, x) uint8
        `MEMBRANE`, `FILAMENT`, `GOLD` or `CRYSTAL` inside of these, `EMPTY` outside of the sample, else 0.
    positions : (n, 3)
        Centers (z, y, x) in voxels.
    channels : (n,) int
        Channel of each particle: the index of its template, unless templates share channels.
    rotations : (n, 3, 3)
        Active, reference to box, acting on (x, y, z) columns.
    """

    potential: NDArray[np.float32]
    labels: NDArray[np.uint8]
    surroundings: NDArray[np.uint8]
    positions: NDArray[np.float64]
    channels: NDArray[np.intp]
    rotations: NDArray[np.float64]

    @property
    def sample(self) -> NDArray[np.bool_] | None:
        """Voxels of the sample; None where it fills the box."""
        inside = self.surroundings != EMPTY
        return None if inside.all() else inside

    def cut(self, sample: NDArray[np.bool_]) -> PeriodicBox:
        """The box with ice alone outside of a sample (z, y, x), and particles whose centers are inside."""
        nearest = np.mod(np.rint(self.positions).astype(np.intp), sample.shape)
        kept = sample[tuple(nearest.T)]
        return PeriodicBox(
            np.where(sample, self.potential, np.float32(0)),
            np.where(sample, self.labels, np.uint8(0)),
            np.where(sample, self.surroundings, np.uint8(EMPTY)),
            self.positions[kept],
            self.channels[kept],
            self.rotations[kept],
        )


@dataclass(frozen=True)
class Mixture:
    """Which particles to draw.

    Attributes
    ----------
    templates
        Indices of the templates that occur, each as often as the others.
    channels
        Channel of every template of the library; by default each has its own.
    """

    templates: Sequence[int]
    channels: Sequence[int]


def fill_box(  # noqa: PLR0913
    poses: PoseLibrary,
    level: int,
    shape: Shape,
    occupancy: float,
    rng: np.random.Generator,
    *,
    most: int = 300,
    depth: float = 1.0,
    mixture: Mixture | None = None,
    grids: Grids | None = None,
) -> PeriodicBox:
    """Fill a periodic box with particles that do not overlap, the largest first.

    Parameters
    ----------
    poses, level
        Precomputed poses, and the index of their voxel size.
    shape
        Box size (z, y, x) in voxels.
    occupancy
        Target volume fraction of particles; less if they do not fit.
    most
        Maximum number of particles.
    depth
        Fraction of the box along z in which particles are placed.
    mixture
        Which particles; all by default.
    grids
        Surroundings of the particles, which are changed in place; ice by default.
    """
    grids = grids or Grids.empty(shape)
    every = range(len(poses.templates))
    mixture = mixture or Mixture(every, every)
    high = (max(1, round(depth * shape[0])), shape[1], shape[2])
    placed = []
    voxels = occupancy * grids.labels.size
    for pose, template in _draw_particles(poses, level, voxels, most, mixture.templates, rng):
        if any(a > b for a, b in zip(pose.size(), shape, strict=True)):
            continue
        channel = mixture.channels[template]
        for corner in rng.integers(0, high, (MAX_ATTEMPTS, 3)):
            if place(pose, corner, channel + 1, grids):
                placed.append((np.mod(corner + pose.center(), shape), channel, pose.rotation()))
                break
    positions, channels, rotations = zip(*placed, strict=True) if placed else ((), (), ())
    surroundings = np.where(grids.labels >= SURROUNDINGS, grids.labels, 0).astype(np.uint8)
    grids.labels[surroundings > 0] = 0
    return PeriodicBox(
        grids.potential,
        grids.labels,
        surroundings,
        np.array(positions, float).reshape(-1, 3),
        np.array(channels, np.intp),
        np.array(rotations, float).reshape(-1, 3, 3),
    )


def draw_sample(shape: Shape, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a sample between two wavy faces across z; 20 to 60 % of the box (z, y, x) are empty."""
    depth, height, width = shape
    height_at = np.zeros((height, width), np.float32)
    for axis, n in enumerate((height, width)):
        angle = 2 * np.pi * np.arange(n) / n + rng.uniform(0, 2 * np.pi)
        wave = rng.uniform(0, MAX_FACE_SLOPE) * n / (2 * np.pi) * np.sin(angle)
        height_at += np.expand_dims(wave.astype(np.float32), 1 - axis)
    empty, first = rng.uniform(0.2, 0.6) * depth, rng.uniform(0, depth)
    above = np.mod(np.arange(depth, dtype=np.float32)[:, None, None] - first - height_at, depth)
    return np.asarray(above >= empty)


def place(rotated: RotatedPose, corner: NDArray[np.intp], label: int, grids: Grids) -> bool:
    """Add an object to the grids unless it overlaps another; returns whether it was added."""
    z, y, x = grids.labels.shape
    tables, pose = rotated.index_tables(corner, (z, y, x)), rotated.pose
    flat_labels = grids.labels.reshape(-1)
    if flat_labels[flat_indices(pose.probes, tables)].any():
        return False
    support = flat_indices(pose.support, tables)
    if flat_labels[support].any():
        return False
    flat_labels[support] = label
    grids.potential.reshape(-1)[flat_indices(pose.body, tables)] += pose.values
    return True


def _draw_particles(
    poses: PoseLibrary,
    level: int,
    voxels: float,
    most: int,
    templates: Sequence[int],
    rng: np.random.Generator,
) -> list[tuple[RotatedPose, int]]:
    """Draw templates uniformly until their volume reaches *voxels*; sorted by size."""
    particles: list[tuple[RotatedPose, int]] = []
    while voxels > 0 and len(particles) < most:
        template = templates[int(rng.integers(len(templates)))]
        rotated = poses.get(level, template, int(rng.integers(len(poses))))
        voxels -= rotated.pose.volume
        particles.append((rotated, template))
    return sorted(particles, key=lambda particle: -particle[0].pose.volume)


def periodic_slices(corner: NDArray[Any], size: Shape | tuple[int, ...], shape: Shape) -> Any:
    """Index of a box of *size* at *corner* of a periodic array; slices if it crosses no face.

    The corner lies within the array.
    """
    if all(c + n <= whole for c, n, whole in zip(corner, size, shape, strict=True)):
        return tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True))
    return np.ix_(*((c + np.arange(n)) % whole for c, n, whole in zip(corner, size, shape, strict=True)))
