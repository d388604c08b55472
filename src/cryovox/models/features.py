"""Features of a network along with its output, from one forward pass if possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cryovox.core.errors import RequestError

Output = TypeVar("Output")


def forward_with_features(
    network: nn.Module, x: Tensor, run: Callable[[Tensor], Output]
) -> tuple[Output, dict[str, Tensor]]:
    """Run the network and keep the features that its ``encode`` returns on the way.

    Networks whose ``forward`` does not call ``encode`` encode the input a second time.

    Parameters
    ----------
    x : (b, c, z, y, x)
        Input of the network.
    run
        Calls the network on x once and returns its output.

    Returns
    -------
    output
    features
        By name, from fine to coarse, (b, c_i, z_i, y_i, x_i).
    """
    method = encode_method(network)
    features: dict[str, Tensor] = {}

    def encode(x: Tensor) -> dict[str, Tensor]:
        latest: dict[str, Tensor] = method(x)
        features.update(latest)
        return latest

    with replaced_encode(network, encode):
        output = run(x)
    return output, features or method(x)


@contextmanager
def replaced_encode(network: nn.Module, encode: Callable[[Tensor], dict[str, Tensor]]) -> Iterator[None]:
    """Let the network call this function instead of its method ``encode``."""
    network.encode = encode  # type: ignore[assignment]
    try:
        yield
    finally:
        del network.encode


def feature_channels(network: nn.Module, in_channels: int = 1) -> dict[str, int]:
    """Channels of each feature, by name."""
    shapes = feature_shapes(network, small_patch_size(network), in_channels)
    return {name: shape[0] for name, shape in shapes.items()}


def feature_shapes(network: nn.Module, patch_size: int, in_channels: int = 1) -> dict[str, tuple[int, ...]]:
    """Shapes (c, z, y, x) of the features of a patch, by name, from fine to coarse."""
    features = _run_on_zeros(network, encode_method(network), patch_size, in_channels)
    return {name: tuple(feature.shape[1:]) for name, feature in features.items()}


def output_channels(network: nn.Module, in_channels: int = 1) -> int:
    """Channels of the output."""
    return int(_run_on_zeros(network, network, small_patch_size(network), in_channels).shape[1])


def forward_uses_encode(network: nn.Module, in_channels: int = 1) -> bool:
    """Whether ``forward`` calls ``encode``."""
    method, inputs = encode_method(network), list[Tensor]()

    def encode(x: Tensor) -> dict[str, Tensor]:
        inputs.append(x)
        features: dict[str, Tensor] = method(x)
        return features

    with replaced_encode(network, encode):
        _run_on_zeros(network, network, small_patch_size(network), in_channels)
    return bool(inputs)


def feature_modules(network: nn.Module, in_channels: int = 1) -> dict[str, str]:
    """Names of the modules whose output is a feature of ``encode``, by feature, from fine to coarse.

    Features that are no module's output as they are, such as permuted maps, are left out.
    """
    outputs: list[tuple[str, Tensor]] = []  # keeps all tensors alive, so that no two share memory by chance

    def record(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs.append((name, output))

        return hook

    hooks = [module.register_forward_hook(record(name)) for name, module in network.named_modules()]
    try:
        features = _run_on_zeros(network, encode_method(network), small_patch_size(network), in_channels)
    finally:
        for hook in hooks:
            hook.remove()
    by_feature = {
        key: [name for name, output in outputs if _same(output, feature)] for key, feature in features.items()
    }
    return {key: _outermost(names) for key, names in by_feature.items() if names}


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


def _outermost(names: list[str]) -> str:
    """The outermost module around the first that returned the tensor; later ones only pass it on."""
    return min((name for name in names if f"{names[0]}.".startswith(f"{name}.")), key=len)


def small_patch_size(network: nn.Module) -> int:
    """Edge of a small patch that the network accepts."""
    fixed = bool(getattr(network, "fixed_patch", False))
    return int(network.patch if fixed else 2 * network.stride)  # type: ignore[arg-type, operator]


@torch.no_grad()
def _run_on_zeros(
    network: nn.Module, run: Callable[[Tensor], Output], patch_size: int, in_channels: int
) -> Output:
    """Output for a patch of zeros, in evaluation mode."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    output = run(torch.zeros(1, in_channels, patch_size, patch_size, patch_size, device=device))
    network.train(training)
    return output


def encode_method(network: nn.Module) -> Any:
    """The method `encode` of a network; an error if it has none."""
    method = getattr(network, "encode", None)
    if method is None:
        message = f"{type(network).__name__} has no features to align"
        raise RequestError("--model", message, "choose a network with a method `encode`, such as voxresnet")
    return method
