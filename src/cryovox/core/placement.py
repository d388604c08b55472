"""Whether particles can lie where a list says: inside the tomogram, in Å, on density."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryovox.core.errors import DataWarning, RequestError
from cryovox.core.volume import Volume

Float = NDArray[np.float64]

UNLIKELY = 1e-6
"""Chance below which evenly spread particles are not believed to lie together in the corner of a tomogram."""
FEWEST = 20
"""Fewer particles say nothing of the density that they lie on."""
SHIFTED = 4000
"""Most particles whose density is looked at."""


def check_positions(where: object, positions: Float, volume: Volume, reach: ArrayLike = 0.0) -> None:
    """Refuse, or warn of, positions that do not fit a tomogram.

    Parameters
    ----------
    where
        The file, for the message.
    positions : (n, 3)
        In Å.
    volume
        Its shape and voxel size.
    reach : float or (n,)
        How far outside a centre may lie, in Å: particles that a face cuts.
    """
    if not len(positions):
        return
    high = (np.array(volume.shape) - 0.5) * volume.voxel_size
    beyond = np.maximum(positions - high, -0.5 * volume.voxel_size - positions).max(axis=1)
    outside = int((beyond > reach).sum())
    if outside:
        message = outside_message(positions, beyond, outside, high)
        if 2 * outside > len(positions):
            raise RequestError(where, message, _remedy(positions, volume))
        warnings.warn(f"{where}: {message}", DataWarning, stacklevel=2)
    elif in_voxels(positions, volume):
        shape = " x ".join(map(str, volume.shape[::-1]))
        message = (
            f"{len(positions)} positions all lie below {shape} Å (x, y, z): they look like voxels, not Å"
        )
        if (positions == np.rint(positions)).all():
            raise RequestError(where, message, in_angstrom(volume))
        warnings.warn(f"{where}: {message}; {in_angstrom(volume)}", DataWarning, stacklevel=2)


def outside_message(positions: Float, beyond: Float, outside: int, high: Float) -> str:
    """How many lie outside, where the worst lies and where the tomogram ends."""
    worst = positions[beyond.argmax()]
    return (
        f"{outside} of {len(positions)} picks lie outside the tomogram, the worst at "
        f"x {worst[2]:.1f}, y {worst[1]:.1f}, z {worst[0]:.1f} Å; it extends to "
        f"x {high[2]:.1f}, y {high[1]:.1f}, z {high[0]:.1f} Å"
    )


def in_voxels(positions: Float, volume: Volume) -> bool:
    """Whether positions look like indices of voxels: all in a corner where chance does not put them."""
    fits = bool((positions <= np.array(volume.shape) - 0.5).all())
    return fits and float(max(volume.voxel_size, 1.0)) ** (-3.0 * len(positions)) < UNLIKELY


def in_angstrom(volume: Volume) -> str:
    """What mends a list in voxels."""
    return (
        f"if they are, mend the list with `cryovox convert PICKS OUT.csv --voxel-size {volume.voxel_size:g}`"
    )


def check_radius(where: object, name: str, radius: float, voxel_size: float) -> None:
    """Refuse a radius of less than a voxel."""
    if radius < voxel_size:
        message = f"radius of {name} is {radius:g} Å, less than a voxel of {voxel_size:g} Å"
        raise RequestError(where, message, "give the radius in Å, not in voxels or nm")


def check_density(where: object, positions: Float, volume: Volume, radius: float) -> None:
    """Warn where the density at the particles is that of the places beside them."""
    t = density_t(positions, volume, radius)
    if t is not None and abs(t) < 2.5:
        message = f"density at the {len(positions)} positions is that of the places beside them (t = {t:.1f})"
        remedy = "check units, the order of x, y and z, and that list and tomogram belong together"
        warnings.warn(f"{where}: {message}; {remedy}", DataWarning, stacklevel=2)


def density_t(positions: Float, volume: Volume, radius: float) -> float | None:
    """Student's t of the density at particles less that at places beside them, in y and x; None of too few.

    Parameters
    ----------
    positions : (n, 3)
        In Å.
    volume
        The tomogram; only the voxels around the positions are read.
    radius
        Of the particles, in Å. Places beside them are two radii away.
    """
    half = max(1, round(radius / volume.voxel_size / 2))
    step = max(2 * half + 1, round(2 * radius / volume.voxel_size))
    voxels = np.rint(positions / volume.voxel_size).astype(np.intp)[:SHIFTED]
    shifts = [(0, 0, 0), (0, step, 0), (0, -step, 0), (0, 0, step), (0, 0, -step)]
    means = np.array([[_mean(volume, voxel + shift, half) for shift in shifts] for voxel in voxels])
    beside = ~np.isnan(means[:, 1:]) if len(means) else np.zeros((0, 4), bool)
    usable = beside.any(axis=1) & ~np.isnan(means[:, 0]) if len(means) else np.zeros(0, bool)
    if usable.sum() < FEWEST:
        return None
    difference = means[usable, 0] - np.nanmean(means[usable, 1:], axis=1)
    spread = float(difference.std(ddof=1))
    return float(difference.mean() / (spread / np.sqrt(len(difference)))) if spread > 0 else None


def _mean(volume: Volume, voxel: NDArray[np.intp], half: int) -> float:
    """Mean of a cube; NaN where it does not fit."""
    low, high = voxel - half, voxel + half + 1
    if (low < 0).any() or (high > volume.shape).any():
        return float("nan")
    cube = volume.data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return float(np.mean(cube, dtype=np.float64))


def _remedy(positions: Float, volume: Volume) -> str:
    high = (np.array(volume.shape) - 0.5) * volume.voxel_size
    if (positions[:, ::-1] <= high).all() and (positions >= -volume.voxel_size).all():
        return "x and z look swapped: mend the header of the columns"
    return "are they in pixels rather than Å (`cryovox convert --voxel-size A`), or of another tomogram?"
