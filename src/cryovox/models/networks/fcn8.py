"""FCN8: the fully convolutional network that SSN3D-ED of 2018 is compared with.

J. Long, E. Shelhamer and T. Darrell, CVPR 2015, in three dimensions, with the layers of the public
code to C. Liu et al. (ICIP 2018): the encoder of SSN3D-ED, two wide convolutions of one voxel with
dropout, scores at three resolutions. It enlarges by repetition, so its mask is made of cubes of two
voxels, or of eight without skips (FCN1).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.layers import MaskNetwork, PooledStages, check_input_size, he_init


class FCN8(MaskNetwork):
    """Three stages, scores of each added up from coarse to fine.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    widths
        Channels of the three stages.
    hidden, dropout
        Channels of the two wide layers and the share of them that training drops.
    skips
        Without them only the coarsest score counts (FCN1).
    """

    stride = 8

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = (32, 64, 128),
        hidden: int = 1024,
        dropout: float = 0.7,
        skips: bool = True,
    ) -> None:
        super().__init__()
        if len(widths) != 3 or not 0 <= dropout < 1:
            raise ValueError(f"widths must be three, dropout in [0, 1), not {list(widths)} and {dropout}")
        fine, middle, coarse = widths
        self.stages = PooledStages(in_channels, widths)
        self.wide = nn.Sequential(*wide(coarse, hidden, dropout), *wide(hidden, hidden, dropout))
        self.classify = nn.Conv3d(hidden, out_channels, kernel_size=1)
        self.scores = nn.ModuleList(
            nn.Conv3d(width, out_channels, kernel_size=1) for width in ((middle, fine) if skips else ())
        )
        he_init(self)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Pooled features ``s2``, ``s4``, ``s8``, named after their stride."""
        check_input_size(x, self.stride)
        return self.stages(x)

    def forward(self, x: Tensor) -> Tensor:
        fine, middle, coarse = self.encode(x).values()
        score = self.classify(self.wide(coarse))
        for classify, feature in zip(self.scores, (middle, fine), strict=False):
            score = F.interpolate(score, scale_factor=2) + classify(feature)
        return F.interpolate(score, x.shape[2:])


def wide(before: int, after: int, dropout: float) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Mix channels, rectify, drop some."""
    return nn.Conv3d(before, after, kernel_size=1), nn.ReLU(inplace=True), nn.Dropout(dropout)
