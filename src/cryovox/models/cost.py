"""Cost of a network: its number of weights, and the operations of one prediction.

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
    """Weights and operations of a network.

    Parameters
    ----------
    parameters
        Number of weights, including those used in training only.
    flops
        Floating-point operations to predict one patch: those of convolutions, matrix products and
        attention, a multiplication with its addition counted as 2. Norms, activations, poolings and
        enlargements are left out.
    patch_size
        Edge of the patch in voxels.
    """

    parameters: int
    flops: int
    patch_size: int

    @property
    def flops_per_voxel(self) -> float:
        """Operations per voxel of the input."""
        return self.flops / self.patch_size**3


def cost(
    name: str,
    size: str,
    /,
    in_channels: int = 1,
    out_channels: int = 16,
    patch_size: int | None = None,
    **overrides: Any,
) -> Cost:
    """Count weights and operations of a network in a named size.

    Parameters
    ----------
    name, size
        A network and one of its sizes.
    in_channels, out_channels
        Channels of the input and of the logits.
    patch_size
        Edge of the patch in voxels; by default that of the network.
    overrides
        Options of the network on top of the size.
    """
    patch_size = patch_size or MODELS[name].patch
    chosen = options(name, size, **overrides)
    try:
        return _count("meta", name, chosen, (in_channels, out_channels), patch_size)
    except (RuntimeError, NotImplementedError):  # torch's: it looks at values
        return _count("cpu", name, chosen, (in_channels, out_channels), patch_size)


def cost_table() -> list[dict[str, Any]]:
    """Count every network in every size, one row each."""
    return [cost_row(name, size) for name in MODELS for size in sizes(name)]


def cost_row(name: str, size: str) -> dict[str, Any]:
    """Count one network in one size: plain JSON data."""
    counted = cost(name, size)
    return {
        "network": name,
        "size": size,
        "kind": MODELS[name].kind,
        "patch": counted.patch_size,
        "parameters": counted.parameters,
        "flops": counted.flops,
        "flops_per_voxel": counted.flops_per_voxel,
    }


def _count(device: str, name: str, chosen: dict[str, Any], channels: tuple[int, int], size: int) -> Cost:
    counter = FlopCounterMode(display=False)
    with torch.device(device):
        network = build(name, chosen, *channels).eval()
    x = torch.zeros(1, channels[0], size, size, size, device=device)
    # fused attention is not counted on every device
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        network(x)
    parameters = sum(p.numel() for p in network.parameters())
    return Cost(parameters, counter.get_total_flops(), size)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(cost_table(), indent=1) + "\n")
