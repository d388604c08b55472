"""Detector model: counting noise, MTF and DQE.

An image is filtered by sqrt(DQE / DQE(0)), counted with a yield of DQE(0), and filtered by
NTF = MTF sqrt(DQE(0) / DQE). The signal is then transferred by the MTF, the noise by the NTF, and the
squared signal-to-noise ratio by the DQE.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cryovox.simulate.config.microscope import DetectorConfig

Floats = NDArray[np.float64]
Array = NDArray[np.floating[Any]]
SMALL_MEAN = 10.0
"""Mean below which Poisson quantiles are computed by summation rather than expansion."""


def flux(config: DetectorConfig, dose: Floats, angles: Floats, voxel_size: float, thickness: float) -> Floats:
    """Expected electrons per pixel of each tilt in plain ice.

    Parameters
    ----------
    dose : (n,)
        e/Å² of each tilt.
    angles : (n,)
        Degrees; the path through ice of *thickness* Å increases with 1 / cos.
    """
    path = (config.thickness or thickness) / np.cos(np.deg2rad(angles))
    transmitted = np.exp(-path / config.mean_free_path) if config.mean_free_path else np.ones_like(path)
    return dose * voxel_size**2 * config.dqe * transmitted


def mtf(frequency: Floats, config: DetectorConfig, voxel_size: float) -> Floats:
    """Modulation transfer function at *frequency* in 1/Å."""
    return config.mtf_nyquist ** _relative_frequency_squared(frequency, config, voxel_size)


def dqe(frequency: Floats, config: DetectorConfig, voxel_size: float) -> Floats:
    """Detective quantum efficiency at *frequency* in 1/Å."""
    decay = config.dqe_nyquist / config.dqe
    return config.dqe * decay ** _relative_frequency_squared(frequency, config, voxel_size)


def detector_filters(frequency: Floats, config: DetectorConfig, voxel_size: float) -> tuple[Floats, Floats]:
    """Filters before and after counting."""
    before = np.sqrt(dqe(frequency, config, voxel_size) / config.dqe)
    return before, mtf(frequency, config, voxel_size) / before


def _relative_frequency_squared(frequency: Floats, config: DetectorConfig, voxel_size: float) -> Floats:
    """(frequency / Nyquist frequency of the detector) squared."""
    return (2 * frequency * (config.pixel_size or voxel_size)) ** 2


def poisson_counts(mean: Array, seed: int, tilt: int, part: int = 0) -> NDArray[np.float32]:
    """Poisson counts, independent of the order of the tilts and of the device that computed *mean*.

    A normal number per pixel from Philox, keyed by (seed, tilt, part), selects the quantile. A rounding
    difference of *mean* therefore changes a count by at most one, and no other pixel.
    """
    key = np.array([seed % 2**64, tilt + part * 2**32], np.uint64)
    normal = np.random.Generator(np.random.Philox(key=key)).standard_normal(mean.shape, dtype=np.float32)
    return poisson_quantile(np.maximum(mean, 0), normal)


def poisson_quantile(mean: Array, normal: Array) -> NDArray[np.float32]:
    """Poisson quantile at the probability of *normal* in the standard normal distribution.

    Expansion of Giles 2016 (ACM TOMS 42, eq. 5), exact in nearly all cases for a mean above 10.
    """
    root = np.sqrt(np.maximum(mean, SMALL_MEAN))
    curved = normal**2 / 6 + (1 / 3) - (normal / 36 + normal**3 / 72) / root
    out = np.maximum(np.floor(mean + root * normal + curved), 0).astype(np.float32)
    small = mean < SMALL_MEAN
    if small.any():
        out[small] = _summed_quantile(
            mean[small].astype(np.float64), special.ndtr(normal[small].astype(np.float64))
        )
    return out


def _summed_quantile(mean: Floats, quantile: Floats) -> Floats:
    """Smallest count whose cumulative probability reaches *quantile*."""
    out = np.zeros_like(mean)
    probability = np.exp(-mean)
    cumulative = probability.copy()
    for k in range(1, 80):
        below = cumulative < quantile
        if not below.any():
            break
        out[below] = k
        probability *= mean / k
        cumulative += probability
    return out


def noise_factor(signal: Array, noise: Array, snr: float, mask: NDArray[np.bool_] | None = None) -> float:
    """Factor of *noise* such that var(signal) / var(noise) within *mask* is *snr*.

    Reconstruction is linear: a tomogram of that SNR is
    ``reconstruct(signal) + factor * reconstruct(noise)``.
    """
    return float(np.sqrt(snr_of(signal, noise, mask) / snr))


def snr_of(signal: Array, noise: Array, mask: NDArray[np.bool_] | None = None) -> float:
    """var(signal) / var(noise) within *mask*."""
    if mask is not None:
        signal, noise = signal[mask], noise[mask]
    return float(signal.var(dtype=np.float64) / noise.var(dtype=np.float64))
