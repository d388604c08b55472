"""Where a network is active: the length of its features, as in figures 10 and 11 of MVGFormer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@torch.no_grad()
def activations(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Activation of each of the named features of a network, in evaluation mode.

    Parameters
    ----------
    network
        One with ``depths`` (MVGFormer: every view after every layer) or ``encode``.
    x : (b, c, z, y, x)
        A cube.

    Returns
    -------
    dict of (b, z, y, x)
        In [0, 1], as large as the cube.
    """
    training = network.training
    network.eval()
    named: Any = getattr(network, "depths", None) or network.encode
    try:
        return {name: activation_map(features, x.shape[-1]) for name, features in named(x).items()}
    finally:
        network.train(training)


def activation_map(features: Tensor, size: int) -> Tensor:
    """L2 norm over the channels, from 0 to 1 within each sample (5.3.3), enlarged to *size* voxels."""
    length = features.float().norm(dim=1)
    low, high = length.amin((1, 2, 3), keepdim=True), length.amax((1, 2, 3), keepdim=True)
    level = (length - low) / (high - low).clamp(min=1e-12)
    return F.interpolate(level[:, None], (size,) * 3, mode="trilinear", align_corners=False)[:, 0]
