"""Convolutions of a single tile on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class OneDnnConvolutions(TorchFunctionMode):
    """Within, float32 convolutions of a single tile use oneDNN, as those of several tiles do.

    torch leaves them to a plain loop where the first four sides of the input have a product of 20480 at
    most, which makes a network up to four times as slow (`benchmarks/speed/tiler.py`) and its scores differ
    in the last digits from those in a larger batch.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.conv3d and not kwargs and len(args) == 7 and _is_plain(*args):
            x, weight, bias, stride, padding, dilation, groups = args
            return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
        return func(*args, **(kwargs or {}))


def _is_plain(x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, *_: Any) -> bool:
    """Whether torch would not use oneDNN although it could."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and len(x) == 1
        and x.ndim == 5
        and weight.shape[-1] > 1
        and not isinstance(padding, str)
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )
