"""Mix the amplitudes of cubes with those of others and with random spectra, so that phases decide."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryovox.filters.config import Range
from cryovox.filters.prior import spectrum_std
from cryovox.filters.spectra import frequencies, irfftn_like, rfftn

WAVES = 4
"""Number of cosines over the radius in a random spectrum: half a period and its multiples."""


def mix_amplitudes(x: Tensor, share_range: Range = (0.0, 1.0), *, spread: float = 0.5) -> Tensor:
    """Mix amplitudes with those of another cube of the batch and multiply a random spectrum; phases stay.

    The mix is that of FACT (Q. Xu et al., CVPR 2021); the random spectrum, a smooth function of the radius
    that keeps the standard deviation of the cube, is ours.

    Parameters
    ----------
    x : (b, 1, z, y, x)
        A batch of one has no other cube to mix with.
    share_range
        Range within 0 and 1 of the weight of the other amplitudes, drawn uniformly; 0 0 mixes nothing.
    spread
        Standard deviation of the logarithm of the random spectrum; 0 leaves it out.

    Returns
    -------
    (b, 1, z, y, x)
    """
    if not 0 <= share_range[0] <= share_range[1] <= 1:
        raise ValueError(
            f"shares of amplitudes are two values in ascending order within 0 and 1, not {share_range}"
        )
    spectrum = rfftn(x)
    if share_range[1] > 0 and len(x) > 1:
        spectrum = torch.polar(_mix(spectrum.abs(), share_range), spectrum.angle())
    if spread > 0:
        before = spectrum_std(spectrum, x)
        spectrum = spectrum * _random_spectra(x, spread)
        spectrum = spectrum * (before / spectrum_std(spectrum, x).clamp(min=1e-12))
    return irfftn_like(spectrum, x)


def _mix(amplitudes: Tensor, share_range: Range) -> Tensor:
    """Mix with the amplitudes of the sample a random step further in the batch, the same step for all."""
    count, device = len(amplitudes), amplitudes.device
    step = torch.randint(1, count, (1,), device=device)
    other = amplitudes[(torch.arange(count, device=device) + step) % count]
    share = torch.rand((count, 1, 1, 1, 1), device=device, dtype=amplitudes.dtype)
    return torch.lerp(amplitudes, other, share_range[0] + (share_range[1] - share_range[0]) * share)


def _random_spectra(x: Tensor, spread: float) -> Tensor:
    """Exponentials of random smooth functions of the radius, (b, 1, z, y, x // 2 + 1)."""
    fz, fy, fx = frequencies(x)
    radius = (fz**2 + fy**2 + fx**2).sqrt() / math.sqrt(0.75)  # 1 in the corner
    waves = torch.stack([torch.cos(math.pi * n * radius) for n in range(1, WAVES + 1)])
    weights = torch.randn((len(x), WAVES, 1, 1, 1), device=x.device) * spread * math.sqrt(2 / WAVES)
    return (weights * waves).sum(1, keepdim=True).exp()
