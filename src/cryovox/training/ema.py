"""The moving average of the weights of a network."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn


def ema_copy(network: nn.Module) -> nn.Module:
    """A copy that follows and never learns by itself."""
    return deepcopy(network).requires_grad_(False).eval()


def ema_update(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average toward the network; early on it follows faster: (1 + n) / (10 + n)."""
    ema_lerp(average, network, 1 - min(decay, (1 + step) / (10 + step)))


@torch.no_grad()
def ema_lerp(average: nn.Module, network: nn.Module, part: float) -> None:
    """Move the average by this part of the way to the network.

    Statistics that are counted, such as those of batch norm, are averaged alike; integers copied.
    """
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value.to(mean.dtype), part)
        else:
            mean.copy_(value)
