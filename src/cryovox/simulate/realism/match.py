"""Make a simulated tomogram look like a measured one."""

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

LEAST_SHARE = 0.03
ROUNDS = 5
DAMPED = 0.8  # of a correction that is made at once
EXCESS = 2.0  # times too much power is not left alone
SOFT = 1.2  # nodes over which corrections are smoothed
FILL, NOISE = 1, 2  # streams of random numbers


@dataclass(frozen=True, eq=False)
class NoiseMixture:
    """What a look-alike is mixed from, on the nodes of the spectrum.

    Attributes
    ----------
    signal
        Squared factor on the noise-free tomogram.
    fill
        Power of Gaussian noise inside of the slab: unknown matter.
    noise
        Power of Gaussian noise everywhere.
    share
        Part of the power at the scale of particles, inside of the slab, that is signal.
    matter_shells, noise_shells
        Squared factors in shells of the frequency, on signal and fill and on noise: nodes are too
        coarse for what changes fast with frequency.
    """

    signal: Floats
    fill: Floats
    noise: Floats
    share: float
    matter_shells: Floats
    noise_shells: Floats


def match_tomogram(
    clean: NDArray[np.float32],
    likeness: TomogramStatistics,
    rng: np.random.Generator | int,
    *,
    signal: float | None = None,
    rounds: int = ROUNDS,
) -> Image:
    """Give a noise-free tomogram the spectrum, noise, profile and grey values of a measured one.

    The noise-free tomogram is scaled, and weakened at frequencies at which it has more power than
    the target; Gaussian noise fills what is missing: one part everywhere, as strong as the target's
    noise, one only where matter is. Then the standard deviation along z and, by a monotone map, the
    quantiles of the grey values are made the target's. That changes the spectrum a little, so all is
    done a few times, each time with powers corrected by what came out.

    Parameters
    ----------
    clean : (z, y, x)
        Voxels of the target's size, particles bright, CTF and missing wedge applied. Its planes that
        hold matter are found, and are given what the target has in its own.
    rng
        Seed, or a generator that one is drawn from.
    signal
        Part of the power at the scale of particles (a band-pass of 40 and 120 Å), inside of the
        slab, that comes from *clean*; `estimate_signal_fraction` by default.

    Returns
    -------
    (z, y, x) float32
        With the mean, standard deviation and contrast sign of the target; where the slab takes
        another part of the volume than it does in the target, those of the slab are matched.
    """
    seed = int(rng.integers(2**63)) if isinstance(rng, np.random.Generator) else int(rng)
    scene = z_score(clean)
    slab = _slab(clean)
    if float(scene.std()) == 0:
        raise RequestError("simulated scene", "is empty", "place at least one particle")
    recipe = initial_mixture(scene[slab[0] : slab[1]], likeness, signal)
    layers = Layers.of(slab, len(scene), likeness)
    spectra = [
        fft.rfftn(part) for part in (scene, _gauss(scene.shape, seed, FILL), _gauss(scene.shape, seed, NOISE))
    ]
    for turn in range(rounds):
        made = _profiled(_mixed(spectra, recipe, layers, scene.shape), layers)
        made = _levelled(made, likeness, slab, layers)
        if turn < rounds - 1:
            recipe = _corrected(recipe, made, likeness, slab)
    made = _emptied(made, likeness, slab)
    return (made * np.float32(likeness.sign * likeness.std) + np.float32(likeness.mean)).astype(np.float32)


def initial_mixture(scene: Image, likeness: TomogramStatistics, signal: float | None = None) -> NoiseMixture:
    """The first guess at a recipe, from the matter of a standardised noise-free tomogram."""
    own = robust_power_spectrum(scene)
    target, noise = likeness.powers()
    share = estimate_signal_fraction(scene, likeness) if signal is None else signal
    if not 0 <= share <= 1:
        raise RequestError("signal", f"{share} is no part of the whole", "choose from 0 to 1")
    room = target - noise
    strength = _strength(own, room, share * band_power(target, likeness.voxel_size), likeness.voxel_size)
    wanted = np.minimum(strength * own, room)
    return NoiseMixture(
        wanted / own, np.maximum(room - wanted, 0.01 * target), noise, share, np.ones(SHELLS), np.ones(SHELLS)
    )


def estimate_signal_fraction(scene: Image, likeness: TomogramStatistics) -> float:
    """How much of the target's power at the scale of particles to give to the particles.

    Gaussian noise has no skewness, so mixing it to the scene lowers the skewness of the scene after
    a band-pass; the share is that at which the target's is left. It is not more than what the target
    has above its noise. Limits: it takes a scene with about as many particles, membranes and crowding
    as the target; a target of symmetric grey values gets the least share.
    """
    values = z_score(bandpass(scene, likeness.voxel_size)).ravel()
    values = values[:: max(1, values.size // 400_000)]
    noise = np.random.default_rng(0).standard_normal(values.size, dtype=np.float32)
    low, high = LEAST_SHARE, max(LEAST_SHARE, likeness.share)
    for _ in range(20):
        share = (low + high) / 2
        mixed = np.sqrt(share) * values + np.sqrt(1 - share) * noise
        low, high = (share, high) if clipped_skewness(mixed) < likeness.asymmetry else (low, share)
    return (low + high) / 2


@dataclass(frozen=True, eq=False)
class Layers:
    """What changes along z: (z,) arrays.

    Attributes
    ----------
    matter
        1 inside of the slab, 0 outside of it.
    mean, std
        Of the target's plane that corresponds; `std` is 0 where there is none.
    """

    matter: Image
    mean: Floats
    std: Floats

    @classmethod
    def of(cls, slab: tuple[int, int], planes: int, likeness: TomogramStatistics) -> Layers:
        """Stretch the target's planes so that the slabs coincide."""
        z, (top, bottom), n = np.arange(planes), likeness.slab, len(likeness.profile_std)
        knots = np.array([0, slab[0], slab[1], planes]) - [0, 0.5, 0.5, 1]
        there = np.array([0, top, bottom, n]) - [0, 0.5, 0.5, 1]
        place = np.interp(z, knots, there)
        mean, std = (
            np.interp(place, np.arange(n), ndimage.gaussian_filter1d(profile, 1.0, mode="nearest"))
            for profile in (likeness.profile_mean, likeness.profile_std)
        )
        inside = ((z >= slab[0]) & (z < slab[1])).astype(np.float32)
        for void, absent in ((z < slab[0], top == 0), (z >= slab[1], bottom == n)):
            std[void & absent] = 0
            mean[void & absent] = np.mean(likeness.profile_mean)
        whole = slab == (0, planes)
        soft = inside if whole else ndimage.gaussian_filter1d(inside, 1.5, mode="nearest")
        return cls(soft, mean, std)


def _slab(clean: Image) -> tuple[int, int]:
    return find_slab(clean.std(axis=(1, 2), dtype=np.float64))


def _strength(own: Floats, room: Floats, wanted: float, voxel_size: float) -> float:
    """Factor on the scene's power that gives it so much, where no frequency may take more than its room."""
    low, high = 1e-6, 1e6
    for _ in range(40):
        factor = float(np.sqrt(low * high))
        found = band_power(np.maximum(np.minimum(factor * own, room), 1e-30), voxel_size)
        low, high = (factor, high) if found < wanted else (low, factor)
    return float(np.sqrt(low * high))


def _gauss(shape: tuple[int, ...], seed: int, stream: int) -> Image:
    key = np.array([seed % 2**64, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, dtype=np.float32)


def _mixed(spectra: list[NDArray[np.complex64]], recipe: NoiseMixture, layers: Layers, shape: Shape) -> Image:
    scene, fill, noise = spectra
    shells = radial_filter(recipe.matter_shells, shape)
    matter = fft.irfftn(fill * (amplitude_filter(recipe.fill, shape) * shells), s=shape)
    matter *= layers.matter[:, None, None]
    rest = scene * (amplitude_filter(recipe.signal, shape) * shells)
    rest += noise * (amplitude_filter(recipe.noise, shape) * radial_filter(recipe.noise_shells, shape))
    return (matter + fft.irfftn(rest, s=shape)).astype(np.float32)


def _profiled(made: Image, layers: Layers) -> Image:
    """Give each plane its standard deviation and mean, as far as they change slowly along z."""
    std = made.std(axis=(1, 2), dtype=np.float64)
    gain = np.where(layers.std > 0, layers.std / np.maximum(std, 1e-12), 1.0)
    gain = ndimage.gaussian_filter1d(np.clip(gain, 0.2, 5.0), 1.0, mode="nearest")
    made = made * gain.astype(np.float32)[:, None, None]
    shift = layers.mean - made.mean(axis=(1, 2), dtype=np.float64)
    return made + ndimage.gaussian_filter1d(shift, 1.0, mode="nearest").astype(np.float32)[:, None, None]


def _levelled(made: Image, likeness: TomogramStatistics, slab: tuple[int, int], layers: Layers) -> Image:
    """Map grey values inside of the slab so that their quantiles are the target's."""
    have, want = quantiles(made[slab[0] : slab[1]]), np.array(likeness.levels)
    have = np.maximum.accumulate(have + 1e-7 * np.arange(len(have)))
    slope = np.float32((want[-1] - want[0]) / (have[-1] - have[0]))
    mapped = np.interp(made, have, want).astype(np.float32)
    beyond = np.minimum(made - have[0], 0) + np.maximum(made - have[-1], 0)
    mapped += slope * beyond.astype(np.float32)
    inside = layers.matter[:, None, None]
    return inside * mapped + (1 - inside) * made


def _emptied(made: Image, likeness: TomogramStatistics, slab: tuple[int, int]) -> Image:
    """Take out what the profile and the map of grey values have put into an empty missing wedge."""
    excess = robust_power_spectrum(made[slab[0] : slab[1]]) / likeness.powers()[0]
    if excess.max() < EXCESS:
        return made
    keep = amplitude_filter(1 / np.where(excess > EXCESS, excess, 1.0), made.shape)
    return fft.irfftn(fft.rfftn(made) * keep, s=made.shape).astype(np.float32)


def _corrected(
    recipe: NoiseMixture, made: Image, likeness: TomogramStatistics, slab: tuple[int, int]
) -> NoiseMixture:
    """Raise the powers that came out too low, and lower those that came out too high."""
    target, noise = likeness.powers()
    inside, void = made[slab[0] : slab[1]], void_spectra(made, slab)
    matter = _ratio(target, robust_power_spectrum(inside))
    radial = _radial_ratio(likeness.matter_radial, radial_power(inside))
    if void is None or likeness.noise_from != "void":
        rest, rest_radial = matter, radial
    else:
        rest, rest_radial = _ratio(noise, void[0]), _radial_ratio(likeness.noise_radial, void[1])
    return replace(
        recipe,
        signal=recipe.signal * matter,
        fill=recipe.fill * matter,
        noise=recipe.noise * rest,
        matter_shells=recipe.matter_shells * radial,
        noise_shells=recipe.noise_shells * rest_radial,
    )


def _radial_ratio(wanted: Sequence[float], found: Floats) -> Floats:
    return np.clip(np.exp(np.array(wanted)) / found, 0.4, 2.5)


def _ratio(wanted: Floats, found: Floats) -> Floats:
    # windows blur what lies closer than their width, and nothing gets the empty wedge right
    trust = np.sqrt(wanted)
    smooth = smooth_nodes(trust, SOFT) / smooth_nodes(trust * found / wanted, SOFT)
    return np.clip(smooth, 0.4, 2.5) ** DAMPED
