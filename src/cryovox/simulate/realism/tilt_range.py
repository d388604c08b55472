"""Estimate the tilt range of a tomogram from the edges of its missing wedge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.simulate.realism.spectrum import frequencies, periodogram

Floats = NDArray[np.float64]

EDGE_RANGE = (25, 82)  # search range of an edge in degrees
SIDE_START, SIDE_END = 3, 10  # degrees from an edge within which its two sides are compared
SHELLS, ROWS = 12, 4  # bins of the distance from the tilt axis and of the frequency along it
MIN_SAMPLED = 0.8  # minimum fraction of sampled degrees
MIN_CONTRAST = 1.6  # minimum ratio of the power inside to that outside an edge


def estimate_tilt_range(data: NDArray[Any]) -> tuple[float, float] | None:
    """Minimum and maximum tilt in degrees about y, with the beam along z.

    The sign is that of kz / kx: a tilt by a samples the frequencies with kz = kx tan(a). Power is
    compared at equal frequency along and across the tilt axis, so that its fall with frequency cancels.
    An edge is where the power crosses the mean of its two sides.

    Returns
    -------
    (low, high), or None if either edge is missing
        As after a filter that fills the wedge, or if noise was added after the reconstruction.
    """
    profile = tilt_profile(data)
    if profile is None:
        return None
    low, high = _edge(profile[::-1]), _edge(profile)
    return None if low is None or high is None else (-low, high)


def tilt_profile(data: NDArray[Any]) -> Floats | None:
    """Power against tilt, (181,) from -90 to 90 degrees, normalized to 1 within 25 degrees of 0.

    None if no frequency has more power near 0 than near 90 degrees.
    """
    degrees = np.abs(np.arange(-90, 91))
    core, beyond = degrees < EDGE_RANGE[0], degrees > EDGE_RANGE[1] - 4
    rows = []
    for power, weight in zip(*(cells.reshape(-1, 181) for cells in _polar(data)), strict=True):
        filled = weight > 0
        if filled.mean() < MIN_SAMPLED:
            continue
        row = np.interp(np.arange(181), np.flatnonzero(filled), power[filled] / weight[filled])
        row = row / row[core].mean()
        if row[beyond].mean() < 1 / MIN_CONTRAST:
            rows.append(row)
    return np.mean(rows, axis=0) if rows else None


def _polar(data: NDArray[Any]) -> tuple[Floats, Floats]:
    """Sums of power and counts in (|ky|, radius, tilt) bins, from the middle of a volume."""
    cuts = [slice((n - min(n, 256)) // 2, (n - min(n, 256)) // 2 + min(n, 256)) for n in data.shape]
    piece = data[cuts[0], cuts[1], cuts[2]]
    power = periodogram(piece)
    kz, ky, kx = frequencies(piece.shape)
    around, tilt = np.hypot(kz, kx), np.degrees(np.arctan2(kz, kx))
    # close to the axis, a Fourier voxel spans too many degrees
    least = min(0.35, max(0.1, 9.0 / min(piece.shape[0], piece.shape[2])))
    shell = np.floor((around - least) / (0.48 - least) * SHELLS).astype(int)
    row = np.floor(np.abs(ky) / 0.3 * ROWS).astype(int)
    use = (shell >= 0) & (shell < SHELLS) & (row < ROWS) & (kx > 0)
    cell = (row * SHELLS + shell) * 181 + np.rint(tilt + 90).astype(int)
    size = (ROWS, SHELLS, 181)
    sums = np.bincount(cell[use], power[use], np.prod(size)).reshape(size)
    counts = np.bincount(cell[use], minlength=int(np.prod(size))).astype(np.float64).reshape(size)
    return _spread(sums.astype(np.float64)), _spread(counts)


def _spread(values: Floats) -> Floats:
    """Sum over three neighboring degrees, since some have no voxel at low frequencies."""
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1)), mode="edge")
    return padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]


def _edge(profile: Floats) -> float | None:
    """Positive tilt at which a profile over -90 to 90 degrees falls most steeply."""
    half = profile[90:]
    angles = range(EDGE_RANGE[0], EDGE_RANGE[1] + 1)
    ratios = [_mean_beside(half, a, -1) / max(_mean_beside(half, a, 1), 1e-12) for a in angles]
    best = int(np.argmax(ratios))
    if ratios[best] < MIN_CONTRAST:
        return None
    edge = angles[best]
    middle = (_mean_beside(half, edge, -1) + _mean_beside(half, edge, 1)) / 2
    window = np.arange(max(0, edge - SIDE_END), min(90, edge + SIDE_END) + 1)
    below = np.flatnonzero((half[window[:-1]] >= middle) & (half[window[1:]] < middle))
    if below.size == 0:
        return float(edge)
    at = window[below[np.argmin(np.abs(window[below] - edge))]]
    return float(at + (half[at] - middle) / (half[at] - half[at + 1]))


def _mean_beside(half: Floats, edge: int, direction: int) -> float:
    """Mean power from SIDE_START to SIDE_END degrees on one side of an edge."""
    ends = sorted((edge + direction * SIDE_START, edge + direction * SIDE_END))
    return float(half[max(0, ends[0]) : min(90, ends[1]) + 1].mean())
