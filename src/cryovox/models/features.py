"""The features of a network along with its answer, from one pass where that can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cryovox.core.errors import RequestError

Answer = TypeVar("Answer")


def forward_with_features(
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
    own = encode_method(network)
    caught: dict[str, Tensor] = {}

    def encode(given: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = own(given)
        caught.update(found)
        return found

    with replaced_encode(network, encode):
        answer = run(x)
    return answer, caught or own(x)


@contextmanager
def replaced_encode(network: nn.Module, encode: Callable[[Tensor], dict[str, Tensor]]) -> Iterator[None]:
    """Within, the network encodes by this function, which shadows its method."""
    network.encode = encode  # type: ignore[assignment]
    try:
        yield
    finally:
        del network.encode


def feature_channels(network: nn.Module, in_channels: int = 1) -> dict[str, int]:
    """Channels of the features by name."""
    shapes = feature_shapes(network, small_patch_size(network), in_channels)
    return {name: shape[0] for name, shape in shapes.items()}


def feature_shapes(network: nn.Module, side: int, in_channels: int = 1) -> dict[str, tuple[int, ...]]:
    """Channels and sides (c, z, y, x) of the features of a patch, by name, from fine to coarse."""
    found = _probed(network, encode_method(network), side, in_channels)
    return {name: tuple(feature.shape[1:]) for name, feature in found.items()}


def output_channels(network: nn.Module, in_channels: int = 1) -> int:
    """Channels of the answer."""
    return int(_probed(network, network, small_patch_size(network), in_channels).shape[1])


def forward_uses_encode(network: nn.Module, in_channels: int = 1) -> bool:
    """Whether the network calls its ``encode`` to answer."""
    own, called = encode_method(network), list[Tensor]()

    def encode(given: Tensor) -> dict[str, Tensor]:
        called.append(given)
        found: dict[str, Tensor] = own(given)
        return found

    with replaced_encode(network, encode):
        _probed(network, network, small_patch_size(network), in_channels)
    return bool(called)


def feature_modules(network: nn.Module, in_channels: int = 1) -> dict[str, str]:
    """Names of the modules that answer with a feature of ``encode``, by feature, from fine to coarse.

    Features that no module answers with as they are, such as maps of which axes were moved, are left out.
    """
    made: list[tuple[str, Tensor]] = []  # holds all answers, so that no two share their memory by chance

    def noting(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(_module: nn.Module, _given: Any, answer: Any) -> None:
            if isinstance(answer, Tensor):
                made.append((name, answer))

        return note

    hooks = [module.register_forward_hook(noting(name)) for name, module in network.named_modules()]
    try:
        features = _probed(network, encode_method(network), small_patch_size(network), in_channels)
    finally:
        for hook in hooks:
            hook.remove()
    by_feature = {
        key: [name for name, answer in made if _same(answer, feature)] for key, feature in features.items()
    }
    return {key: _outermost(names) for key, names in by_feature.items() if names}


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


def _outermost(names: list[str]) -> str:
    """The widest module around the first that answered; later ones only hand on what they are given."""
    return min((name for name in names if f"{names[0]}.".startswith(f"{name}.")), key=len)


def small_patch_size(network: nn.Module) -> int:
    """A small side of patches that the network takes."""
    fixed = bool(getattr(network, "fixed_patch", False))
    return int(network.patch if fixed else 2 * network.stride)  # type: ignore[arg-type, operator]


@torch.no_grad()
def _probed(network: nn.Module, run: Callable[[Tensor], Answer], side: int, in_channels: int) -> Answer:
    """What comes of an empty patch."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    answer = run(torch.zeros(1, in_channels, side, side, side, device=device))
    network.train(training)
    return answer


def encode_method(network: nn.Module) -> Any:
    """Its method `encode`; refuses a network without one."""
    found = getattr(network, "encode", None)
    if found is None:
        told = f"{type(network).__name__} shows no features to be aligned"
        raise RequestError("--model", told, "choose a network with a method `encode`, such as voxresnet")
    return found
