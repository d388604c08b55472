"""Picks on gold beads and other objects that are far denser than the particles."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume, release_pages

QUANTILE, RATIO = 0.8, 2.0
"""A dense pick is more than `RATIO` times as dense as this quantile of the picks of its species ..."""
MIN_DENSITY = 6.0
"""... and denser than this many robust standard deviations of the voxels."""
MIN_PICKS = 10
"""Species with fewer picks are not tested."""
PLANES = 16
"""Number of planes from which median and spread of the voxels are estimated."""


def dense_picks(volume: Volume, picks: Particles, species: Iterable[Species], sign: int) -> NDArray[np.bool_]:
    """Which picks lie on objects far denser than the other picks of their species.

    Parameters
    ----------
    volume
        The tomogram; only voxels around the picks and a few planes are read.
    picks
        Picks in its frame.
    species
        Species of the picks, with their radii.
    sign
        +1 if particles are bright, -1 if dark.

    Returns
    -------
    dense : (n,) bool
        At most a fifth of the picks of a species.
    """
    dense = np.zeros(len(picks), dtype=bool)
    median, spread = _background(volume)
    for kind in species:
        mine = np.flatnonzero(picks.species == kind.name)
        if len(mine) < MIN_PICKS or not spread > 0:
            continue
        half = max(1, round(kind.radius / volume.voxel_size / 2))
        peaks = [_peak(volume, position, half, sign, sign * median) for position in picks.positions[mine]]
        density = np.array(peaks) / spread
        limit = max(MIN_DENSITY, RATIO * float(np.quantile(density, QUANTILE)))
        dense[mine] = density > limit
    return dense


def _background(volume: Volume) -> tuple[float, float]:
    """Median and robust standard deviation of the voxels of some planes."""
    planes = np.unique(np.linspace(0, volume.shape[0] - 1, PLANES).round().astype(int))
    values = np.stack([np.asarray(volume.data[int(z)], dtype=np.float32) for z in planes])
    median = float(np.median(values))
    return median, 1.4826 * float(np.median(np.abs(values - median)))


def _peak(volume: Volume, position: NDArray[np.float64], half: int, sign: int, background: float) -> float:
    """Highest mean of 3^3 voxels around a position, above the background."""
    center = np.clip(np.rint(position / volume.voxel_size).astype(int), 0, np.array(volume.shape) - 1)
    low, high = np.maximum(center - half - 1, 0), np.minimum(center + half + 2, volume.shape)
    window = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    cube = sign * np.asarray(volume.data[window], dtype=np.float32)
    release_pages(volume.data)
    return float(ndimage.uniform_filter(cube, 3, mode="nearest").max()) - background
