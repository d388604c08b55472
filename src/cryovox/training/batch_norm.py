"""The statistics that batch norms keep, and of which data they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cryovox.models.freezing import is_frozen

MOMENTUM = 0.1
"""Weight of a batch in `BatchNormStatistics`, as in the batch norms of torch; larger for the first ten."""


def bn_layers(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch norms of a network that keep statistics."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [m for m in norms if m.track_running_stats]


@contextmanager
def preserve_bn_stats(network: nn.Module) -> Iterator[None]:
    """Whatever happens within, the statistics are afterwards what they were."""
    buffers = [value for norm in bn_layers(network) for value in norm.buffers()]
    before = [value.clone() for value in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for value, kept in zip(buffers, before, strict=True):
                value.copy_(kept)


@torch.no_grad()
def update_bn_stats(network: nn.Module, x: Tensor, frozen: nn.Module | None = None) -> None:
    """Move the statistics toward those of a batch (b, c, z, y, x); the network is left in eval mode.

    Parameters
    ----------
    network
    x
    frozen
        Network of the same architecture whose frozen batch norms keep their statistics in *network* too.
    """
    norms = bn_layers(network.eval())
    if not norms:
        return
    likes = norms if frozen is None else bn_layers(frozen)
    for norm, like in zip(norms, likes, strict=True):
        norm.train(frozen is None or not is_frozen(like))
    network(x)
    network.eval()


class BatchNormStatistics(nn.Module):
    """Further statistics of the batch norms of a network, those of other data than its own.

    The first batch replaces those of the network, so that nothing of other data remains.

    Parameters
    ----------
    network
        Of the architecture that they belong to.
    """

    count: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        for number, norm in enumerate(bn_layers(network)):
            self.register_buffer(f"mean{number}", torch.zeros_like(norm.running_mean))  # type: ignore[arg-type]
            self.register_buffer(f"variance{number}", torch.ones_like(norm.running_var))  # type: ignore[arg-type]

    @contextmanager
    def updated(self, network: nn.Module, x: Tensor) -> Iterator[None]:
        """Within, the network (in eval mode) has these statistics, moved toward those of a batch first."""
        norms, own = bn_layers(network), list(self.buffers())[1:]
        momenta = [norm.momentum for norm in norms]
        self.count += 1
        with preserve_bn_stats(network), torch.no_grad():
            values = [value for norm in norms for value in (norm.running_mean, norm.running_var)]
            for value, kept in zip(values, own, strict=True):
                value.copy_(kept)  # type: ignore[union-attr]
            for norm in norms:
                norm.momentum = max(MOMENTUM, 1 / int(self.count))
            try:
                update_bn_stats(network, x)
            finally:
                for norm, momentum in zip(norms, momenta, strict=True):
                    norm.momentum = momentum
            for value, kept in zip(values, own, strict=True):
                kept.copy_(value)  # type: ignore[arg-type]
            yield
