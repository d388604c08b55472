"""Noise like the background of a tomogram, in which false picks are counted.

The power spectrum of a tomogram contains the power of its particles. Noise with this spectrum and random
phases has blobs of the size of the particles all over, on which a model scores higher than on the true
background. Here the spectrum is estimated beside strong picks. Strong picks in pure noise are its highest
peaks, and the noise beside them is weaker than the whole, by a ratio that is measured in phase-randomized
noise and divided out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

REACH = 1.25
"""Radii around a pick that are left out of the background."""
LEAST = 0.2
"""Fraction of the volume that has to remain beside the picks; else the spectrum is that of everything."""
MIN_CORRELATION = 0.9
"""Correlation of a tomogram with the mean of its halves, below which they are not its halves."""


@dataclass(frozen=True, eq=False)
class Shells:
    """Power in shells of radial frequency.

    Attributes
    ----------
    frequency, power : (n,)
        Middle of each shell in cycles per voxel, and mean power in it.
    """

    frequency: Float
    power: Float

    def ratio(self, other: Shells) -> Shells:
        """Power relative to that of another volume."""
        below = np.interp(self.frequency, other.frequency, other.power)
        return Shells(self.frequency, self.power / np.maximum(below, 1e-12))


def beside(shape: tuple[int, ...], centers: Float, radii: Float) -> NDArray[np.bool_]:
    """Voxels beside picks: farther than `REACH` radii from each.

    Parameters
    ----------
    shape
        Of the volume.
    centers, radii : (n, 3), (n,)
        In voxels; centers may lie outside.
    """
    free = np.ones(shape, bool)
    for center, radius in zip(centers, REACH * np.asarray(radii), strict=True):
        low = np.clip(np.ceil(center - radius), 0, shape).astype(int)
        high = np.clip(np.floor(center + radius) + 1, 0, shape).astype(int)
        if (low >= high).any():
            continue
        z, y, x = (
            (np.arange(a, b) - c).astype(np.float32) for a, b, c in zip(low, high, center, strict=True)
        )
        distance = (z * z)[:, None, None] + (y * y)[None, :, None] + (x * x)[None, None, :]
        free[low[0] : high[0], low[1] : high[1], low[2] : high[2]] &= distance > radius**2
    return free


def shells(data: NDArray[np.float32], inside: NDArray[np.bool_] | None = None) -> Shells:
    """Mean power of a volume, or of its part inside a mask, in shells as wide as its frequencies."""
    if inside is None:
        values, share = data - data.mean(dtype=np.float64).astype(np.float32), 1.0
    else:
        mean = data[inside].mean(dtype=np.float64).astype(np.float32)
        values, share = np.where(inside, data - mean, np.float32(0)), float(inside.mean())
    power = np.square(np.abs(np.fft.rfftn(values))) / (share * data.size)
    which = np.rint(radial_frequency(data.shape) * min(data.shape)).astype(np.intp)
    count = np.bincount(which.ravel())
    mean_power = np.bincount(which.ravel(), power.ravel()) / np.maximum(count, 1)
    return Shells(np.arange(len(count)) / min(data.shape), mean_power)


def background_noise(
    data: NDArray[np.float32],
    inside: NDArray[np.bool_],
    control: NDArray[np.float32],
    control_inside: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Noise with the power spectrum of a volume beside its picks.

    The amplitudes of the volume, with its missing wedge, are lowered by the ratio of the power beside the
    picks to that everywhere, in shells of frequency, and never raised.

    Parameters
    ----------
    data, inside
        The volume, and its voxels beside picks.
    control, control_inside
        Phase-randomized noise of the same spectrum, and its voxels beside what is picked in it.
    """
    if min(inside.mean(), control_inside.mean()) < LEAST:
        inside, control_inside = np.ones_like(inside), np.ones_like(control_inside)
    ratio = shells(data, inside).ratio(shells(data))
    bias = shells(control, control_inside).ratio(shells(control))
    unbiased = ratio.power / np.clip(np.interp(ratio.frequency, bias.frequency, bias.power), 0.25, 1.0)
    gain = np.sqrt(np.clip(unbiased, 0.0, 1.0)).astype(np.float32)
    noise = np.fft.rfftn(rng.standard_normal(data.shape, np.float32))
    noise /= np.maximum(np.abs(noise), 1e-12)
    mean = data[inside].mean(dtype=np.float64).astype(np.float32)
    noise *= np.abs(np.fft.rfftn(data - data.mean(dtype=np.float64).astype(np.float32)))
    noise *= np.interp(radial_frequency(data.shape), ratio.frequency, gain)
    return np.fft.irfftn(noise, s=data.shape, axes=(0, 1, 2)).astype(np.float32) + mean


def half_difference(
    whole: NDArray[Any], even: NDArray[Any], odd: NDArray[Any]
) -> tuple[NDArray[np.float32], float]:
    """Noise of a tomogram from its half tomograms, and the correlation of the tomogram with their mean.

    Where the tomogram is the mean of the halves and their noise is independent, half their difference has the
    same noise and no particles. It is scaled to the gray values of the tomogram.
    """
    first, second, target = (np.asarray(data, np.float32) for data in (even, odd, whole))
    mean = (first + second) / 2
    mean -= mean.mean(dtype=np.float64).astype(np.float32)
    target = target - target.mean(dtype=np.float64).astype(np.float32)
    product = float(np.mean(mean * target, dtype=np.float64))
    power, other = (float(np.mean(np.square(v), dtype=np.float64)) for v in (mean, target))
    correlation = product / max(np.sqrt(power * other), 1e-30)
    scale = np.float32(product / max(power, 1e-30))
    return (first - second) * (scale / 2), correlation


def radial_frequency(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Distance from zero frequency of the half spectrum of a volume, in cycles per voxel."""
    z, y = (np.fft.fftfreq(n).astype(np.float32) for n in shape[:2])
    x = np.fft.rfftfreq(shape[2]).astype(np.float32)
    return np.sqrt((z * z)[:, None, None] + (y * y)[None, :, None] + (x * x)[None, None, :])
