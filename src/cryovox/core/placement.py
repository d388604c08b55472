"""Plausibility checks of particle lists: positions inside the tomogram, in Å, on density."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryovox.core.errors import DataWarning, RequestError
from cryovox.core.volume import Volume

Float = NDArray[np.float64]

MAX_PROBABILITY = 1e-6
"""Maximum probability that uniformly distributed particles all lie in one corner of a tomogram by chance."""
MIN_PARTICLES = 20
"""Minimum number of particles for the test of their density."""
MAX_PARTICLES = 4000
"""Maximum number of particles whose density is read."""


def check_positions(where: object, positions: Float, volume: Volume, tolerance: ArrayLike = 0.0) -> None:
    """Raise an error or warn if positions do not fit a tomogram.

    Parameters
    ----------
    where
        The file, for the message.
    positions : (n, 3)
        Positions in Å.
    volume
        The tomogram; its shape and voxel size are used.
    tolerance : float or (n,)
        Distance in Å that a center may lie outside, such as the radius of particles cut by a face.
    """
    if not len(positions):
        return
    high = (np.array(volume.shape) - 0.5) * volume.voxel_size
    beyond = np.maximum(positions - high, -0.5 * volume.voxel_size - positions).max(axis=1)
    outside = int((beyond > tolerance).sum())
    if outside:
        message = outside_message(positions, beyond, outside, high)
        if 2 * outside > len(positions):
            raise RequestError(where, message, _remedy(positions, volume))
        warnings.warn(f"{where}: {message}", DataWarning, stacklevel=2)
    elif look_like_voxels(positions, volume):
        shape = " x ".join(map(str, volume.shape[::-1]))
        message = (
            f"{len(positions)} positions all lie below {shape} Å (x, y, z): they look like voxels, not Å"
        )
        if (positions == np.rint(positions)).all():
            raise RequestError(where, message, _conversion(volume))
        warnings.warn(f"{where}: {message}; {_conversion(volume)}", DataWarning, stacklevel=2)


def outside_message(positions: Float, beyond: Float, outside: int, high: Float) -> str:
    """Message with the number of picks outside, the worst of them and the extent of the tomogram."""
    worst = positions[beyond.argmax()]
    return (
        f"{outside} of {len(positions)} picks lie outside the tomogram, the worst at "
        f"x {worst[2]:.1f}, y {worst[1]:.1f}, z {worst[0]:.1f} Å; it extends to "
        f"x {high[2]:.1f}, y {high[1]:.1f}, z {high[0]:.1f} Å"
    )


def look_like_voxels(positions: Float, volume: Volume) -> bool:
    """Whether positions look like voxel indices: all lie in one corner, improbable for Å."""
    fits = bool((positions <= np.array(volume.shape) - 0.5).all())
    return fits and float(max(volume.voxel_size, 1.0)) ** (-3.0 * len(positions)) < MAX_PROBABILITY


def _conversion(volume: Volume) -> str:
    """Advice for a list in voxels."""
    return f"if so, convert the list: `cryovox convert PICKS OUT.csv --voxel-size {volume.voxel_size:g}`"


def check_radius(where: object, name: str, radius: float, voxel_size: float) -> None:
    """Raise an error for a radius of less than a voxel."""
    if radius < voxel_size:
        message = f"radius of {name} is {radius:g} Å, less than a voxel of {voxel_size:g} Å"
        raise RequestError(where, message, "give the radius in Å, not in voxels or nm")


def check_density(where: object, positions: Float, volume: Volume, radius: float) -> None:
    """Warn if the density at the particles does not differ from that beside them."""
    t = density_t_statistic(positions, volume, radius)
    if t is not None and abs(t) < 2.5:
        message = f"density at the {len(positions)} positions equals that beside them (t = {t:.1f})"
        remedy = "check units, the order of x, y and z, and that list and tomogram belong together"
        warnings.warn(f"{where}: {message}; {remedy}", DataWarning, stacklevel=2)


def density_t_statistic(positions: Float, volume: Volume, radius: float) -> float | None:
    """Student's t of the difference in density between particles and positions beside them in y and x.

    Parameters
    ----------
    positions : (n, 3)
        Positions in Å.
    volume
        The tomogram; only the voxels around the positions are read.
    radius
        Radius of the particles in Å. The positions beside them are two radii away.

    Returns
    -------
    float or None
        None for too few particles.
    """
    half = max(1, round(radius / volume.voxel_size / 2))
    step = max(2 * half + 1, round(2 * radius / volume.voxel_size))
    voxels = np.rint(positions / volume.voxel_size).astype(np.intp)[:MAX_PARTICLES]
    shifts = [(0, 0, 0), (0, step, 0), (0, -step, 0), (0, 0, step), (0, 0, -step)]
    means = np.array([[_mean(volume, voxel + shift, half) for shift in shifts] for voxel in voxels])
    beside = ~np.isnan(means[:, 1:]) if len(means) else np.zeros((0, 4), bool)
    usable = beside.any(axis=1) & ~np.isnan(means[:, 0]) if len(means) else np.zeros(0, bool)
    if usable.sum() < MIN_PARTICLES:
        return None
    difference = means[usable, 0] - np.nanmean(means[usable, 1:], axis=1)
    spread = float(difference.std(ddof=1))
    return float(difference.mean() / (spread / np.sqrt(len(difference)))) if spread > 0 else None


def _mean(volume: Volume, voxel: NDArray[np.intp], half: int) -> float:
    """Mean of a cube around a voxel; NaN if it does not fit."""
    low, high = voxel - half, voxel + half + 1
    if (low < 0).any() or (high > volume.shape).any():
        return float("nan")
    cube = volume.data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return float(np.mean(cube, dtype=np.float64))


def _remedy(positions: Float, volume: Volume) -> str:
    high = (np.array(volume.shape) - 0.5) * volume.voxel_size
    if (positions[:, ::-1] <= high).all() and (positions >= -volume.voxel_size).all():
        return "x and z look swapped: correct the header of the columns"
    return "are they in pixels rather than Å (`cryovox convert --voxel-size A`), or of another tomogram?"
