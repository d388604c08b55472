"""A periodic box full of particles, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.simulate.stream.poses import PoseLibrary, RotatedPose, flat_indices

Shape = tuple[int, int, int]
TRIES = 6
"""Places at which a particle is tried before it is left out."""


@dataclass(frozen=True, eq=False)
class PeriodicBox:
    """What stands in a periodic box.

    Attributes
    ----------
    potential : (z, y, x) float32
        In volts.
    labels : (z, y, x) uint8
        Index of the template + 1 inside particles, 0 elsewhere.
    positions : (n, 3)
        Centres (z, y, x) in voxels.
    channels : (n,) int
        Index of the template of each.
    rotations : (n, 3, 3)
        Active, reference to box, acting on (x, y, z) columns.
    """

    potential: NDArray[np.float32]
    labels: NDArray[np.uint8]
    positions: NDArray[np.float64]
    channels: NDArray[np.intp]
    rotations: NDArray[np.float64]


def fill_box(
    bank: PoseLibrary,
    level: int,
    shape: Shape,
    occupancy: float,
    rng: np.random.Generator,
    *,
    most: int = 300,
    depth: float = 1.0,
) -> PeriodicBox:
    """Fill a box with particles that do not overlap, the largest first.

    Parameters
    ----------
    bank, level
        Poses, and the voxel size to take them at.
    shape : (z, y, x)
        Of the box; what leaves it at one face enters at the opposite one.
    occupancy
        Share of the box to be filled, as far as places are found.
    most
        Particles, at the most.
    depth
        Share of the height that has particles at all.
    """
    potential, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    room = (max(1, round(depth * shape[0])), shape[1], shape[2])
    placed = []
    for turned, channel in _invited(bank, level, occupancy * potential.size, most, rng):
        if any(a > b for a, b in zip(turned.size(), shape, strict=True)):
            continue
        for corner in rng.integers(0, room, (TRIES, 3)):
            if _stands(turned, corner, channel + 1, potential, labels):
                placed.append((np.mod(corner + turned.centre(), shape), channel, turned.rotation()))
                break
    positions, channels, rotations = zip(*placed, strict=True) if placed else ((), (), ())
    return PeriodicBox(
        potential,
        labels,
        np.array(positions, float).reshape(-1, 3),
        np.array(channels, np.intp),
        np.array(rotations, float).reshape(-1, 3, 3),
    )


def _stands(
    turned: RotatedPose,
    corner: NDArray[np.intp],
    label: int,
    potential: NDArray[np.float32],
    labels: NDArray[np.uint8],
) -> bool:
    """Put a particle down, if nobody is there."""
    z, y, x = labels.shape
    tables, taken, pose = turned.tables(corner, (z, y, x)), labels.reshape(-1), turned.pose
    if taken[flat_indices(pose.probes, tables)].any():
        return False
    inside = flat_indices(pose.inside, tables)
    if taken[inside].any():
        return False
    taken[inside] = label
    potential.reshape(-1)[flat_indices(pose.body, tables)] += pose.values
    return True


def _invited(
    bank: PoseLibrary, level: int, voxels: float, most: int, rng: np.random.Generator
) -> list[tuple[RotatedPose, int]]:
    """Species equally often until their volume suffices, the largest first."""
    invited: list[tuple[RotatedPose, int]] = []
    while voxels > 0 and len(invited) < most:
        channel = int(rng.integers(len(bank.templates)))
        turned = bank.get(level, channel, int(rng.integers(len(bank))))
        voxels -= turned.pose.volume
        invited.append((turned, channel))
    return sorted(invited, key=lambda one: -one[0].pose.volume)


def periodic_slices(corner: NDArray[Any], size: Shape | tuple[int, ...], shape: Shape) -> Any:
    """Index of the box of *size* at *corner* of a periodic array: slices where it lies within.

    The corner lies within the array.
    """
    if all(c + n <= whole for c, n, whole in zip(corner, size, shape, strict=True)):
        return tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True))
    return np.ix_(*((c + np.arange(n)) % whole for c, n, whole in zip(corner, size, shape, strict=True)))
