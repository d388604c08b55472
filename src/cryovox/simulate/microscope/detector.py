"""How electrons become an image: counting noise, blur, and the efficiency of the detector.

The detector passes the signal with its MTF and keeps DQE(k) of the squared signal-to-noise ratio. An
image is therefore filtered by sqrt(DQE / DQE(0)), counted with a yield of DQE(0), and filtered by
NTF = MTF sqrt(DQE(0) / DQE), which leaves MTF on the signal and NTF on the noise.
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
"""Below this mean the Poisson quantile is summed up; above it is expanded."""


def flux(config: DetectorConfig, dose: Floats, angles: Floats, voxel_size: float, thickness: float) -> Floats:
    """Electrons counted per pixel of each tilt where the sample is plain ice.

    Parameters
    ----------
    dose : (n,)
        e/Å² of each tilt.
    angles : (n,)
        Degrees; the path through ice of *thickness* Å grows with 1 / cos.
    """
    path = (config.thickness or thickness) / np.cos(np.deg2rad(angles))
    passed = np.exp(-path / config.mean_free_path) if config.mean_free_path else np.ones_like(path)
    return dose * voxel_size**2 * config.dqe * passed


def mtf(frequency: Floats, config: DetectorConfig, voxel_size: float) -> Floats:
    """Modulation transfer at *frequency* in 1/Å."""
    return config.mtf_nyquist ** _square(frequency, config, voxel_size)


def dqe(frequency: Floats, config: DetectorConfig, voxel_size: float) -> Floats:
    """Detective quantum efficiency at *frequency* in 1/Å."""
    fall = config.dqe_nyquist / config.dqe
    return config.dqe * fall ** _square(frequency, config, voxel_size)


def detector_filters(frequency: Floats, config: DetectorConfig, voxel_size: float) -> tuple[Floats, Floats]:
    """What the signal is filtered by before it is counted, and everything after."""
    before = np.sqrt(dqe(frequency, config, voxel_size) / config.dqe)
    return before, mtf(frequency, config, voxel_size) / before


def _square(frequency: Floats, config: DetectorConfig, voxel_size: float) -> Floats:
    """(frequency / Nyquist frequency of the camera) squared."""
    return (2 * frequency * (config.pixel_size or voxel_size)) ** 2


def poisson_counts(mean: Array, seed: int, tilt: int, part: int = 0) -> NDArray[np.float32]:
    """Poisson counts, the same whatever the order of the tilts and the device that made *mean*.

    One normal number per pixel from Philox, keyed by (seed, tilt, part), picks the quantile; a mean that
    is off by rounding changes a count by at most one, and the pixels after it not at all.
    """
    key = np.array([seed % 2**64, tilt + part * 2**32], np.uint64)
    normal = np.random.Generator(np.random.Philox(key=key)).standard_normal(mean.shape, dtype=np.float32)
    return poisson_quantile(np.maximum(mean, 0), normal)


def poisson_quantile(mean: Array, normal: Array) -> NDArray[np.float32]:
    """The count that lies as deep in the Poisson distribution as *normal* in the standard normal one.

    Expanded as in Giles 2016 (ACM TOMS 42, eq. 5), which is exact in nearly all cases for a mean above 10.
    """
    root = np.sqrt(np.maximum(mean, SMALL_MEAN))
    curved = normal**2 / 6 + (1 / 3) - (normal / 36 + normal**3 / 72) / root
    out = np.maximum(np.floor(mean + root * normal + curved), 0).astype(np.float32)
    few = mean < SMALL_MEAN
    if few.any():
        out[few] = _summed(mean[few].astype(np.float64), special.ndtr(normal[few].astype(np.float64)))
    return out


def _summed(mean: Floats, quantile: Floats) -> Floats:
    """The smallest count whose cumulated probability reaches *quantile*."""
    out = np.zeros_like(mean)
    probability = np.exp(-mean)
    reached = probability.copy()
    for k in range(1, 80):
        more = reached < quantile
        if not more.any():
            break
        out[more] = k
        probability *= mean / k
        reached += probability
    return out


def noise_factor(signal: Array, noise: Array, snr: float, mask: NDArray[np.bool_] | None = None) -> float:
    """By what to multiply *noise* so that var(signal) / var(noise), inside *mask*, is *snr*.

    Series and tomograms alike: reconstruction is linear, so that a tomogram of a wished SNR is
    ``reconstruct(signal) + factor * reconstruct(noise)``.
    """
    return float(np.sqrt(snr_of(signal, noise, mask) / snr))


def snr_of(signal: Array, noise: Array, mask: NDArray[np.bool_] | None = None) -> float:
    """var(signal) / var(noise) inside *mask*."""
    if mask is not None:
        signal, noise = signal[mask], noise[mask]
    return float(signal.var(dtype=np.float64) / noise.var(dtype=np.float64))
