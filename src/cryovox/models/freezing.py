"""Which weights of a network are its head, and which its encoder, told by what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cryovox.core.errors import RequestError
from cryovox.models import build


def head(name: str, options: Mapping[str, Any], in_channels: int, out_channels: int) -> set[str]:
    """Names of the weights whose shape depends on the number of classes."""
    with torch.device("meta"):
        some, more = (
            build(name, options, in_channels, k).state_dict() for k in (out_channels, out_channels + 1)
        )
    return {key for key, value in some.items() if value.shape != more[key].shape}


def encoder(network: nn.Module, in_channels: int) -> set[str]:
    """Names of the parameters that the features of ``encode`` depend on; empty where it has none."""
    encode = getattr(network, "encode", None)
    if encode is None:
        return set()
    fixed = bool(getattr(network, "fixed_patch", False))
    side = int(network.patch if fixed else 2 * network.stride)  # type: ignore[arg-type, operator]
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    device = next(iter(parameters.values())).device
    training = network.training
    network.eval()
    with torch.enable_grad():
        features = encode(torch.zeros(1, in_channels, side, side, side, device=device))
        total = torch.stack([f.sum() for f in features.values()]).sum()
        grads = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    network.train(training)
    return {name for name, grad in zip(parameters, grads, strict=True) if grad is not None}


def freeze(
    network: nn.Module, part: str, name: str, options: Mapping[str, Any], in_channels: int, out_channels: int
) -> int:
    """Keep the weights of a part from learning.

    Parameters
    ----------
    part
        "encoder", or "all-but-head".
    name, options, in_channels, out_channels
        What the network was built from.

    Returns
    -------
    int
        How many numbers learn no more.
    """
    ends = head(name, options, in_channels, out_channels)
    own = dict(network.named_parameters())
    frozen = set(own) - ends if part == "all-but-head" else encoder(network, in_channels)
    if not frozen or not ends or frozen & ends or not set(own) - frozen:
        told = f"the {part.replace('-', ' ')} of {name} cannot be told from its other parts"
        raise RequestError("--freeze", told, "choose another part, or leave --freeze out")
    for key in frozen:
        own[key].requires_grad_(False)
    return sum(own[key].numel() for key in frozen)


def freeze_batch_norm(network: nn.Module) -> None:
    """Keep the running statistics of batch norms whose weights are frozen as they are."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            weights = list(module.parameters())
            if weights and not any(p.requires_grad for p in weights):
                module.eval()
