"""Training targets from particles: masks of balls or heatmaps of Gaussians."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cryovox.core.particles import Species

IGNORE_INDEX = 255
"""Label of voxels that losses ignore, since they are not annotated."""

Shape = tuple[int, int, int]


def ball_labels(
    positions: NDArray[np.float64], labels: Sequence[int], radii: Sequence[float], shape: Shape
) -> NDArray[np.uint8]:
    """Label every voxel within the radius of a particle; the nearest center (in radii) wins.

    Parameters
    ----------
    positions : (n, 3)
        Centers in voxels.
    labels, radii
        Value to write and radius in voxels, of each particle.
    shape
        Shape of the output.
    """
    out = np.zeros(shape, np.uint8)
    best = np.full(shape, np.inf, np.float32)
    for center, label, radius in zip(positions, labels, radii, strict=True):
        window, squared = _window(center, radius, shape)
        if squared is None:
            continue
        near = squared / np.float32(radius**2)
        wins = (near <= 1) & (near < best[window])
        out[window][wins] = label
        best[window][wins] = near[wins]
    return out


def gaussian_heatmap(positions: NDArray[np.float64], sigma: float, shape: Shape) -> NDArray[np.float32]:
    """One Gaussian of height 1 per particle; the maximum where they overlap.

    Parameters
    ----------
    positions : (n, 3)
        Centers in voxels of the heatmap, which may lie outside it.
    sigma
        Standard deviation in voxels of the heatmap.
    shape
        Shape of the output.
    """
    out = np.zeros(shape, np.float32)
    for center in positions:
        window, squared = _window(center, 4 * sigma, shape)
        if squared is not None:
            np.maximum(out[window], np.exp(squared * np.float32(-0.5 / sigma**2)), out=out[window])
    return out


def heatmap_sigma(species: Species, voxel_size: float) -> float:
    """A third of the radius, at least one voxel."""
    return max(1.0, species.radius / (3 * voxel_size))


def within_radius(positions: NDArray[np.float64], radius: float, shape: Shape) -> NDArray[np.bool_]:
    """Voxels within *radius* voxels of a center."""
    out = np.zeros(shape, bool)
    for center in positions:
        window, squared = _window(center, radius, shape)
        if squared is not None:
            out[window] |= squared <= radius**2
    return out


def _window(
    center: NDArray[np.float64], reach: float, shape: Shape
) -> tuple[tuple[slice, slice, slice], NDArray[np.float32] | None]:
    """Slices of the box that a ball touches, and squared distances to its center in them."""
    low = [max(0, int(np.ceil(c - reach))) for c in center]
    high = [min(n, int(np.floor(c + reach)) + 1) for c, n in zip(center, shape, strict=True)]
    window = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return window, None
    z, y, x = (
        np.arange(a, b, dtype=np.float32) - np.float32(c) for a, b, c in zip(low, high, center, strict=True)
    )
    return window, (z * z)[:, None, None] + (y * y)[None, :, None] + (x * x)[None, None, :]
