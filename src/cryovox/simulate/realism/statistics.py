"""Statistics of a tomogram: spectrum, noise, profile, gray values and tilt range, without its objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from cryovox.core.config import Config, Contrast, validated
from cryovox.core.errors import RequestError
from cryovox.core.intensity import detect_contrast, sign_of
from cryovox.core.volume import Volume
from cryovox.simulate.realism.bandpass import band_power, bandpass_skewness
from cryovox.simulate.realism.spectrum import (
    ANGLE_NODES,
    KY_NODES,
    RADIUS_NODES,
    SHAPE,
    amplitude_filter,
    radial_power,
    robust_power_spectrum,
    z_score,
)
from cryovox.simulate.realism.tilt_range import estimate_tilt_range

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
Slab = tuple[int, int]
Tilts = tuple[float, float]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

_MIDDLE = np.arange(0.02, 0.99, 0.02).round(2).tolist()
LEVELS = (0.0005, 0.002, 0.005, 0.01, *_MIDDLE, 0.99, 0.995, 0.998, 0.9995)
"""Probabilities of the stored quantiles of gray values."""
MIN_SIZE = 24  # minimum size of the measured box in voxels
MAX_NOISE = 0.98  # maximum power of the noise relative to that within the slab
MIN_STD_RATIO = 1.3  # minimum ratio of the standard deviations within and outside the slab


class TomogramStatistics(Config):
    """Statistics to match. Gray values are normalized to zero mean and unit standard deviation over the
    measured box after removing a linear gradient, with bright particles.
    """

    voxel_size: float = Field(gt=0)
    """Voxel size in Å."""
    contrast: Literal["dark", "bright"]
    """Contrast of the particles in the tomogram."""
    mean: float
    """Mean of the gray values."""
    std: float = Field(gt=0)
    """Standard deviation of the gray values without their gradient."""
    shape: tuple[int, int, int]
    """Size of the measured box in voxels."""
    slab: tuple[int, int]
    """First plane of the slab, and the first plane after it."""
    skewness: float
    """Skewness of the gray values within the slab."""
    kurtosis: float
    """Excess kurtosis of the gray values within the slab."""
    levels: tuple[float, ...]
    """Quantiles within the slab at the probabilities `LEVELS`."""
    profile_mean: tuple[float, ...]
    """Mean of each plane along z."""
    profile_std: tuple[float, ...]
    """Standard deviation of each plane along z."""
    matter: tuple[tuple[tuple[float, ...], ...], ...]
    """Natural logarithm of the power within the slab on the nodes of `realism.spectrum` (frequency along the
    tilt axis, frequency across it, tilt); 0 for white noise of variance 1."""
    noise: tuple[tuple[tuple[float, ...], ...], ...]
    """The same for the noise."""
    matter_radial: tuple[float, ...]
    """Natural logarithm of the power within the slab in shells of the frequency."""
    noise_radial: tuple[float, ...]
    """The same for the noise."""
    noise_from: Literal["halves", "void", "floor"]
    """How the noise was estimated: from the difference of two half-tomograms, from the empty planes above
    and below the slab, or from the power at the highest frequencies."""
    noise_std: float
    """Standard deviation of the noise in gray values of the tomogram."""
    white: float
    """Noise power at the highest frequencies, relative to white noise with the variance of the tomogram."""
    share: float
    """Fraction of the power at the scale of particles (difference of Gaussians of 40 and 120 Å) within the
    slab that is not noise: an upper bound for known particles, since all other matter is included."""
    asymmetry: float
    """Skewness at the scale of particles within the slab; 0 for Gaussian noise."""
    tilts: tuple[float, float] | None = None
    """Minimum and maximum tilt about y in degrees; None if the missing wedge has no edges."""

    @property
    def sign(self) -> int:
        """-1 if particles are dark."""
        return sign_of(self.contrast)

    def powers(self) -> tuple[Floats, Floats]:
        """Total power within the slab and power of the noise, on the nodes."""
        return np.exp(np.array(self.matter)), np.exp(np.array(self.noise))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TomogramStatistics:
        """The reverse of `to_dict`; raises a RequestError if fields or nodes do not fit."""
        statistics = validated(cls, values, "tomogram statistics")
        if np.shape(statistics.matter) != SHAPE or np.shape(statistics.noise) != SHAPE:
            raise RequestError(
                "tomogram statistics", "its spectra have other nodes", "measure the tomogram again"
            )
        return statistics


def measure_statistics(
    data: NDArray[Any],
    voxel_size: float,
    *,
    box: Box | None = None,
    contrast: Contrast = "auto",
    halves: Sequence[NDArray[Any]] | None = None,
) -> TomogramStatistics:
    """Measure the statistics of a tomogram.

    The noise is estimated best from the difference of two half-tomograms, else from the empty planes above
    and below the slab, since back-projection distributes the noise evenly along z (streaks of matter count
    as noise there). Otherwise, power up to its level at the highest measured frequencies counts as noise:
    too much if those contain structure, too little if the tomogram was low-pass filtered.

    Parameters
    ----------
    data : (z, y, x)
        Tilted about y, beam along z.
    voxel_size
        Voxel size in Å.
    box : ((z0, z1), (y0, y1), (x0, x1))
        Part to measure; by default all of it.
    contrast
        "dark" or "bright" if it is known.
    halves
        Two half-tomograms of the same shape whose mean is the tomogram.
    """
    box_slices = _box_slices(data.shape, box)
    raw = np.asarray(data[box_slices], dtype=np.float32)
    if contrast == "auto":
        contrast = detect_contrast(Volume(raw, voxel_size))[0]
    normalized, mean, std = _normalize(raw)
    values = normalized * np.float32(sign_of(contrast))
    means, stds = values.mean(axis=(1, 2), dtype=np.float64), values.std(axis=(1, 2), dtype=np.float64)
    slab = find_slab(stds)
    inside = values[slab[0] : slab[1]]
    tilts = estimate_tilt_range(values)
    half = (
        None if halves is None else _half_difference(halves, box_slices)[slab[0] : slab[1]] / np.float32(std)
    )
    return TomogramStatistics(
        voxel_size=voxel_size,
        contrast=contrast,
        mean=mean,
        std=std,
        shape=raw.shape,
        slab=slab,
        skewness=_moment(inside, 3),
        kurtosis=_moment(inside, 4) - 3,
        levels=_round(quantiles(_dither(inside, _gray_level_step(raw) / std))),
        profile_mean=_round(means),
        profile_std=_round(stds),
        asymmetry=bandpass_skewness(inside, voxel_size),
        tilts=tilts,
        **_powers(values, slab, half, tilts, voxel_size, std),
    )


def _powers(
    values: Image, slab: Slab, half: Image | None, tilts: Tilts | None, voxel_size: float, std: float
) -> dict[str, Any]:
    """Fields about the power of matter and noise."""
    inside = values[slab[0] : slab[1]]
    matter, matter_radial = robust_power_spectrum(inside), radial_power(inside)
    void = void_spectra(values, slab)
    if half is not None:
        noise, radial, how = robust_power_spectrum(half), radial_power(half), "halves"
    elif void is not None:
        (noise, radial), how = void, "void"
    else:
        level, how = high_power(matter, tilts), "floor"
        noise, radial = np.minimum(matter, level), np.minimum(matter_radial, level)
    noise = np.minimum(noise, MAX_NOISE * matter)
    variance = float(np.square(amplitude_filter(noise, (32, 32, 32)), dtype=np.float64).mean())
    return {
        "matter": _round_nodes(np.log(matter)),
        "noise": _round_nodes(np.log(noise)),
        "matter_radial": _round(np.log(matter_radial)),
        "noise_radial": _round(np.log(radial)),
        "noise_from": how,
        "noise_std": std * variance**0.5,
        "white": high_power(noise, tilts),
        "share": 1 - band_power(noise, voxel_size) / band_power(matter, voxel_size),
    }


def find_slab(std: Floats) -> tuple[int, int]:
    """First plane of the slab and the first after it, from the standard deviation of each plane.

    Otsu's threshold of the standard deviations (1979, doi 10.1109/TSMC.1979.4310076); all planes if the
    classes are similar.
    """
    all_planes = (0, len(std))
    ordered = np.sort(std)
    if len(ordered) < 8 or ordered[-1] <= 0:
        return all_planes
    sums, n = np.cumsum(ordered)[:-1], np.arange(1, len(ordered))
    low, high = sums / n, (ordered.sum() - sums) / n[::-1]
    best = int(np.argmax(n * n[::-1] * (high - low) ** 2))
    if high[best] < MIN_STD_RATIO * low[best]:
        return all_planes
    smoothed = ndimage.median_filter(std, 5, mode="nearest")
    inside = np.flatnonzero(smoothed > (low[best] + high[best]) / 2)
    slab = (int(inside[0]), int(inside[-1]) + 1) if inside.size else all_planes
    return slab if slab[1] - slab[0] >= 6 else all_planes  # a bright edge of a tomogram is not a slab


def void_spectra(values: Image, slab: Slab, margin: int = 3) -> tuple[Floats, Floats] | None:
    """Power of the empty planes above and below a slab, on the nodes and in shells.

    None if there are fewer than 12 planes on either side.
    """
    parts = [values[: max(0, slab[0] - margin)], values[slab[1] + margin :]]
    parts = [part for part in parts if len(part) >= 12]
    if not parts:
        return None
    planes = [len(part) for part in parts]
    whole = np.average([np.log(robust_power_spectrum(part)) for part in parts], axis=0, weights=planes)
    radial = np.average([np.log(radial_power(part)) for part in parts], axis=0, weights=planes)
    return np.exp(whole), np.exp(radial)


def high_power(power: Floats, tilts: Tilts | None) -> float:
    """Median power from 0.38 to 0.48 cycles per voxel, outside the missing wedge."""
    k = np.hypot(KY_NODES[:, None], RADIUS_NODES)[:, :, None]
    low, high = tilts or (-45.0, 45.0)
    inside = (low + 5 < ANGLE_NODES) & (high - 5 > ANGLE_NODES)
    return float(np.median(power[(k > 0.38) & (k < 0.48) & (RADIUS_NODES[:, None] > 0.1) & inside]))


def quantiles(values: Image) -> Floats:
    """Quantiles at the probabilities `LEVELS`; of every fourth voxel of large volumes."""
    return np.asarray(np.quantile(values[:, ::2, ::2] if values.size > 1 << 24 else values, LEVELS))


def _dither(values: Image, step: float) -> Image:
    """Add uniform noise to a tomogram of integers, whose quantiles would be steps."""
    if step == 0:
        return values
    rng = np.random.Generator(np.random.Philox(key=0))
    shift = rng.random(values.shape, dtype=np.float32) - np.float32(0.5)
    return (values + np.float32(step) * shift).astype(np.float32)


def _gray_level_step(raw: Image) -> float:
    """Step between neighboring gray values if there are few distinct values; else 0."""
    levels = np.unique(raw[:, ::4, ::4])
    return float(np.median(np.diff(levels))) if 2 <= levels.size <= 4096 else 0.0


def _half_difference(halves: Sequence[NDArray[Any]], box_slices: tuple[slice, slice, slice]) -> Image:
    """Half the difference of two halves: the noise of their mean, without signal."""
    first, second = (np.asarray(half[box_slices], dtype=np.float32) for half in halves)
    return (first - second) * np.float32(0.5)


def _normalize(raw: Image) -> tuple[Image, float, float]:
    """Normalized data without the linear gradient, and the original mean and standard deviation."""
    finite = np.isfinite(raw)
    if not finite.any() or float(raw[finite].std()) == 0:
        raise RequestError("tomogram", "has no contrast in the measured box", "choose another part of it")
    mean = float(raw[finite].mean(dtype=np.float64))
    values = np.where(finite, raw - np.float32(mean), 0).astype(np.float32)
    for axis, n in enumerate(raw.shape):
        ramp = np.linspace(-1, 1, n)
        line = values.mean(axis=tuple(i for i in range(3) if i != axis), dtype=np.float64)
        slope = float(line @ ramp / (ramp @ ramp))
        values -= (slope * ramp).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    std = float(values.std(dtype=np.float64))
    return z_score(values), mean, std


def _box_slices(shape: tuple[int, ...], box: Box | None) -> tuple[slice, slice, slice]:
    ends = box or tuple((0, n) for n in shape)
    ranges = ", ".join(f"{name} {a}:{b}" for name, (a, b) in zip("zyx", ends, strict=True))
    if len(shape) != 3 or any(a < 0 or b > n for (a, b), n in zip(ends, shape, strict=True)):
        raise RequestError("box", f"{ranges} is not within {shape}", "give voxels as (z, y, x) ranges")
    if any(b - a < MIN_SIZE for a, b in ends):
        raise RequestError(
            "box", f"{ranges} is too small", f"take at least {MIN_SIZE} voxels along each axis"
        )
    z, y, x = (slice(a, b) for a, b in ends)
    return z, y, x


def _moment(values: Image, order: int) -> float:
    standard = np.clip(z_score(values), -8, 8)
    return float(np.mean(standard**order, dtype=np.float64))


def _round(values: Floats) -> tuple[float, ...]:
    return tuple(np.round(values, 4).tolist())


def _round_nodes(values: Floats) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(tuple(row) for row in plane) for plane in np.round(values, 2).tolist())
