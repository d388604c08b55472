"""The moving average of the weights of a network."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn


def twin(network: nn.Module) -> nn.Module:
    """A copy that follows and never learns by itself."""
    return deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the network; early on it follows faster: (1 + n) / (10 + n).

    Statistics that are counted, such as those of batch norm, are averaged alike; integers copied.
    """
    keep = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value.to(mean.dtype), 1 - keep)
        else:
            mean.copy_(value)
