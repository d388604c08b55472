"""Cubes of one domain with the power of another: what there is too much of is damped, what lacks is noise.

A gain alone cannot do this: where the source has been low-passed nothing is left to enlarge but what leaks
from the borders of the cube.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovox.filters.spectra import AXES, as_float, irfftn_like, rfftn


def power_spectrum(x: Tensor) -> Tensor:
    """Power at every frequency, mean over cubes.

    A Hann window keeps the borders of a cube, which do not fit together, from leaking into all
    frequencies.

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
    """Power of the noise on a torus of twice the side whose cubes have the autocovariance of these.

    No window smooths it, so that zeros of the spectrum stay. Every lag is divided by the pairs that it has
    in a cube; from half the side on, where there are few, lags fade.

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
    seen = torch.fft.rfftn(cubes, s=sides, dim=AXES).abs().square().mean((0, 1))
    covariance = torch.fft.irfftn(seen, s=sides)
    for axis, side in enumerate(cubes.shape[2:]):
        lag = torch.fft.fftfreq(2 * side, 1 / (2 * side), device=cubes.device).abs()
        weight = (2 - 2 * lag / side).clamp(0, 1) / (side - lag).clamp(min=1)
        covariance = covariance * weight.view([-1 if axis == a else 1 for a in range(3)])
    return torch.fft.rfftn(covariance).real.clamp(min=0)


def sample_noise(power: Tensor, count: int, shape: tuple[int, int, int]) -> Tensor:
    """Cubes of Gaussian noise, cut from the torus of `autocovariance_power`; (count, 1, z, y, x)."""
    sides = [2 * n for n in shape]
    noise = torch.randn(count, 1, *sides, device=power.device, dtype=power.dtype)
    spectrum = torch.fft.rfftn(noise, dim=AXES) * power.sqrt()
    noise = torch.fft.irfftn(spectrum, s=sides, dim=AXES)
    return noise[..., : shape[0], : shape[1], : shape[2]]


def match_power(x: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """Damp frequencies of cubes that have more power than wanted, and add Gaussian noise where there is less.

    Parameters
    ----------
    x : (b, 1, z, y, x)
    own, wanted : (z, y, x // 2 + 1)
        Power of cubes like *x*, and of those that they are to be like, see `power_spectrum`.

    Returns
    -------
    (b, 1, z, y, x)
    """
    cubes = as_float(x)
    gain = (wanted / own.clamp(min=1e-12)).clamp(max=1).sqrt()
    lacking = (wanted - own).clamp(min=0).sqrt()
    spectrum = rfftn(cubes) * gain + rfftn(torch.randn_like(cubes)) * lacking
    return irfftn_like(spectrum, cubes).to(x.dtype)
