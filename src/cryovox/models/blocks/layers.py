"""Base classes and layers that several networks share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from math import prod, sqrt

from torch import Tensor, nn
from torch.nn import functional as F

PRIOR_LOGIT = -4.6  # logit of 0.01 (RetinaNet), so that the background does not dominate the first steps


class MaskNetwork(nn.Module):
    """Base of networks whose output is a mask; each says its `stride`."""

    output_stride = 1
    activation = "softmax"
    kind = "mask"
    patch = 32
    fixed_patch = False
    channels_last = False
    """Whether a CPU trains faster in the memory format channels last; see `cryovox.models.memory_format`."""


class HeatmapNetwork(nn.Module):
    """Base of networks whose output is a heatmap; each says its `stride` and `output_stride`."""

    activation = "sigmoid"
    kind = "heatmap"
    patch = 48
    fixed_patch = False


def check_input_size(x: Tensor, stride: int) -> None:
    """Raise a ValueError if a side of the input (b, c, z, y, x) is no multiple of *stride*."""
    sides = tuple(x.shape[2:])
    padded = tuple(-(-side // stride) * stride for side in sides)
    if sides != padded:
        raise ValueError(f"sides {sides} are not multiples of {stride} voxels; pad to {padded}")


def he_init(network: nn.Module) -> None:
    """Initialize all convolutions after He et al. 2015, with zero biases.

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


def convolutions(*widths: int) -> nn.Sequential:
    """Chain 3 x 3 x 3 convolutions with ReLU through the given channels."""
    steps: list[nn.Module] = []
    for before, after in pairwise(widths):
        steps += [nn.Conv3d(before, after, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*steps)


class PooledStages(nn.ModuleList):
    """Stages of two convolutions with ReLU and a pooling: the encoder of the networks of 2018."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__(convolutions(a, b, b) for a, b in pairwise((in_channels, *widths)))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Pooled features ``s2``, ``s4``, ... of (b, c, z, y, x), named after their stride."""
        features: dict[str, Tensor] = {}
        for depth, stage in enumerate(self, start=1):
            x = features[f"s{2**depth}"] = F.max_pool3d(stage(x), 2)
        return features


def conv_block(before: int, after: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Convolution, batch normalization, ReLU."""
    conv = nn.Conv3d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm3d(after), nn.ReLU(inplace=True)]


def check_choice(option: str, value: object, allowed: Collection[object]) -> None:
    """Raise a ValueError if an option has a value that is not allowed."""
    if value not in allowed:
        raise ValueError(f"{option} {value!r} is none of {', '.join(map(str, allowed))}")
