"""How the weights of a network lie in memory."""

from __future__ import annotations

import torch
from torch import nn


def use_channels_last(module: nn.Module, device: str | torch.device) -> None:
    """Lay weights out as a CPU trains fastest with, in place, in networks that say so (`channels_last`).

    Answers differ by rounding alone. For answers without a gradient it brings little or does harm, and on
    other devices it was not measured (`benchmarks/layout_speed.py`).
    """
    if torch.device(device).type != "cpu":
        return
    for part in module.modules():
        if getattr(part, "channels_last", False):
            part.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
