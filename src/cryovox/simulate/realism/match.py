"""Match a simulated tomogram to the imaging conditions of a real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cryovox.core.errors import RequestError
from cryovox.simulate.realism.bandpass import band_power, bandpass, clipped_skewness
from cryovox.simulate.realism.spectrum import (
    SHELLS,
    Shape,
    amplitude_filter,
    radial_filter,
    radial_power,
    robust_power_spectrum,
    smooth_nodes,
    z_score,
)
from cryovox.simulate.realism.statistics import TomogramStatistics, find_slab, quantiles, void_spectra

Floats = NDArray[np.float64]
Image = NDArray[np.float32]

MIN_SIGNAL = 0.03  # minimum fraction of signal
ITERATIONS = 5
DAMPING = 0.8  # exponent of the corrections
MAX_EXCESS = 2.0  # ratio to the target above which power is removed at the end
SMOOTHING = 1.2  # standard deviation in nodes over which corrections are smoothed
FILL, NOISE = 1, 2  # random streams


@dataclass(frozen=True, eq=False)
class NoiseMixture:
    """Spectra of the signal and of the added noise, on the nodes of `realism.spectrum`.

    Attributes
    ----------
    signal
        Squared filter of the noise-free tomogram.
    fill
        Power of Gaussian noise within the slab, for unknown matter.
    noise
        Power of Gaussian noise everywhere.
    signal_fraction
        Fraction of the power at the scale of particles, within the slab, that is signal.
    matter_shells, noise_shells
        Squared radial filters of signal and fill, and of noise: a finer correction than the nodes allow.
    """

    signal: Floats
    fill: Floats
    noise: Floats
    signal_fraction: float
    matter_shells: Floats
    noise_shells: Floats


def match_tomogram(
    clean: NDArray[np.float32],
    target: TomogramStatistics,
    rng: np.random.Generator | int,
    *,
    signal: float | None = None,
    iterations: int = ITERATIONS,
) -> Image:
    """Match spectrum, noise, profile along z and gray values of a simulation to those of a real tomogram.

    The noise-free tomogram is scaled, and attenuated at frequencies at which it exceeds the power of the
    target. Gaussian noise supplies the rest: the noise of the target everywhere, and the remaining power
    within the slab. Then the standard deviation along z and, by a monotone map, the quantiles of the gray
    values are matched. This changes the spectrum slightly, so the steps are repeated with corrected powers.

    Parameters
    ----------
    clean : (z, y, x)
        Noise-free tomogram with the voxel size of the target, particles bright, CTF and missing wedge
        applied. Its slab is detected and matched to that of the target.
    target
        Statistics of the real tomogram.
    rng
        Seed, or a generator that a seed is drawn from.
    signal
        Fraction of the power at the scale of particles (band-pass of 40 and 120 Å), within the slab, that
        comes from *clean*; by default from `estimate_signal_fraction`.
    iterations
        Number of repetitions.

    Returns
    -------
    (z, y, x) float32
        With the mean, standard deviation and contrast of the target; if the slabs take different fractions
        of the volumes, those within the slab.
    """
    seed = int(rng.integers(2**63)) if isinstance(rng, np.random.Generator) else int(rng)
    scene = z_score(clean)
    slab = find_slab(clean.std(axis=(1, 2), dtype=np.float64))
    if float(scene.std()) == 0:
        raise RequestError("simulated scene", "is empty", "place at least one particle")
    mixture = initial_mixture(scene[slab[0] : slab[1]], target, signal)
    profile = DepthProfile.of(slab, len(scene), target)
    noises = (_white_noise(scene.shape, seed, stream) for stream in (FILL, NOISE))
    spectra = [fft.rfftn(part) for part in (scene, *noises)]
    for iteration in range(iterations):
        image = _match_profile(_mix(spectra, mixture, profile, scene.shape), profile)
        image = _match_quantiles(image, target, slab, profile)
        if iteration < iterations - 1:
            mixture = _correct(mixture, image, target, slab)
    image = _remove_excess(image, target, slab)
    return (image * np.float32(target.sign * target.std) + np.float32(target.mean)).astype(np.float32)


def initial_mixture(scene: Image, target: TomogramStatistics, signal: float | None = None) -> NoiseMixture:
    """First estimate of the mixture, from the slab of a z-scored noise-free tomogram."""
    scene_power = robust_power_spectrum(scene)
    total, noise = target.powers()
    fraction = estimate_signal_fraction(scene, target) if signal is None else signal
    if not 0 <= fraction <= 1:
        raise RequestError("signal", f"{fraction} is not a fraction", "choose from 0 to 1")
    available = total - noise
    gain = _signal_gain(
        scene_power, available, fraction * band_power(total, target.voxel_size), target.voxel_size
    )
    signal_power = np.minimum(gain * scene_power, available)
    fill = np.maximum(available - signal_power, 0.01 * total)
    return NoiseMixture(signal_power / scene_power, fill, noise, fraction, np.ones(SHELLS), np.ones(SHELLS))


def estimate_signal_fraction(scene: Image, target: TomogramStatistics) -> float:
    """Fraction of the target's power at the scale of particles to assign to the simulated particles.

    Gaussian noise has no skewness, so adding it lowers the skewness of the band-passed scene; the fraction
    is chosen such that the skewness of the target results, at most the fraction of the target that is not
    noise. Limits: the scene needs about as many particles and membranes as the target, and a target of
    symmetric gray values yields the minimum.
    """
    values = z_score(bandpass(scene, target.voxel_size)).ravel()
    values = values[:: max(1, values.size // 400_000)]
    noise = np.random.default_rng(0).standard_normal(values.size, dtype=np.float32)
    low, high = MIN_SIGNAL, max(MIN_SIGNAL, target.share)
    for _ in range(20):
        fraction = (low + high) / 2
        mixed = np.sqrt(fraction) * values + np.sqrt(1 - fraction) * noise
        low, high = (fraction, high) if clipped_skewness(mixed) < target.asymmetry else (low, fraction)
    return (low + high) / 2


@dataclass(frozen=True, eq=False)
class DepthProfile:
    """Target statistics of each plane along z, (z,) arrays.

    Attributes
    ----------
    matter
        1 within the slab, 0 outside.
    mean, std
        Of the corresponding plane of the target; `std` is 0 if there is none.
    """

    matter: Image
    mean: Floats
    std: Floats

    @classmethod
    def of(cls, slab: tuple[int, int], planes: int, target: TomogramStatistics) -> DepthProfile:
        """Stretch the planes of the target so that the slabs coincide."""
        z, (top, bottom), n = np.arange(planes), target.slab, len(target.profile_std)
        knots = np.array([0, slab[0], slab[1], planes]) - [0, 0.5, 0.5, 1]
        target_knots = np.array([0, top, bottom, n]) - [0, 0.5, 0.5, 1]
        position = np.interp(z, knots, target_knots)
        mean, std = (
            np.interp(position, np.arange(n), ndimage.gaussian_filter1d(profile, 1.0, mode="nearest"))
            for profile in (target.profile_mean, target.profile_std)
        )
        inside = ((z >= slab[0]) & (z < slab[1])).astype(np.float32)
        for void, absent in ((z < slab[0], top == 0), (z >= slab[1], bottom == n)):
            std[void & absent] = 0
            mean[void & absent] = np.mean(target.profile_mean)
        if slab != (0, planes):
            inside = ndimage.gaussian_filter1d(inside, 1.5, mode="nearest")
        return cls(inside, mean, std)


def _signal_gain(scene_power: Floats, available: Floats, signal_power: float, voxel_size: float) -> float:
    """Gain of the scene's power that yields *signal_power*, limited to *available* at each frequency."""
    low, high = 1e-6, 1e6
    for _ in range(40):
        gain = float(np.sqrt(low * high))
        power = band_power(np.maximum(np.minimum(gain * scene_power, available), 1e-30), voxel_size)
        low, high = (gain, high) if power < signal_power else (low, gain)
    return float(np.sqrt(low * high))


def _white_noise(shape: tuple[int, ...], seed: int, stream: int) -> Image:
    key = np.array([seed % 2**64, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, dtype=np.float32)


def _mix(
    spectra: list[NDArray[np.complex64]], mixture: NoiseMixture, profile: DepthProfile, shape: Shape
) -> Image:
    scene, fill, noise = spectra
    shells = radial_filter(mixture.matter_shells, shape)
    matter = fft.irfftn(fill * (amplitude_filter(mixture.fill, shape) * shells), s=shape)
    matter *= profile.matter[:, None, None]
    rest = scene * (amplitude_filter(mixture.signal, shape) * shells)
    rest += noise * (amplitude_filter(mixture.noise, shape) * radial_filter(mixture.noise_shells, shape))
    return (matter + fft.irfftn(rest, s=shape)).astype(np.float32)


def _match_profile(image: Image, profile: DepthProfile) -> Image:
    """Match standard deviation and mean of each plane, smoothed along z."""
    std = image.std(axis=(1, 2), dtype=np.float64)
    gain = np.where(profile.std > 0, profile.std / np.maximum(std, 1e-12), 1.0)
    gain = ndimage.gaussian_filter1d(np.clip(gain, 0.2, 5.0), 1.0, mode="nearest")
    image = image * gain.astype(np.float32)[:, None, None]
    shift = profile.mean - image.mean(axis=(1, 2), dtype=np.float64)
    return image + ndimage.gaussian_filter1d(shift, 1.0, mode="nearest").astype(np.float32)[:, None, None]


def _match_quantiles(
    image: Image, target: TomogramStatistics, slab: tuple[int, int], profile: DepthProfile
) -> Image:
    """Match the quantiles of the gray values within the slab by a monotone map."""
    source, levels = quantiles(image[slab[0] : slab[1]]), np.array(target.levels)
    source = np.maximum.accumulate(source + 1e-7 * np.arange(len(source)))
    slope = np.float32((levels[-1] - levels[0]) / (source[-1] - source[0]))
    mapped = np.interp(image, source, levels).astype(np.float32)
    beyond = np.minimum(image - source[0], 0) + np.maximum(image - source[-1], 0)
    mapped += slope * beyond.astype(np.float32)
    inside = profile.matter[:, None, None]
    return inside * mapped + (1 - inside) * image


def _remove_excess(image: Image, target: TomogramStatistics, slab: tuple[int, int]) -> Image:
    """Remove power that the matching of profile and gray values added to the missing wedge."""
    excess = robust_power_spectrum(image[slab[0] : slab[1]]) / target.powers()[0]
    if excess.max() < MAX_EXCESS:
        return image
    attenuation = amplitude_filter(1 / np.where(excess > MAX_EXCESS, excess, 1.0), image.shape)
    return fft.irfftn(fft.rfftn(image) * attenuation, s=image.shape).astype(np.float32)


def _correct(
    mixture: NoiseMixture, image: Image, target: TomogramStatistics, slab: tuple[int, int]
) -> NoiseMixture:
    """Correct the powers of the mixture by the ratios of target to result."""
    total, noise = target.powers()
    inside, void = image[slab[0] : slab[1]], void_spectra(image, slab)
    matter = _ratio(total, robust_power_spectrum(inside))
    radial = _radial_ratio(target.matter_radial, radial_power(inside))
    if void is None or target.noise_from != "void":
        rest, rest_radial = matter, radial
    else:
        rest, rest_radial = _ratio(noise, void[0]), _radial_ratio(target.noise_radial, void[1])
    return replace(
        mixture,
        signal=mixture.signal * matter,
        fill=mixture.fill * matter,
        noise=mixture.noise * rest,
        matter_shells=mixture.matter_shells * radial,
        noise_shells=mixture.noise_shells * rest_radial,
    )


def _radial_ratio(log_target: Sequence[float], power: Floats) -> Floats:
    return np.clip(np.exp(np.array(log_target)) / power, 0.4, 2.5)


def _ratio(target: Floats, power: Floats) -> Floats:
    # weights: the taper blurs narrow features, and the missing wedge cannot be matched exactly
    weight = np.sqrt(target)
    smooth = smooth_nodes(weight, SMOOTHING) / smooth_nodes(weight * power / target, SMOOTHING)
    return np.clip(smooth, 0.4, 2.5) ** DAMPING
