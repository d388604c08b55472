"""Freeze a part of a network: its head and encoder are identified by what their weights do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cryovox.core.errors import RequestError
from cryovox.models import build
from cryovox.models.features import small_patch_size


def head_parameters(name: str, options: Mapping[str, Any], in_channels: int, out_channels: int) -> set[str]:
    """Names of the weights whose shape depends on the number of classes."""
    with torch.device("meta"):
        state, wider = (
            build(name, options, in_channels, k).state_dict() for k in (out_channels, out_channels + 1)
        )
    return {key for key, value in state.items() if value.shape != wider[key].shape}


def encoder_parameters(network: nn.Module, in_channels: int) -> set[str]:
    """Names of the parameters that the features of ``encode`` depend on; empty where it has none."""
    encode = getattr(network, "encode", None)
    if encode is None:
        return set()
    size = small_patch_size(network)
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    device = next(iter(parameters.values())).device
    training = network.training
    network.eval()
    with torch.enable_grad():
        features = encode(torch.zeros(1, in_channels, size, size, size, device=device))
        total = torch.stack([f.sum() for f in features.values()]).sum()
        grads = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    network.train(training)
    return {name for name, grad in zip(parameters, grads, strict=True) if grad is not None}


def freeze(
    network: nn.Module, part: str, name: str, options: Mapping[str, Any], in_channels: int, out_channels: int
) -> int:
    """Exclude the weights of a part from training.

    Parameters
    ----------
    part
        "encoder", or "all-but-head".
    name, options, in_channels, out_channels
        Arguments that the network was built with.

    Returns
    -------
    int
        Number of frozen weights.
    """
    head = head_parameters(name, options, in_channels, out_channels)
    parameters = dict(network.named_parameters())
    names = set(parameters)
    frozen = names - head if part == "all-but-head" else encoder_parameters(network, in_channels)
    if not frozen or not head or frozen & head or not names - frozen:
        message = f"the {part.replace('-', ' ')} of {name} cannot be separated from its other parts"
        raise RequestError("--freeze", message, "choose another part, or leave --freeze out")
    for key in frozen:
        parameters[key].requires_grad_(False)
    return sum(parameters[key].numel() for key in frozen)


def freeze_batch_norm(network: nn.Module) -> None:
    """Stop updating the running statistics of batch norms whose weights are frozen."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and is_frozen(module):
            module.eval()


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has weights, none of which are trained."""
    weights = list(module.parameters())
    return bool(weights) and not any(p.requires_grad for p in weights)
