"""Match the power spectrum of another domain: damp frequencies with excess power, add noise to the others.

A gain alone cannot do this: where the source was low-pass filtered, there is nothing left to amplify but what
leaks from the borders of the cube.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovox.filters.spectra import AXES, as_float, irfftn_like, rfftn


def power_spectrum(x: Tensor) -> Tensor:
    """Power spectrum, averaged over cubes.

    A Hann window keeps the discontinuity at the borders of a cube from leaking into all frequencies.

    Parameters
    ----------
    x : (n, 1, z, y, x)

    Returns
    -------
    (z, y, x // 2 + 1)
        White noise of unit variance has 1 everywhere.
    """
    cubes = as_float(x)
    window = torch.ones((), device=cubes.device, dtype=cubes.dtype)
    for size in cubes.shape[2:]:
        axis = torch.hann_window(size, periodic=False, device=cubes.device, dtype=cubes.dtype)
        window = window[..., None] * axis
    spectrum = rfftn((cubes - cubes.mean(AXES, keepdim=True)) * window)
    return spectrum.abs().square().mean((0, 1)) / window.square().sum()


def autocovariance_power(x: Tensor) -> Tensor:
    """Power spectrum of periodic noise, of twice the side, whose cubes have the autocovariance of these.

    No window smooths it, so that zeros of the spectrum stay. Every lag is divided by its number of pairs in a
    cube; lags above half the side, which have few, are tapered.

    Parameters
    ----------
    x : (n, 1, z, y, x)

    Returns
    -------
    (2 z, 2 y, x + 1)
        White noise of unit variance has 1 nearly everywhere.
    """
    cubes = as_float(x)
    cubes = cubes - cubes.mean(AXES, keepdim=True)
    sides = [2 * n for n in cubes.shape[2:]]
    spectrum = torch.fft.rfftn(cubes, s=sides, dim=AXES).abs().square().mean((0, 1))
    covariance = torch.fft.irfftn(spectrum, s=sides)
    for axis, side in enumerate(cubes.shape[2:]):
        lag = torch.fft.fftfreq(2 * side, 1 / (2 * side), device=cubes.device).abs()
        weight = (2 - 2 * lag / side).clamp(0, 1) / (side - lag).clamp(min=1)
        covariance = covariance * weight.view([-1 if axis == a else 1 for a in range(3)])
    return torch.fft.rfftn(covariance).real.clamp(min=0)


def sample_noise(power: Tensor, count: int, shape: tuple[int, int, int]) -> Tensor:
    """Cubes of Gaussian noise with the spectrum of `autocovariance_power`, (count, 1, z, y, x)."""
    sides = [2 * n for n in shape]
    noise = torch.randn(count, 1, *sides, device=power.device, dtype=power.dtype)
    spectrum = torch.fft.rfftn(noise, dim=AXES) * power.sqrt()
    noise = torch.fft.irfftn(spectrum, s=sides, dim=AXES)
    return noise[..., : shape[0], : shape[1], : shape[2]]


def match_power(x: Tensor, own: Tensor, target: Tensor) -> Tensor:
    """Damp frequencies of cubes with excess power, and add Gaussian noise to those with too little.

    Parameters
    ----------
    x : (b, 1, z, y, x)
    own, target : (z, y, x // 2 + 1)
        Power spectra of cubes like *x* and of the target domain, see `power_spectrum`.

    Returns
    -------
    (b, 1, z, y, x)
    """
    cubes = as_float(x)
    gain = (target / own.clamp(min=1e-12)).clamp(max=1).sqrt()
    missing = (target - own).clamp(min=0).sqrt()
    spectrum = rfftn(cubes) * gain + rfftn(torch.randn_like(cubes)) * missing
    return irfftn_like(spectrum, cubes).to(x.dtype)
