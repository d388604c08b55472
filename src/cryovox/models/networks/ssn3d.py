"""SSN3D-ED: the encoder-decoder of 2018 that parts a macromolecule from its neighbors.

C. Liu et al., ICIP 2018 (arXiv 1802.04087), in the two forms that public code of the group has:
skips that are concatenated (2.86 M weights) or added (0.90 M). No normalization anywhere; weights
start after He. The form that adds enlarges by repetition last of all, so its mask is made of cubes
of two voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cryovox.models.blocks.layers import MaskNetwork, PooledStages, check_choice, check_input_size, he_init


class SSN3DED(MaskNetwork):
    """Three stages down, three up, skips from the pooled features.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    widths
        Channels of the three stages.
    skips
        ``"concat"`` or ``"add"``; the latter also has convolutions of one voxel in the decoder.
    """

    stride = 8
    channels_last = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = (32, 64, 128),
        skips: str = "concat",
    ) -> None:
        super().__init__()
        check_choice("skips", skips, ("concat", "add"))
        if len(widths) != 3:
            raise ValueError(f"widths {list(widths)} must be three")
        fine, middle, coarse = widths
        self.concat = skips == "concat"
        self.stages = PooledStages(in_channels, widths)
        self.skips = nn.ModuleList(
            nn.Conv3d(before, after, 3, padding=1) if self.concat else nn.Conv3d(before, after, 1)
            for before, after in ((middle, coarse), (fine, middle))
        )
        self.up = nn.ModuleList(
            (
                deconvolution(coarse, coarse, coarse),
                deconvolution(2 * coarse, middle, middle),
                deconvolution(2 * middle, fine, out_channels),
            )
            if self.concat
            else (
                repetition(coarse, coarse),
                repetition(coarse, middle),
                nn.Sequential(*repetition(middle, fine), nn.Conv3d(fine, out_channels, 1)),
            )
        )
        he_init(self)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Pooled features ``s2``, ``s4``, ``s8``, named after their stride."""
        check_input_size(x, self.stride)
        return self.stages(x)

    def forward(self, x: Tensor) -> Tensor:
        fine, middle, x = self.encode(x).values()
        first, *ups = self.up
        x = first(x)
        for up, skip, feature in zip(ups, self.skips, (middle, fine), strict=True):
            skipped = skip(feature)
            x = up(torch.cat([skipped, x], 1) if self.concat else skipped + x)
        return x


def deconvolution(before: int, width: int, after: int) -> nn.Sequential:
    """Convolve, rectify, double by a transposed convolution, convolve."""
    return nn.Sequential(
        nn.Conv3d(before, width, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.ConvTranspose3d(width, width, kernel_size=2, stride=2),
        nn.Conv3d(width, after, kernel_size=3, padding=1),
    )


def repetition(before: int, after: int) -> nn.Sequential:
    """Mix channels, rectify, double by repetition."""
    return nn.Sequential(nn.Conv3d(before, after, 1), nn.ReLU(inplace=True), nn.Upsample(scale_factor=2))
