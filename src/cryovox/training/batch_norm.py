"""The statistics that batch norms keep, and of which data they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def bn_layers(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch norms of a network that keep statistics."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [m for m in norms if m.track_running_stats]


@contextmanager
def preserve_bn_stats(network: nn.Module) -> Iterator[None]:
    """Whatever happens within, the statistics are afterwards what they were."""
    norms = bn_layers(network)
    before = [(m.running_mean.clone(), m.running_var.clone()) for m in norms]  # type: ignore[union-attr]
    try:
        yield
    finally:
        with torch.no_grad():
            for norm, (mean, variance) in zip(norms, before, strict=True):
                norm.running_mean.copy_(mean)  # type: ignore[union-attr]
                norm.running_var.copy_(variance)  # type: ignore[union-attr]


@torch.no_grad()
def update_bn_stats(network: nn.Module, x: Tensor) -> None:
    """Move the statistics toward those of a batch (b, c, z, y, x); the network is left in eval mode."""
    norms = bn_layers(network.eval())
    if not norms:
        return
    for norm in norms:
        norm.train()
    network(x)
    network.eval()
