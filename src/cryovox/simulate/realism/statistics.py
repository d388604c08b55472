"""What a tomogram looks like, apart from what is in it: enough to imitate it."""

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

LEVELS = (
    0.0005,
    0.002,
    0.005,
    0.01,
    *np.arange(0.02, 0.99, 0.02).round(2).tolist(),
    0.99,
    0.995,
    0.998,
    0.9995,
)
"""Probabilities at which the quantiles of grey values are kept."""
SIDE = 24  # voxels: the least along each axis of what is measured
MOST = 0.98  # of the power inside of a slab: what noise can be
STEP = 1.3  # times more spread inside of a slab than outside


class TomogramStatistics(Config):
    """What is to be imitated. Values are standardised: zero mean and unit standard deviation over the
    measured box after removing a linear gradient, particles bright.
    """

    voxel_size: float = Field(gt=0)
    """Å."""
    contrast: Literal["dark", "bright"]
    """Of the particles in the tomogram itself."""
    mean: float
    """Of its grey values."""
    std: float = Field(gt=0)
    """Of its grey values, without their gradient."""
    shape: tuple[int, int, int]
    """Of what was measured, in voxels."""
    slab: tuple[int, int]
    """First plane that holds matter, and the first after it that does not."""
    skewness: float
    """Of the grey values inside of the slab."""
    kurtosis: float
    """... and their excess kurtosis."""
    levels: tuple[float, ...]
    """Quantiles inside of the slab at the probabilities `LEVELS`."""
    profile_mean: tuple[float, ...]
    """Of each plane along z."""
    profile_std: tuple[float, ...]
    """Standard deviation of each plane along z."""
    matter: tuple[tuple[tuple[float, ...], ...], ...]
    """Natural logarithm of the power inside of the slab on the nodes of `likeness.spectrum`: frequency
    along the tilt axis, frequency across it, tilt. White noise of variance 1 has 0 everywhere."""
    noise: tuple[tuple[tuple[float, ...], ...], ...]
    """The same of what is taken for noise."""
    matter_radial: tuple[float, ...]
    """Natural logarithm of the power inside of the slab in shells of the frequency."""
    noise_radial: tuple[float, ...]
    """The same of the noise."""
    noise_from: Literal["halves", "void", "floor"]
    """How the noise was found: from the difference of two half-tomograms, from the void above and
    below the slab, or from the power at the highest frequencies."""
    noise_std: float
    """Of the noise in grey values of the tomogram."""
    white: float
    """Noise power per voxel of frequency space at the highest frequencies, where 1 would be white noise
    as strong as the whole tomogram."""
    share: float
    """Part of the power at the scale of particles (a difference of Gaussians of 40 and 120 Å) inside of
    the slab that is no noise. It is an upper bound for known particles: whatever else fills the
    sample counts as well."""
    asymmetry: float
    """Skewness at the scale of particles, inside of the slab; Gaussian noise has none."""
    tilts: tuple[float, float] | None = None
    """Lowest and highest tilt about y, degrees; None where no edge of a missing wedge is seen."""

    @property
    def sign(self) -> int:
        """-1 where particles are dark."""
        return sign_of(self.contrast)

    @property
    def largest_tilt(self) -> float | None:
        """The larger of the two ends of the tilts in degrees."""
        return None if self.tilts is None else max(abs(t) for t in self.tilts)

    def powers(self) -> tuple[Floats, Floats]:
        """Power of matter with noise, and of noise, on the nodes."""
        return np.exp(np.array(self.matter)), np.exp(np.array(self.noise))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> TomogramStatistics:
        """The reverse of `to_dict`; what does not fit is a RequestError."""
        made = validated(cls, found, "likeness")
        if np.shape(made.matter) != SHAPE or np.shape(made.noise) != SHAPE:
            raise RequestError("likeness", "its spectra have other nodes", "measure the tomogram again")
        return made


def measure_statistics(
    data: NDArray[Any],
    voxel_size: float,
    *,
    box: Box | None = None,
    contrast: Contrast = "auto",
    halves: Sequence[NDArray[Any]] | None = None,
) -> TomogramStatistics:
    """Measure what is needed to imitate a tomogram.

    Noise is the hard part. Best known is the difference of two half-tomograms; next the void above
    and below the slab, over which back-projection spreads the noise of the images as evenly as
    over the slab itself (streaks of matter count as noise there); else power is taken for noise up to
    the level that it has at the highest measured frequencies, which is too much where those still
    show structure, and too little where the tomogram was low-passed.

    Parameters
    ----------
    data : (z, y, x)
        Tilted about y, beam along z.
    voxel_size
        Å.
    box : ((z0, z1), (y0, y1), (x0, x1))
        The part that is looked at; all of it by default.
    contrast
        "dark" or "bright" where it is known.
    halves
        Two half-tomograms of the same shape whose mean is the tomogram.
    """
    cut = _cut(data.shape, box)
    raw = np.asarray(data[cut], dtype=np.float32)
    known = detect_contrast(Volume(raw, voxel_size))[0] if contrast == "auto" else contrast
    level, mean, std = _level(raw)
    values = level * np.float32(sign_of(known))
    means, spreads = values.mean(axis=(1, 2), dtype=np.float64), values.std(axis=(1, 2), dtype=np.float64)
    slab = find_slab(spreads)
    inside = values[slab[0] : slab[1]]
    tilts = estimate_tilt_range(values)
    half = None if halves is None else _half_difference(halves, cut)[slab[0] : slab[1]] / np.float32(std)
    return TomogramStatistics(
        voxel_size=voxel_size,
        contrast=known,
        mean=mean,
        std=std,
        shape=raw.shape,
        slab=slab,
        skewness=_moment(inside, 3),
        kurtosis=_moment(inside, 4) - 3,
        levels=_rounded(quantiles(_dithered(inside, _rounding(raw) / std))),
        profile_mean=_rounded(means),
        profile_std=_rounded(spreads),
        asymmetry=bandpass_skewness(inside, voxel_size),
        tilts=tilts,
        **_powers(values, slab, half, tilts, voxel_size, std),
    )


def _powers(
    values: Image, slab: Slab, half: Image | None, tilts: Tilts | None, voxel_size: float, std: float
) -> dict[str, Any]:
    """The fields of a likeness that are about matter and noise."""
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
    noise = np.minimum(noise, MOST * matter)
    variance = float(np.square(amplitude_filter(noise, (32, 32, 32)), dtype=np.float64).mean())
    return {
        "matter": _nested(np.log(matter)),
        "noise": _nested(np.log(noise)),
        "matter_radial": _rounded(np.log(matter_radial)),
        "noise_radial": _rounded(np.log(radial)),
        "noise_from": how,
        "noise_std": std * variance**0.5,
        "white": high_power(noise, tilts),
        "share": 1 - band_power(noise, voxel_size) / band_power(matter, voxel_size),
    }


def find_slab(spread: Floats) -> tuple[int, int]:
    """The planes that hold matter, from the standard deviation of each.

    The cut that parts the spreads into two classes with the most variance between them (Otsu 1979,
    doi 10.1109/TSMC.1979.4310076); all planes where the classes are alike.
    """
    everything = (0, len(spread))
    ranked = np.sort(spread)
    if len(ranked) < 8 or ranked[-1] <= 0:
        return everything
    sums, n = np.cumsum(ranked)[:-1], np.arange(1, len(ranked))
    low, high = sums / n, (ranked.sum() - sums) / n[::-1]
    best = int(np.argmax(n * n[::-1] * (high - low) ** 2))
    if high[best] < STEP * low[best]:
        return everything
    calm = ndimage.median_filter(spread, 5, mode="nearest")
    inside = np.flatnonzero(calm > (low[best] + high[best]) / 2)
    # a bright edge of a tomogram is no slab
    found = (int(inside[0]), int(inside[-1]) + 1) if inside.size else everything
    return found if found[1] - found[0] >= 6 else everything


def void_spectra(values: Image, slab: Slab, margin: int = 3) -> tuple[Floats, Floats] | None:
    """Power on the nodes and in shells of what lies above and below a slab.

    None where there are fewer than 12 planes on either side.
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
    """Median power from 0.38 to 0.48 cycles per voxel, inside of what was measured."""
    k = np.hypot(KY_NODES[:, None], RADIUS_NODES)[:, :, None]
    low, high = tilts or (-45.0, 45.0)
    inside = (low + 5 < ANGLE_NODES) & (high - 5 > ANGLE_NODES)
    return float(np.median(power[(k > 0.38) & (k < 0.48) & (RADIUS_NODES[:, None] > 0.1) & inside]))


def quantiles(values: Image) -> Floats:
    """At the probabilities `LEVELS`; of every fourth voxel where there are many."""
    return np.asarray(np.quantile(values[:, ::2, ::2] if values.size > 1 << 24 else values, LEVELS))


def _dithered(values: Image, step: float) -> Image:
    """Undo the rounding of a tomogram of whole numbers: its quantiles would be steps."""
    if step == 0:
        return values
    rng = np.random.Generator(np.random.Philox(key=0))
    shift = rng.random(values.shape, dtype=np.float32) - np.float32(0.5)
    return (values + np.float32(step) * shift).astype(np.float32)


def _rounding(raw: Image) -> float:
    """Distance of neighbouring grey values where there are few different ones; else 0."""
    found = np.unique(raw[:, ::4, ::4])
    return float(np.median(np.diff(found))) if 2 <= found.size <= 4096 else 0.0


def _half_difference(halves: Sequence[NDArray[Any]], cut: tuple[slice, slice, slice]) -> Image:
    """Half of the difference of two halves has the noise of their mean, and no signal."""
    first, second = (np.asarray(half[cut], dtype=np.float32) for half in halves)
    return (first - second) * np.float32(0.5)


def _level(raw: Image) -> tuple[Image, float, float]:
    """Standardise without the linear gradient; with the mean and the standard deviation before."""
    finite = np.isfinite(raw)
    if not finite.any() or float(raw[finite].std()) == 0:
        raise RequestError("tomogram", "has no contrast where it is measured", "choose another part of it")
    mean = float(raw[finite].mean(dtype=np.float64))
    values = np.where(finite, raw - np.float32(mean), 0).astype(np.float32)
    for axis, n in enumerate(raw.shape):
        ramp = np.linspace(-1, 1, n)
        line = values.mean(axis=tuple(i for i in range(3) if i != axis), dtype=np.float64)
        slope = float(line @ ramp / (ramp @ ramp))
        values -= (slope * ramp).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    std = float(values.std(dtype=np.float64))
    return z_score(values), mean, std


def _cut(shape: tuple[int, ...], box: Box | None) -> tuple[slice, slice, slice]:
    ends = box or tuple((0, n) for n in shape)
    told = ", ".join(f"{name} {a}:{b}" for name, (a, b) in zip("zyx", ends, strict=True))
    if len(shape) != 3 or any(a < 0 or b > n for (a, b), n in zip(ends, shape, strict=True)):
        raise RequestError("box", f"{told} is not inside of {shape}", "give voxels as (z, y, x) ranges")
    if any(b - a < SIDE for a, b in ends):
        raise RequestError("box", f"{told} is too small", f"take at least {SIDE} voxels along each axis")
    z, y, x = (slice(a, b) for a, b in ends)
    return z, y, x


def _moment(values: Image, order: int) -> float:
    standard = np.clip(z_score(values), -8, 8)
    return float(np.mean(standard**order, dtype=np.float64))


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(np.round(values, 4).tolist())


def _nested(values: Floats) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(tuple(row) for row in plane) for plane in np.round(values, 2).tolist())
