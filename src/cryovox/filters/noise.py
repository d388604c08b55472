"""Noise of tomograms measured by a high-pass filter: the noise generation module of Vox-UDA (AAAI 2025).

Its filter rates (8.4, 17.8, 24.4 and 42.2 %) are (k / 32)^3 for k = 14, 18, 20 and 24: the volume of a cube
of k^3 frequencies in the spectrum of 32^3 voxels. That the cube of low frequencies is removed is our
reconstruction; the other variants are for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from cryovox.filters.config import HighPassVariant

Mode = Literal["mean", "averaged", "rms"]

CUBE = 0.625
"""Edge of the cube as a fraction of the spectrum: 20 of 32, a rate of 24.4 %."""


def high_pass(x: Tensor, *, cube: float = CUBE, reading: HighPassVariant = "remove-cube") -> Tensor:
    """Remove the low frequencies of cubes (Vox-UDA, noise generation module).

    Parameters
    ----------
    x : (b, 1, z, y, x)
        Taken as periodic.
    cube
        Edge of the cube of frequencies as a fraction of the spectrum, 0 to 1; the rate is its third power.
    reading
        "remove-cube" removes the centered cube of low frequencies; "keep-outer" keeps radii above
        ``sqrt(1 - rate) / 2`` cycles per voxel; "keep-highest" keeps the cube at the middle of an
        unshifted spectrum, which holds the highest frequencies.

    Returns
    -------
    (b, 1, z, y, x)
    """
    sides = (x.shape[2], x.shape[3], x.shape[4])
    kept = _high_pass_weights(sides, cube, reading).to(x.device)
    spectrum = torch.fft.rfftn(x if x.dtype == torch.float64 else x.float(), dim=(2, 3, 4))
    return torch.fft.irfftn(spectrum * kept, s=sides, dim=(2, 3, 4)).to(x.dtype)


def low_pass(x: Tensor, *, cube: float = CUBE, reading: HighPassVariant = "remove-cube") -> Tensor:
    """Remove the high frequencies of cubes: the simplest denoiser in the comparison of Vox-UDA.

    Parameters and result as in `high_pass`.
    """
    return x - high_pass(x, cube=cube, reading=reading)


def noise_level(
    targets: Tensor, *, mode: Mode = "mean", cube: float = CUBE, reading: HighPassVariant = "remove-cube"
) -> Tensor:
    """Standard deviation of the Gaussian noise that makes source cubes as noisy as target cubes.

    Parameters
    ----------
    targets : (n, 1, z, y, x)
        In the units of the source: both normalized.
    mode
        "mean": of the mean of n Gaussians, one for the noise of each cube; "averaged": of the mean of the n
        high-pass filtered cubes. Both shrink with the root of n, as published. "rms" keeps the level of a
        single cube.
    cube, reading
        As in `high_pass`.

    Returns
    -------
    ()
        On the device of *targets*.
    """
    noise = high_pass(targets, cube=cube, reading=reading)
    if mode == "averaged":
        return noise.mean(0).std(correction=0)
    squares = noise.flatten(1).var(1, correction=0)
    return squares.mean().sqrt() if mode == "rms" else squares.sum().sqrt() / len(targets)


def low_frequency_weights(size: int, fraction: float) -> Tensor:
    """Weights (size,) that keep the lowest *fraction* of the frequencies, in the order of an FFT.

    They add up to the nearest whole number k. If k is even, the frequencies k / 2 and -k / 2 have weight 1/2,
    so that the filter is real and symmetric.
    """
    width = round(fraction * size)
    distance = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64).abs()
    if width in (0, size):
        return torch.full_like(distance, width / size)
    return (distance < width / 2).double() + 0.5 * (distance == width / 2).double()


@lru_cache(maxsize=8)
def _high_pass_weights(sides: tuple[int, int, int], cube: float, reading: HighPassVariant) -> Tensor:
    """Weights of a high-pass filter, (z, y, x // 2 + 1)."""
    if not 0 <= cube <= 1:
        raise ValueError(f"the cube of a high-pass filter is 0 to 1 of the box, not {cube}")
    if reading == "keep-outer":
        squares = [torch.fft.fftfreq(n, dtype=torch.float64).square() for n in sides]
        radii = _outer(squares, torch.add).sqrt()
        kept = (radii > (1 - cube**3) ** 0.5 / 2).double()
    elif reading == "keep-highest":
        kept = _outer([1 - low_frequency_weights(n, 1 - cube) for n in sides], torch.mul)
    elif reading == "remove-cube":
        kept = 1 - _outer([low_frequency_weights(n, cube) for n in sides], torch.mul)
    else:
        raise ValueError(f"the high-pass filter has no variant {reading!r}")
    return kept[:, :, : sides[2] // 2 + 1].float()


def _outer(axes: list[Tensor], join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    z, y, x = axes
    return join(join(z[:, None, None], y[:, None]), x)
