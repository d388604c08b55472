"""A prior of noise and microscopes in place of a target: cubes as an instrument not yet seen may show them.

Part of our reconstruction of Vox-ZSDA (IJCV 2026), of which only the abstract is public. What a cube shows
passes a contrast transfer, noise is added, and both pass the wedge and the envelope, as in a tomogram. The
voxel size is not known here, so frequencies are shares of the sampling.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryovox.filters.config import PriorConfig, Range
from cryovox.filters.spectra import AXES, as_float, frequencies, irfftn_like, rfftn

CLOSE = 1e-6
"""What single precision may be off by: frequencies on a limit, constant cubes."""


def randomize_appearance(x: Tensor, config: PriorConfig) -> Tensor:
    """Show every cube through an instrument of its own, drawn from the prior.

    Parameters
    ----------
    x : (b, 1, z, y, x)
        Beam along z, tilt axis along y; particles bright. Taken as periodic.
    config
        What is drawn, from torch's global generator on the device of *x*.

    Returns
    -------
    (b, 1, z, y, x)
    """
    cubes = as_float(x)
    fz, fy, fx = frequencies(cubes)
    squares = fz**2 + fy**2 + fx**2
    spectrum = rfftn(cubes)
    if config.prior_ctf_share > 0:
        spectrum = spectrum * _contrast(cubes, squares, config)
    if config.prior_level[1] > 0:
        level = _drawn(cubes, config.prior_level, logarithmic=True) * spectrum_std(spectrum, cubes)
        spectrum = spectrum + level * _noise(cubes, squares, config)
    if config.prior_wedge_share > 0:
        spectrum = spectrum * _wedge(cubes, fz, fx, config)
    if config.prior_envelope_share > 0:
        spectrum = spectrum * _envelope(cubes, squares, config)
    return _graded(irfftn_like(spectrum, cubes), config).to(x.dtype)


def spectrum_std(spectrum: Tensor, like: Tensor) -> Tensor:
    """Standard deviation of every cube whose `rfftn` is given (Parseval), (b, 1, 1, 1, 1).

    Parameters
    ----------
    spectrum : (b, 1, z, y, x // 2 + 1)
    like : (b, 1, z, y, x)
        For its sides.
    """
    power = spectrum.real**2 + spectrum.imag**2
    total = (power * _twice(like)).sum(AXES, keepdim=True) - power[:, :, :1, :1, :1]
    return total.clamp(min=0).sqrt() / math.prod(like.shape[2:])


def _twice(like: Tensor) -> Tensor:
    """(x // 2 + 1,): how often a frequency of an `rfftn` occurs in the whole spectrum."""
    size = like.shape[4]
    counts = like.new_full((size // 2 + 1,), 2.0)
    counts[0] = 1
    if size % 2 == 0:
        counts[-1] = 1
    return counts


def _drawn(like: Tensor, ends: Range, *, logarithmic: bool = False) -> Tensor:
    """One uniform draw for every sample, (b, 1, 1, 1, 1)."""
    share = torch.rand((len(like), 1, 1, 1, 1), device=like.device, dtype=like.dtype)
    if logarithmic:
        return ends[0] * (ends[1] / ends[0]) ** share
    return ends[0] + (ends[1] - ends[0]) * share


def _chosen(like: Tensor, share: float) -> Tensor:
    return _drawn(like, (0.0, 1.0)) < share


def _contrast(like: Tensor, squares: Tensor, config: PriorConfig) -> Tensor:
    """Contrast transfer of a lens without spherical aberration, positive up to its first zero."""
    start = torch.deg2rad(_drawn(like, config.prior_phase))
    zero = _drawn(like, config.prior_zero)
    contrast = torch.sin(start + (math.pi - start) * (squares / zero**2))
    flipped = torch.where(_chosen(like, config.prior_flip_share), contrast.abs(), contrast)
    return torch.where(_chosen(like, config.prior_ctf_share), flipped, 1.0)


def _noise(like: Tensor, squares: Tensor, config: PriorConfig) -> Tensor:
    """The `rfftn` of noise without mean, of unit variance, with the colour and band of each sample."""
    colour, band = _drawn(like, config.prior_colour), _drawn(like, config.prior_band)
    amplitude = torch.exp(squares.clamp(min=CLOSE**2).log() * (-colour / 4))
    amplitude = amplitude * ((squares > 0) & (squares <= (band / 2 + CLOSE) ** 2))
    power = (amplitude**2 * _twice(like)).sum(AXES, keepdim=True) / math.prod(like.shape[2:])
    scale = torch.where(power > 0, power.rsqrt(), 0.0)  # a band may hold no frequency at all
    return rfftn(torch.randn_like(like)) * (amplitude * scale)


def _wedge(like: Tensor, fz: Tensor, fx: Tensor, config: PriorConfig) -> Tensor:
    """Where a series that is tilted about y up to the drawn angle measures, (b, 1, z, 1, x // 2 + 1)."""
    tilt = torch.deg2rad(_drawn(like, config.prior_wedge))
    seen = fz.abs() * tilt.cos() <= fx * tilt.sin() + CLOSE
    return seen | ~_chosen(like, config.prior_wedge_share)


def _envelope(like: Tensor, squares: Tensor, config: PriorConfig) -> Tensor:
    half = _drawn(like, config.prior_envelope) / 2
    passed = torch.exp(-math.log(2) * squares / half**2)
    return torch.where(_chosen(like, config.prior_envelope_share), passed, 1.0)


def _graded(x: Tensor, config: PriorConfig) -> Tensor:
    """What is done to grey values once the instrument has shown them."""
    if config.prior_gamma != (1.0, 1.0):
        distance, mean, spread = _standardised(x)
        bent = distance.abs() ** _drawn(x, config.prior_gamma, logarithmic=True)
        x = mean + spread * distance.sign() * bent
    if config.prior_restandardised:
        x = _standardised(x)[0]
    gain = _drawn(x, (1 - config.prior_gain, 1 + config.prior_gain))
    return x * gain + _drawn(x, (-config.prior_offset, config.prior_offset))


def _standardised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every cube in standard deviations from its mean; both are given too."""
    mean = x.mean((1, 2, 3, 4), keepdim=True)
    centred = x - mean
    spread = centred.square().mean((1, 2, 3, 4), keepdim=True).sqrt().clamp(min=CLOSE)
    return centred / spread, mean, spread
