"""Memory format of the weights of a network."""

from __future__ import annotations

import torch
from torch import nn


def use_channels_last(module: nn.Module, device: str | torch.device) -> None:
    """Store weights channels last, in place, in networks that a CPU then trains faster (`channels_last`).

    Outputs differ by rounding only. Inference gains little or gets slower; other devices were not measured
    (`benchmarks/layout_speed.py`).
    """
    if torch.device(device).type != "cpu":
        return
    for part in module.modules():
        if getattr(part, "channels_last", False):
            part.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def infer_channels_last(network: nn.Module, device: str | torch.device) -> None:
    """Store all weights channels last, in place, for inference in bfloat16 on a CPU.

    Other precisions gain little or get slower (`benchmarks/speed/tiler.py`, `benchmarks/layout_speed.py`).
    """
    if torch.device(device).type != "cpu":
        return
    for weight in network.parameters():
        if weight.ndim == 5:  # networks may have weights of other ranks
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
