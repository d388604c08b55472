"""The decoder of Swin UNETR behind an encoder of one grid: the "Base" of fig. 9a of MVGFormer.

A. Hatamizadeh et al., BrainLes 2021, with the blocks of MONAI. Swin UNETR's encoder halves its grid
from stage to stage; a plain transformer does not, so that earlier depths are enlarged to the finer
grids by transposed convolutions, as UNETR does. That is our reading, the paper does not say how.
"""

from __future__ import annotations

from monai.networks.blocks import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import Tensor, nn


class UNETRDecoder(nn.Module):
    """Doubles the grid step by step up to the voxels, with a shortcut at each size.

    Parameters
    ----------
    in_channels, dim, out_channels
        Channels of the cube, of the features and of the mask.
    width
        Channels at full size and at half; twice as many at each smaller size.
    steps
        Doublings from the grid to the voxels: one depth of the encoder for each.
    """

    def __init__(self, in_channels: int, dim: int, out_channels: int, *, width: int, steps: int) -> None:
        super().__init__()
        widths = [width * 2 ** max(step - 1, 0) for step in range(steps + 1)]  # from voxels to grid
        self.cube = _block(in_channels, width)
        self.shortcuts = nn.ModuleList(
            UnetrPrUpBlock(
                3, dim, widths[step], num_layer=steps - step - 1, kernel_size=3, stride=1,
                upsample_kernel_size=2, norm_name="instance", conv_block=True, res_block=True,
            )
            for step in range(1, steps)
        )  # fmt: skip
        self.deepest = _block(dim, widths[-1])
        self.up = nn.ModuleList(
            UnetrUpBlock(
                3, widths[step + 1], widths[step], kernel_size=3, upsample_kernel_size=2,
                norm_name="instance", res_block=True,
            )
            for step in reversed(range(steps))
        )  # fmt: skip
        self.classify = nn.Conv3d(width, out_channels, kernel_size=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (b, k, side, side, side) from the cube and maps (b, c, n, n, n), shallowest first."""
        cube, *shallow, deepest = features
        finer = [self.cube(cube), *(lift(f) for lift, f in zip(self.shortcuts, shallow, strict=True))]
        x: Tensor = self.deepest(deepest)
        for up, shortcut in zip(self.up, reversed(finer), strict=True):
            x = up(x, shortcut)
        return self.classify(x)


def _block(before: int, after: int) -> nn.Module:
    block: nn.Module = UnetrBasicBlock(
        3, before, after, kernel_size=3, stride=1, norm_name="instance", res_block=True
    )
    return block
