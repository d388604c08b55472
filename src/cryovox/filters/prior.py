"""Randomize the appearance of cubes: noise and imaging conditions are drawn from a prior.

Part of our reconstruction of Vox-ZSDA (IJCV 2026), of which only the abstract is public. A cube is multiplied
by a contrast transfer function, noise is added, and both are multiplied by missing wedge and envelope, as in
a tomogram. Frequencies are fractions of the sampling rate, independent of the voxel size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryovox.filters.config import PriorConfig, Range
from cryovox.filters.spectra import AXES, as_float, frequencies, irfftn_like, rfftn

EPS = 1e-6
"""Tolerance for rounding in single precision."""


def randomize_appearance(x: Tensor, config: PriorConfig) -> Tensor:
    """Draw imaging conditions from the prior for every cube, and apply them.

    Parameters
    ----------
    x : (b, 1, z, y, x)
        Beam along z, tilt axis along y; particles bright. Taken as periodic.
    config
        The prior; draws come from torch's global generator on the device of *x*.

    Returns
    -------
    (b, 1, z, y, x)
    """
    cubes = as_float(x)
    fz, fy, fx = frequencies(cubes)
    squares = fz**2 + fy**2 + fx**2
    spectrum = rfftn(cubes)
    if config.prior_ctf_share > 0:
        spectrum = spectrum * _ctf(cubes, squares, config)
    if config.prior_level[1] > 0:
        level = _uniform(cubes, config.prior_level, logarithmic=True) * spectrum_std(spectrum, cubes)
        spectrum = spectrum + level * _noise(cubes, squares, config)
    if config.prior_wedge_share > 0:
        spectrum = spectrum * _wedge(cubes, fz, fx, config)
    if config.prior_envelope_share > 0:
        spectrum = spectrum * _envelope(cubes, squares, config)
    return _adjust_gray_values(irfftn_like(spectrum, cubes), config).to(x.dtype)


def spectrum_std(spectrum: Tensor, like: Tensor) -> Tensor:
    """Standard deviation of every cube from its `rfftn` (Parseval), (b, 1, 1, 1, 1).

    Parameters
    ----------
    spectrum : (b, 1, z, y, x // 2 + 1)
    like : (b, 1, z, y, x)
        For its shape.
    """
    power = spectrum.real**2 + spectrum.imag**2
    total = (power * _multiplicity(like)).sum(AXES, keepdim=True) - power[:, :, :1, :1, :1]
    return total.clamp(min=0).sqrt() / math.prod(like.shape[2:])


def _multiplicity(like: Tensor) -> Tensor:
    """Multiplicity of the frequencies of an `rfftn` in the whole spectrum, (x // 2 + 1,)."""
    size = like.shape[4]
    counts = like.new_full((size // 2 + 1,), 2.0)
    counts[0] = 1
    if size % 2 == 0:
        counts[-1] = 1
    return counts


def _uniform(like: Tensor, ends: Range, *, logarithmic: bool = False) -> Tensor:
    """One uniform draw per sample, (b, 1, 1, 1, 1)."""
    share = torch.rand((len(like), 1, 1, 1, 1), device=like.device, dtype=like.dtype)
    if logarithmic:
        return ends[0] * (ends[1] / ends[0]) ** share
    return ends[0] + (ends[1] - ends[0]) * share


def _bernoulli(like: Tensor, share: float) -> Tensor:
    return _uniform(like, (0.0, 1.0)) < share


def _ctf(like: Tensor, squares: Tensor, config: PriorConfig) -> Tensor:
    """Contrast transfer of a lens without spherical aberration, positive up to its first zero."""
    start = torch.deg2rad(_uniform(like, config.prior_phase))
    zero = _uniform(like, config.prior_zero)
    contrast = torch.sin(start + (math.pi - start) * (squares / zero**2))
    flipped = torch.where(_bernoulli(like, config.prior_flip_share), contrast.abs(), contrast)
    return torch.where(_bernoulli(like, config.prior_ctf_share), flipped, 1.0)


def _noise(like: Tensor, squares: Tensor, config: PriorConfig) -> Tensor:
    """The `rfftn` of noise of mean 0 and variance 1, with the color and band of each sample."""
    color, band = _uniform(like, config.prior_color), _uniform(like, config.prior_band)
    amplitude = torch.exp(squares.clamp(min=EPS**2).log() * (-color / 4))
    amplitude = amplitude * ((squares > 0) & (squares <= (band / 2 + EPS) ** 2))
    power = (amplitude**2 * _multiplicity(like)).sum(AXES, keepdim=True) / math.prod(like.shape[2:])
    scale = torch.where(power > 0, power.rsqrt(), 0.0)  # a band may hold no frequency at all
    return rfftn(torch.randn_like(like)) * (amplitude * scale)


def _wedge(like: Tensor, fz: Tensor, fx: Tensor, config: PriorConfig) -> Tensor:
    """Frequencies outside the missing wedge of a tilt about y, (b, 1, z, 1, x // 2 + 1)."""
    tilt = torch.deg2rad(_uniform(like, config.prior_wedge))
    measured = fz.abs() * tilt.cos() <= fx * tilt.sin() + EPS
    return measured | ~_bernoulli(like, config.prior_wedge_share)


def _envelope(like: Tensor, squares: Tensor, config: PriorConfig) -> Tensor:
    half = _uniform(like, config.prior_envelope) / 2
    envelope = torch.exp(-math.log(2) * squares / half**2)
    return torch.where(_bernoulli(like, config.prior_envelope_share), envelope, 1.0)


def _adjust_gray_values(x: Tensor, config: PriorConfig) -> Tensor:
    """Gamma correction, standardization, gain and offset."""
    if config.prior_gamma != (1.0, 1.0):
        distance, mean, spread = _standardize(x)
        corrected = distance.abs() ** _uniform(x, config.prior_gamma, logarithmic=True)
        x = mean + spread * distance.sign() * corrected
    if config.prior_restandardized:
        x = _standardize(x)[0]
    gain = _uniform(x, (1 - config.prior_gain, 1 + config.prior_gain))
    return x * gain + _uniform(x, (-config.prior_offset, config.prior_offset))


def _standardize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every cube in standard deviations from its mean, its mean and its standard deviation."""
    mean = x.mean((1, 2, 3, 4), keepdim=True)
    centered = x - mean
    spread = centered.square().mean((1, 2, 3, 4), keepdim=True).sqrt().clamp(min=EPS)
    return centered / spread, mean, spread
