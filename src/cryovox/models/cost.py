"""What a network costs: its weights, and the arithmetic of one prediction.

Shapes alone are computed where the network allows it (torch's meta device), so even a large network
is counted in a moment.

All rows together take some seconds, so `cryovox models` reads them from ``costs.json``, which
``python -m cryovox.models.cost > src/cryovox/models/costs.json`` writes and a test holds.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cryovox.models import MODELS, build, options, sizes


@dataclass(frozen=True)
class Cost:
    """Weights and arithmetic of a network.

    Parameters
    ----------
    parameters
        Learned numbers, those included that serve training only.
    flops
        Floating-point operations to predict one patch: those of convolutions, matrix products and
        attention, a multiplication with its addition counted as 2. Norms, activations, poolings and
        enlargements are left out.
    side
        Voxels along the patch.
    """

    parameters: int
    flops: int
    side: int

    @property
    def flops_per_voxel(self) -> float:
        """Operations per voxel of the input."""
        return self.flops / self.side**3


def cost(
    name: str,
    size: str,
    /,
    in_channels: int = 1,
    out_channels: int = 16,
    side: int | None = None,
    **overrides: Any,
) -> Cost:
    """Count weights and operations of a network in a named size.

    Parameters
    ----------
    name, size
        A network and one of its sizes.
    in_channels, out_channels
        Channels of the input and of the logits.
    side
        Voxels along the patch; by default that of the network.
    overrides
        Options of the network on top of the size.
    """
    side, chosen = side or MODELS[name].patch, options(name, size, **overrides)
    try:
        return _count("meta", name, chosen, (in_channels, out_channels), side)
    except (RuntimeError, NotImplementedError):  # torch's: it looks at values
        return _count("cpu", name, chosen, (in_channels, out_channels), side)


def cost_table() -> list[dict[str, Any]]:
    """Count every network in every size, one row each."""
    return [cost_row(name, size) for name in MODELS for size in sizes(name)]


def cost_row(name: str, size: str) -> dict[str, Any]:
    """Count one network in one size: plain JSON data."""
    found = cost(name, size)
    return {
        "network": name,
        "size": size,
        "kind": MODELS[name].kind,
        "patch": found.side,
        "parameters": found.parameters,
        "flops": found.flops,
        "flops_per_voxel": found.flops_per_voxel,
    }


def _count(device: str, name: str, chosen: dict[str, Any], channels: tuple[int, int], side: int) -> Cost:
    counter = FlopCounterMode(display=False)
    with torch.device(device):
        network = build(name, chosen, *channels).eval()
    x = torch.zeros(1, channels[0], side, side, side, device=device)
    # fused attention is not counted on every device
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        network(x)
    parameters = sum(p.numel() for p in network.parameters())
    return Cost(parameters, counter.get_total_flops(), side)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(cost_table(), indent=1) + "\n")
