"""Radial amplitude spectra of images, and filters that match them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Array = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]


def ring_count(shape: tuple[int, ...]) -> int:
    """Number of rings in the spectrum of an image of *shape*, at most 64."""
    return min(64, min(shape) // 2)


def radial_amplitude(series: Array, bins: int = 64) -> Floats:
    """Root mean square Fourier amplitude per pixel of each image in *bins* rings from 0 to Nyquist.

    Parameters
    ----------
    series : (n, y, x)

    Returns
    -------
    (n, bins)
        1 for white noise of variance 1. The mean of the image is excluded.
    """
    ring, weight = _rings(series.shape[1:], bins)
    members = np.bincount(ring, weight, bins + 1)[:bins]
    out = np.empty((len(series), bins))
    for image, row in zip(series, out, strict=True):
        power = np.abs(fft.rfft2(image.astype(np.float64))).ravel() ** 2 / image.size
        row[:] = np.sqrt(np.bincount(ring, weight * power, bins + 1)[:bins] / np.maximum(members, 1))
    return out


def amplitude_gain(series: Array, target: Array) -> Floats:
    """Factors (n, bins) that bring the rings of each image to *target*, (bins,) or (n, bins).

    *target* is a `radial_amplitude`, for example of an experimental series.
    """
    own = radial_amplitude(series, np.shape(target)[-1])
    return target / np.maximum(own, 1e-6 * own.max(1, keepdims=True))


def filter_rings(series: Array, gain: Floats) -> NDArray[np.float32]:
    """Multiply the rings of (n, y, x) images by (n, bins) factors; means are kept."""
    bins = gain.shape[1]
    ring = np.minimum((_relative_frequency(series.shape[1:]) * bins).astype(int), bins - 1)
    out = np.empty(series.shape, np.float32)
    for image, factors, filtered in zip(series, gain, out, strict=True):
        transfer = factors[ring]
        transfer[0, 0] = 1.0
        filtered[:] = fft.irfft2(fft.rfft2(image.astype(np.float64)) * transfer, s=image.shape)
    return out


def _relative_frequency(shape: tuple[int, ...]) -> Floats:
    """Frequency relative to Nyquist on the `rfft2` grid."""
    return 2 * np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None, :])


def _rings(shape: tuple[int, ...], bins: int) -> tuple[NDArray[np.int64], Floats]:
    """Ring of every `rfft2` coefficient (*bins* beyond Nyquist), and its multiplicity."""
    ring = np.minimum((_relative_frequency(shape) * bins).astype(int), bins)
    counts = np.tile(multiplicity(shape[1]), (shape[0], 1))
    counts[0, 0] = 0.0
    return ring.ravel(), counts.ravel()


def multiplicity(size: int) -> NDArray[np.float64]:
    """(size // 2 + 1,): 2 along the last axis of an `rfftn` over *size* samples; 1 if k equals -k."""
    counts = np.full(size // 2 + 1, 2.0)
    counts[0] = 1.0
    if size % 2 == 0:
        counts[-1] = 1.0
    return counts
