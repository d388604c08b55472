"""Fill a periodic box with particles, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.simulate.stream.poses import PoseLibrary, RotatedPose, flat_indices

Shape = tuple[int, int, int]
MAX_ATTEMPTS = 6
"""Candidate positions of a particle before it is left out."""


@dataclass(frozen=True, eq=False)
class PeriodicBox:
    """A periodic box with particles.

    Attributes
    ----------
    potential : (z, y, x) float32
        Volts.
    labels : (z, y, x) uint8
        Index of the template + 1 inside particles, 0 elsewhere.
    positions : (n, 3)
        Centers (z, y, x) in voxels.
    channels : (n,) int
        Index of the template of each particle.
    rotations : (n, 3, 3)
        Active, reference to box, acting on (x, y, z) columns.
    """

    potential: NDArray[np.float32]
    labels: NDArray[np.uint8]
    positions: NDArray[np.float64]
    channels: NDArray[np.intp]
    rotations: NDArray[np.float64]


def fill_box(
    poses: PoseLibrary,
    level: int,
    shape: Shape,
    occupancy: float,
    rng: np.random.Generator,
    *,
    most: int = 300,
    depth: float = 1.0,
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
    """
    potential, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    high = (max(1, round(depth * shape[0])), shape[1], shape[2])
    placed = []
    for pose, channel in _draw_particles(poses, level, occupancy * potential.size, most, rng):
        if any(a > b for a, b in zip(pose.size(), shape, strict=True)):
            continue
        for corner in rng.integers(0, high, (MAX_ATTEMPTS, 3)):
            if _place(pose, corner, channel + 1, potential, labels):
                placed.append((np.mod(corner + pose.center(), shape), channel, pose.rotation()))
                break
    positions, channels, rotations = zip(*placed, strict=True) if placed else ((), (), ())
    return PeriodicBox(
        potential,
        labels,
        np.array(positions, float).reshape(-1, 3),
        np.array(channels, np.intp),
        np.array(rotations, float).reshape(-1, 3, 3),
    )


def _place(
    rotated: RotatedPose,
    corner: NDArray[np.intp],
    label: int,
    potential: NDArray[np.float32],
    labels: NDArray[np.uint8],
) -> bool:
    """Add a particle to the grids unless it overlaps another."""
    z, y, x = labels.shape
    tables, flat_labels, pose = rotated.index_tables(corner, (z, y, x)), labels.reshape(-1), rotated.pose
    if flat_labels[flat_indices(pose.probes, tables)].any():
        return False
    support = flat_indices(pose.support, tables)
    if flat_labels[support].any():
        return False
    flat_labels[support] = label
    potential.reshape(-1)[flat_indices(pose.body, tables)] += pose.values
    return True


def _draw_particles(
    poses: PoseLibrary, level: int, voxels: float, most: int, rng: np.random.Generator
) -> list[tuple[RotatedPose, int]]:
    """Draw species uniformly until their volume reaches *voxels*; sorted by size."""
    particles: list[tuple[RotatedPose, int]] = []
    while voxels > 0 and len(particles) < most:
        channel = int(rng.integers(len(poses.templates)))
        rotated = poses.get(level, channel, int(rng.integers(len(poses))))
        voxels -= rotated.pose.volume
        particles.append((rotated, channel))
    return sorted(particles, key=lambda particle: -particle[0].pose.volume)


def periodic_slices(corner: NDArray[Any], size: Shape | tuple[int, ...], shape: Shape) -> Any:
    """Index of a box of *size* at *corner* of a periodic array; slices if it crosses no face.

    The corner lies within the array.
    """
    if all(c + n <= whole for c, n, whole in zip(corner, size, shape, strict=True)):
        return tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True))
    return np.ix_(*((c + np.arange(n)) % whole for c, n, whole in zip(corner, size, shape, strict=True)))
