"""MixStyle: moments of features exchanged between the samples of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

EPSILON = 1e-6


def mix_styles(features: Tensor, alpha: float = 0.1) -> Tensor:
    """Interpolate the mean and standard deviation of every sample with those of another sample.

    K. Zhou et al., ICLR 2021 (MixStyle with random shuffle), in three dimensions. Moments are taken over
    space, channel by channel; no gradient flows through them.

    Parameters
    ----------
    features : (b, c, z, y, x)
    alpha
        Weights of the own moments are drawn from Beta(alpha, alpha), one per sample.

    Returns
    -------
    (b, c, z, y, x)
    """
    x = features if features.dtype == torch.float64 else features.float()
    variance, mean = torch.var_mean(x.detach(), (2, 3, 4), correction=0, keepdim=True)
    spread = (variance + EPSILON).sqrt()
    other = torch.randperm(len(x)).to(x.device)
    ends = torch.full((len(x),), alpha, dtype=torch.float64)  # a small alpha needs small numbers
    drawn = torch.distributions.Beta(ends, ends).sample()
    own = drawn.to(x).view(-1, 1, 1, 1, 1)
    mixed = torch.lerp(spread[other], spread, own)
    return ((x - mean) / spread * mixed + torch.lerp(mean[other], mean, own)).to(features.dtype)


@contextmanager
def mixing_styles(modules: Sequence[nn.Module], probability: float, alpha: float = 0.1) -> Iterator[None]:
    """Within the context, mix the styles of the modules' outputs, each time with this probability."""

    def mix(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return mix_styles(output, alpha) if float(torch.rand(())) < probability else output

    hooks = [module.register_forward_hook(mix) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
