"""What several networks share."""

from __future__ import annotations

from math import prod, sqrt

from torch import Tensor, nn


def check_sides(x: Tensor, stride: int) -> None:
    """Refuse an input (b, c, z, y, x) whose sides are no multiples of *stride*."""
    sides = tuple(x.shape[2:])
    padded = tuple(-(-side // stride) * stride for side in sides)
    if sides != padded:
        raise ValueError(f"sides {sides} are not multiples of {stride} voxels; pad to {padded}")


def he_init(network: nn.Module) -> None:
    """Draw all convolutions after He et al. 2015 and zero their biases.

    A transposed convolution counts the inputs that meet in one output voxel.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            taps = prod(module.kernel_size)
            if isinstance(module, nn.ConvTranspose3d):
                taps //= prod(module.stride)
            nn.init.normal_(module.weight, std=sqrt(2 / (module.in_channels * taps)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
