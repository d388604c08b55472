"""MixStyle: moments of features exchanged between the samples of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

EPSILON = 1e-6


def mix_styles(features: Tensor, alpha: float = 0.1) -> Tensor:
    """Give every sample a mean and a spread between its own and those of another sample.

    K. Zhou et al., ICLR 2021 (MixStyle with random shuffle), in three dimensions. Moments are taken over
    space, channel by channel; no gradient flows through them.

    Parameters
    ----------
    features : (b, c, z, y, x)
    alpha
        Own shares are drawn from Beta(alpha, alpha), sample by sample.

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
def mixing_styles(modules: Sequence[nn.Module], chance: float, alpha: float = 0.1) -> Iterator[None]:
    """Within, what the modules answer has its styles mixed, each time with this chance."""

    def mix(_module: nn.Module, _given: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        return mix_styles(answer, alpha) if float(torch.rand(())) < chance else answer

    hooks = [module.register_forward_hook(mix) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
