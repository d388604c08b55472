"""The moving average of the weights of a network."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

MAX_AGE = 0.1
"""Largest mean age of the averaged weights, as a fraction of the steps so far."""


def ema_copy(network: nn.Module) -> nn.Module:
    """A copy that follows and never learns by itself."""
    return deepcopy(network).requires_grad_(False).eval()


def ema_weight(decay: float, step: int) -> float:
    """Weight of the newest weights in the average after *step* steps.

    The averaged weights have a mean age of about 1 / (1 - decay) steps, but of a tenth of the steps so far at
    most: in a short training the average covers a fixed part of it, as the power-function averages of
    T. Karras et al. (CVPR 2024). It equals the network in the first steps, so nothing of the initial weights
    remains.

    Examples
    --------
    >>> [round(ema_weight(0.99, step), 3) for step in (1, 9, 90, 900, 9000)]
    [1.0, 1.0, 0.1, 0.01, 0.01]
    """
    return max(1 - decay, min(1.0, (1 / MAX_AGE - 1) / max(1, step)))


def ema_update(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average toward the network after *step* steps, by :func:`ema_weight`."""
    ema_lerp(average, network, ema_weight(decay, step))


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
