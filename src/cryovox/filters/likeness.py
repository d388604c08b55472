"""Cubes of one domain with the power of another: what there is too much of is damped, what lacks is noise.

A gain alone cannot do this: where the source has been low-passed nothing is left to enlarge but what leaks
from the borders of the cube.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovox.filters.spectra import AXES, computed, real_like, spectrum_of


def power(x: Tensor) -> Tensor:
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
    cubes = computed(x)
    window = torch.ones((), device=cubes.device, dtype=cubes.dtype)
    for size in cubes.shape[2:]:
        axis = torch.hann_window(size, periodic=False, device=cubes.device, dtype=cubes.dtype)
        window = window[..., None] * axis
    spectrum = spectrum_of((cubes - cubes.mean(AXES, keepdim=True)) * window)
    return spectrum.abs().square().mean((0, 1)) / window.square().sum()


def noise_to(x: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """Damp frequencies of cubes that have more power than wanted, and add Gaussian noise where there is less.

    Parameters
    ----------
    x : (b, 1, z, y, x)
    own, wanted : (z, y, x // 2 + 1)
        Power of cubes like *x*, and of those that they are to be like, see `power`.

    Returns
    -------
    (b, 1, z, y, x)
    """
    cubes = computed(x)
    gain = (wanted / own.clamp(min=1e-12)).clamp(max=1).sqrt()
    lacking = (wanted - own).clamp(min=0).sqrt()
    spectrum = spectrum_of(cubes) * gain + spectrum_of(torch.randn_like(cubes)) * lacking
    return real_like(spectrum, cubes).to(x.dtype)
