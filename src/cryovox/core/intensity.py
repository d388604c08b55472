"""Gray values: normalization, statistics, contrast and wrapped bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.config import Contrast
from cryovox.core.volume import Volume, Voxels, release_pages

MIN_CERTAINTY = 3.0
"""Minimum certainty of a reliable contrast estimate."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """Normalization of raw gray values to network input: ``sign * (v - mean) / std``.

    Particles are bright in network input; `sign` is -1 for tomograms in which they are dark.
    """

    mean: float
    std: float
    sign: int = 1

    def __call__(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        scale = self.sign / self.std
        return (np.asarray(raw, dtype=np.float32) - np.float32(self.mean)) * np.float32(scale)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Moments and range of a volume, and its number of values that are not finite."""

    mean: float
    std: float
    low: float
    high: float
    not_finite: int


def slabs(data: Voxels, voxels: int = 1 << 22) -> Iterator[NDArray[Any]]:
    """Yield slabs along z of about that many voxels, in order; a memory map keeps none of them in memory."""
    planes = max(1, voxels // max(1, data.shape[1] * data.shape[2]))
    for z in range(0, data.shape[0], planes):
        yield data[z : z + planes]
        release_pages(data)


def statistics(data: Voxels) -> Statistics:
    """Moments over all finite voxels, computed slab by slab."""
    count, total, squares, not_finite = 0, 0.0, 0.0, 0
    low, high, shift = np.inf, -np.inf, None
    for slab in slabs(data):
        values = np.asarray(slab, dtype=np.float64).ravel()
        finite = np.isfinite(values)
        if not finite.all():
            not_finite += int((~finite).sum())
            values = values[finite]
        if values.size == 0:
            continue
        if shift is None:
            shift = float(values.mean())
        values = values - shift
        count += values.size
        total += float(values.sum())
        squares += float(np.square(values).sum())
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if count == 0 or shift is None:
        return Statistics(np.nan, np.nan, np.nan, np.nan, not_finite)
    mean = total / count
    std = float(np.sqrt(max(0.0, squares / count - mean**2)))
    return Statistics(mean + shift, std, low + shift, high + shift, not_finite)


@dataclass(frozen=True, slots=True)
class WrappedBytes:
    """Unsigned bytes (0 to 255) that were read as signed ones (-128 to 127).

    Attributes
    ----------
    low, high : int
        Lowest and highest value as unsigned bytes.
    """

    low: int
    high: int

    def __str__(self) -> str:
        return (
            f"its bytes look wrapped: read as signed ones they form two groups at both ends of -128 to "
            f"127, as unsigned ones they are {self.low} to {self.high}"
        )


def wrapped_bytes(data: Voxels) -> WrappedBytes | None:
    """Detect unsigned bytes that a header declares as signed.

    Gray values have one mode. Read with the wrong sign it is split, so the spread grows; signed bytes are
    centered on 0 and have a smaller spread as they are.
    """
    if data.dtype != np.int8:
        return None
    counts = np.zeros(256, np.int64)
    for slab in slabs(data):
        counts += np.bincount(slab.astype(np.uint8).ravel(), minlength=256)
    unsigned, margin = np.arange(256), 8
    is_split = _spread(unsigned.astype(np.int8), counts) > 1.25 * _spread(unsigned, counts)
    ends, middle = counts[:margin].sum() + counts[-margin:].sum(), counts[128 - margin : 128 + margin].sum()
    if not is_split or ends > middle:
        return None
    present = np.flatnonzero(counts)
    return WrappedBytes(int(present[0]), int(present[-1]))


def _spread(values: NDArray[Any], counts: NDArray[np.int64]) -> float:
    """Standard deviation of a histogram."""
    mean = np.average(values, weights=counts)
    return float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))


def sign_of(contrast: Contrast, otherwise: int = -1) -> int:
    """+1 if particles are bright, -1 if dark, *otherwise* for "auto"."""
    return {"bright": 1, "dark": -1, "auto": otherwise}[contrast]


def detect_contrast(volume: Volume) -> tuple[Contrast, float]:
    """Estimate whether particles are dark or bright, and the certainty of the estimate.

    Particles fill less volume than solvent, so after a band-pass at particle scale (40 to 120 Å) the long
    tail of the histogram is on the side of the particles. At most 160^3 voxels of about 10 Å, or of the voxel
    size of the volume if that is larger, are used.

    Returns
    -------
    contrast : "dark" or "bright"
    certainty : float
        Absolute skewness divided by its standard error over eight parts; the estimate is unreliable below
        `MIN_CERTAINTY`.
    """
    from scipy import ndimage

    data, voxel = _center(volume)
    fine = ndimage.gaussian_filter(data, max(0.8, 40.0 / voxel))
    band = fine - ndimage.gaussian_filter(data, max(1.6, 120.0 / voxel))
    parts = [
        part
        for half in np.array_split(band, 2, axis=0)
        for quarter in np.array_split(half, 2, axis=1)
        for part in np.array_split(quarter, 2, axis=2)
        if part.size
    ]
    skews = np.array([_skewness(part) for part in parts])
    spread = float(skews.std() / np.sqrt(len(skews))) + 1e-6
    mean = float(skews.mean())
    return ("dark" if mean < 0 else "bright"), abs(mean) / spread


def _center(volume: Volume, size: int = 160) -> tuple[NDArray[np.float32], float]:
    """The center of a volume, binned to about 10 Å, without NaN; and its voxel size in Å."""
    factor = max(1, round(10.0 / volume.voxel_size))
    slices = []
    for n in volume.shape:
        take = min(n, size * factor)
        take -= take % factor if take >= factor else 0
        slices.append(slice((n - take) // 2, (n - take) // 2 + take))
    z, y, x = slices
    if any((part.stop - part.start) % factor for part in slices):
        factor = 1
    parts = []
    for first in range(z.start, z.stop, 8 * factor):
        parts.append(_binned(volume.data[first : min(first + 8 * factor, z.stop), y, x], factor))
        release_pages(volume.data)
    return np.concatenate(parts), volume.voxel_size * factor


def _binned(block: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Means of cubes of a block, without values that are not finite."""
    values = np.array(block, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        values[~finite] = values[finite].mean() if finite.any() else 0.0
    z, y, x = (n // factor for n in values.shape)
    return values.reshape(z, factor, y, factor, x, factor).mean(axis=(1, 3, 5)) if factor > 1 else values


def _skewness(values: NDArray[np.float32]) -> float:
    # clip at 5 sigma, so that a few gold beads do not dominate
    centered = values - values.mean()
    std = float(centered.std()) + 1e-12
    return float(np.mean(np.clip(centered / std, -5, 5) ** 3))
