"""Band-pass filter at the scale of particles: a difference of two Gaussians."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cryovox.simulate.realism.spectrum import Floats, Shape, spectral_grid

Image = NDArray[np.float32]
FINE, COARSE = 40.0, 120.0  # standard deviations in Å, as in core.intensity.detect_contrast


def bandpass_filter(shape: Shape, voxel_size: float) -> Image:
    """Amplitude of the band-pass filter on the half-spectrum of a volume."""
    z, y, x = (f**2 for f in (fft.fftfreq(shape[0]), fft.fftfreq(shape[1]), fft.rfftfreq(shape[2])))
    square = (z[:, None, None] + y[:, None] + x).astype(np.float32)
    fine, coarse = gaussian_sigmas(voxel_size)
    return np.exp(-2 * np.pi**2 * fine**2 * square) - np.exp(-2 * np.pi**2 * coarse**2 * square)


def gaussian_sigmas(voxel_size: float) -> tuple[float, float]:
    """Standard deviations of the two Gaussians in voxels."""
    return max(0.8, FINE / voxel_size), max(1.6, COARSE / voxel_size)


def band_power(power: Floats, voxel_size: float) -> float:
    """Mean of a power spectrum on the spectral_grid over all frequencies, after the band-pass filter."""
    shape = (48, 48, 48)
    grid = np.exp(spectral_grid(shape).interpolate(np.log(power), shape))
    return float((grid.astype(np.float64) * bandpass_filter(shape, voxel_size) ** 2).mean())


def bandpass(data: Image, voxel_size: float) -> Image:
    """Band-pass filter a volume."""
    fine, coarse = gaussian_sigmas(voxel_size)
    filtered = ndimage.gaussian_filter(data, fine, mode="reflect")
    filtered -= ndimage.gaussian_filter(data, coarse, mode="reflect")
    return filtered


def bandpass_skewness(data: Image, voxel_size: float) -> float:
    """Skewness of the band-pass filtered volume."""
    return clipped_skewness(bandpass(data, voxel_size))


def clipped_skewness(values: NDArray[Any]) -> float:
    """Skewness of values clipped to five standard deviations, so that gold beads do not dominate."""
    standard = (values - values.mean()) / max(float(values.std()), 1e-30)
    return float(np.mean(np.clip(standard, -5, 5) ** 3, dtype=np.float64))
