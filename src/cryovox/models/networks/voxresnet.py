"""VoxResNet: a residual network with side outputs at four depths, which are added.

H. Chen, Q. Dou, L. Yu, J. Qin and P.-A. Heng, NeuroImage 170 (2018) 446-455, in the form that
cryo-ET papers compare with: all kernels 3 x 3 x 3, 4 channels per side output, the final mask is
the sum of the four. Here weights start after He instead of N(0, 0.01).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from cryovox.models.blocks.layers import MaskNetwork, check_input_size, he_init
from cryovox.models.supervision import Supervision

TAPS = ("fc", "v2", "v4", "v6")
SIDE_CHANNELS = 4  # of a side output


class VoxResNet(MaskNetwork):
    """Encoder at 1, 1/2, 1/4 and 1/8 of the resolution, with a side output on each.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    widths
        Channels of the finest depth and of the three coarser ones.
    """

    stride = 8
    channels_last = True

    def __init__(self, in_channels: int, out_channels: int, *, widths: Sequence[int] = (32, 64)) -> None:
        super().__init__()
        fine, coarse = widths
        depths = (fine, coarse, coarse, coarse)
        self.stem = nn.Sequential(conv(in_channels, fine), *norm_relu(fine), conv(fine, fine))
        self.down = nn.ModuleList(
            nn.Sequential(*norm_relu(before), conv(before, after, 2), Residual(after), Residual(after))
            for before, after in pairwise(depths)
        )
        self.side = nn.ModuleList(
            nn.Sequential(enlarge(width, factor), nn.Conv3d(SIDE_CHANNELS, out_channels, kernel_size=1))
            for width, factor in zip(depths, (1, 2, 4, 8), strict=True)
        )
        he_init(self)
        for side in self.side:
            nn.init.normal_(side[-1].weight, std=0.1)  # type: ignore[index]  # start undecided

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Features ``fc``, ``v2``, ``v4``, ``v6``: (b, c_i, z / f, y / f, x / f) with f = 1, 2, 4, 8."""
        check_input_size(x, self.stride)
        features = [self.stem(x)]
        for down in self.down:
            features.append(down(features[-1]))
        return dict(zip(TAPS, features, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        logits = self._side_logits(x)
        return logits["fc"] + logits["v2"] + logits["v4"] + logits["v6"]

    def supervise(self, x: Tensor) -> Supervision:
        """The sum and each side output, all of which enter the segmentation loss."""
        logits = self._side_logits(x)
        return Supervision({"main": logits["fc"] + logits["v2"] + logits["v4"] + logits["v6"], **logits})

    def _side_logits(self, x: Tensor) -> dict[str, Tensor]:
        features = self.encode(x)
        return {tap: side(features[tap]) for tap, side in zip(TAPS, self.side, strict=True)}


class Residual(nn.Module):
    """Two pre-activated convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *norm_relu(width), conv(width, width), *norm_relu(width), conv(width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def conv(before: int, after: int, stride: int = 1) -> nn.Conv3d:
    """Convolve 3 x 3 x 3; no bias, since a batch norm follows sooner or later."""
    return nn.Conv3d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)


def norm_relu(width: int) -> tuple[nn.Module, nn.Module]:
    """Normalize over the batch, then rectify."""
    return nn.BatchNorm3d(width), nn.ReLU(inplace=True)


class Enlarge(nn.ConvTranspose3d):
    """Transposed convolution whose kernel is its stride, so that every voxel becomes a cube of its own.

    A product of matrices says the same as the general form, which takes up to several times as long on a
    CPU (`benchmarks/own_forms.py`).
    """

    def __init__(self, width: int, factor: int) -> None:
        super().__init__(width, SIDE_CHANNELS, kernel_size=factor, stride=factor)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        (b, _, *sides), (k, f, *_) = x.shape, self.weight.shape[1:]
        cubes = (x.movedim(1, -1) @ self.weight.flatten(1)).view(b, *sides, k, f, f, f)
        whole = cubes.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(b, k, *(f * side for side in sides))
        return whole if self.bias is None else whole + self.bias[:, None, None, None]


def enlarge(width: int, factor: int) -> nn.ConvTranspose3d:
    """Bring features back to full resolution with a transposed convolution."""
    if factor == 1:
        return nn.ConvTranspose3d(width, SIDE_CHANNELS, kernel_size=3, padding=1)
    return Enlarge(width, factor)
