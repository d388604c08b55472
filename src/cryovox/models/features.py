"""The features of a network along with its answer, from one pass where that can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cryovox.core.errors import RequestError

Answer = TypeVar("Answer")


def with_features(
    network: nn.Module, x: Tensor, run: Callable[[Tensor], Answer]
) -> tuple[Answer, dict[str, Tensor]]:
    """Run the network and keep what its ``encode`` gave on the way.

    Networks that do not call ``encode`` to answer encode the input a second time.

    Parameters
    ----------
    x : (b, c, z, y, x)
        Input of the network.
    run
        Asks the network for its answer to x, once.

    Returns
    -------
    answer
    features
        By name, from fine to coarse, (b, c_i, z_i, y_i, x_i).
    """
    own = encoder_of(network)
    caught: dict[str, Tensor] = {}

    def encode(given: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = own(given)
        caught.update(found)
        return found

    network.encode = encode  # type: ignore[assignment]  # shadows the method for this one pass
    try:
        answer = run(x)
    finally:
        del network.encode
    return answer, caught or own(x)


def feature_widths(network: nn.Module, in_channels: int = 1) -> dict[str, int]:
    """Channels of the features by name."""
    encode = encoder_of(network)
    fixed = bool(getattr(network, "fixed_patch", False))
    side = int(network.patch if fixed else 2 * network.stride)  # type: ignore[arg-type, operator]
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.no_grad():
        found = encode(torch.zeros(1, in_channels, side, side, side, device=device))
    network.train(training)
    return {name: feature.shape[1] for name, feature in found.items()}


def encoder_of(network: nn.Module) -> Any:
    """Its method `encode`; refuses a network without one."""
    found = getattr(network, "encode", None)
    if found is None:
        told = f"{type(network).__name__} shows no features to be aligned"
        raise RequestError("--model", told, "choose a network with a method `encode`, such as voxresnet")
    return found
