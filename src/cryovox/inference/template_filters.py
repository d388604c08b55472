"""Filters of a template on the `rfftn` of the odd cube that holds it: missing wedge, band pass, whitening."""

from __future__ import annotations

from math import ceil, prod

import numpy as np
from numpy.typing import NDArray


def filter_box(radius: float) -> int:
    """Odd edge, without large prime factors, of a box of three radii at least."""
    size = 2 * ceil(1.5 * radius) + 1
    while prod(_small_factors(size)) != size:
        size += 2
    return size


def _small_factors(size: int) -> list[int]:
    factors = []
    for prime in (3, 5, 7):
        while size % prime == 0:
            size //= prime
            factors.append(prime)
    return factors


def frequencies(box: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies kz, ky, kx in cycles per voxel of the `rfftn` of a cube, shaped for broadcasting."""
    full, half = (np.asarray(of(box), np.float64) for of in (np.fft.fftfreq, np.fft.rfftfreq))
    return full[:, None, None], full[:, None], half


def radial_frequency(box: int) -> NDArray[np.float64]:
    """Absolute frequency in cycles per voxel on the `rfftn` of a cube."""
    kz, ky, kx = frequencies(box)
    return np.asarray(np.sqrt(kz**2 + ky**2 + kx**2))


def missing_wedge(box: int, tilt_range: tuple[float, float], tilt_axis: str = "y") -> NDArray[np.float32]:
    """1 on frequencies that a tilt series measures, 0 in the missing wedge, with an edge of one voxel.

    A tilt by theta about y measures the plane kz = kx tan theta; the beam is along z.

    Parameters
    ----------
    tilt_range
        Lowest and highest tilt in degrees.
    tilt_axis
        "y" or "x". A tilt about x measures kz = ky tan theta.
    """
    kz, ky, kx = frequencies(box)
    across = kx if tilt_axis == "y" else ky
    low, high = (np.deg2rad(angle) for angle in tilt_range)
    kz, across = np.where(across < 0, -kz, kz) * box, np.abs(across) * box
    inside = np.minimum(across * np.sin(high) - kz * np.cos(high), kz * np.cos(low) - across * np.sin(low))
    wedge = np.broadcast_to(np.clip(inside + 1.0, 0, 1), (box, box, box // 2 + 1))
    return wedge.astype(np.float32)


def band_pass(
    box: int, voxel_size: float, low_pass: float | None = None, high_pass: float | None = None
) -> NDArray[np.float32]:
    """Gaussian band-pass filter whose amplitude is 1/e, or 1 - 1/e, at resolutions in Å."""
    s = radial_frequency(box) / voxel_size
    values = np.ones_like(s)
    if low_pass is not None:
        values *= np.exp(-((s * low_pass) ** 2))
    if high_pass is not None:
        values *= 1 - np.exp(-((s * high_pass) ** 2))
    return values.astype(np.float32)


def whitening(data: NDArray[np.float32], box: int) -> NDArray[np.float32]:
    """Inverse of the radial amplitude spectrum of a volume, 1 at its median, on the `rfftn` of a cube.

    Frequencies beyond the Nyquist frequency of an axis get the value of the last shell.
    """
    spectrum = np.abs(np.fft.rfftn(data)) ** 2
    kz, ky = (np.fft.fftfreq(n) for n in data.shape[:2])
    kx = np.fft.rfftfreq(data.shape[2])
    radius = np.sqrt(kz[:, None, None] ** 2 + ky[:, None] ** 2 + kx**2)
    shells = max(4, min(data.shape) // 2)
    shell = np.rint(radius * 2 * shells).astype(int)
    inside = (shell >= 1) & (shell <= shells)
    power = np.bincount(shell[inside], spectrum[inside], minlength=shells + 1)[1:]
    count = np.bincount(shell[inside], minlength=shells + 1)[1:]
    amplitude = np.sqrt(power / np.maximum(count, 1))
    amplitude = np.maximum(amplitude, 1e-3 * amplitude.max())
    table = np.median(amplitude) / amplitude
    at = np.arange(1, shells + 1) / (2 * shells)
    return np.interp(radial_frequency(box), at, table).astype(np.float32)
