"""A tomogram at the scale of particles: a band-pass, its power, and the skewness that it leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cryovox.simulate.realism.spectrum import Floats, Shape, nodes

Image = NDArray[np.float32]
FINE, COARSE = 40.0, 120.0  # Å: standard deviations of two Gaussians, as in core.intensity.detect_contrast


def band(shape: Shape, voxel_size: float) -> Image:
    """Amplitude of the band-pass at the scale of particles, over the half-space of a volume."""
    z, y, x = (f**2 for f in (fft.fftfreq(shape[0]), fft.fftfreq(shape[1]), fft.rfftfreq(shape[2])))
    square = (z[:, None, None] + y[:, None] + x).astype(np.float32)
    fine, coarse = scales(voxel_size)
    return np.exp(-2 * np.pi**2 * fine**2 * square) - np.exp(-2 * np.pi**2 * coarse**2 * square)


def scales(voxel_size: float) -> tuple[float, float]:
    """Standard deviations in voxels of the two Gaussians of the band-pass."""
    return max(0.8, FINE / voxel_size), max(1.6, COARSE / voxel_size)


def band_power(power: Floats, voxel_size: float) -> float:
    """Mean over all frequencies of a power on the nodes, after the band-pass."""
    shape = (48, 48, 48)
    grid = np.exp(nodes(shape).at(np.log(power), shape))
    return float((grid.astype(np.float64) * band(shape, voxel_size) ** 2).mean())


def banded(data: Image, voxel_size: float) -> Image:
    """A volume after the band-pass."""
    fine, coarse = scales(voxel_size)
    found = ndimage.gaussian_filter(data, fine, mode="reflect")
    found -= ndimage.gaussian_filter(data, coarse, mode="reflect")
    return found


def asymmetry(data: Image, voxel_size: float) -> float:
    """Skewness after the band-pass."""
    return clipped_skewness(banded(data, voxel_size))


def clipped_skewness(values: NDArray[Any]) -> float:
    """Skewness of what lies within five standard deviations: gold must not outvote the cell."""
    standard = (values - values.mean()) / max(float(values.std()), 1e-30)
    return float(np.mean(np.clip(standard, -5, 5) ** 3, dtype=np.float64))
