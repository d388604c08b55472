"""Swin UNETR: attention in shifted windows as encoder, convolutions as decoder (MONAI's network).

A. Hatamizadeh et al., BrainLes 2021 (arXiv 2201.01266). Two choices are ours: group norm, since a
cube of 32 voxels leaves one voxel at the bottom, which an instance norm cannot normalize, and the
second version of MONAI's patch merging, since in releases before 2025 the first reads some corners
of 2 x 2 x 2 tokens twice and others never (MONAI issues 4757 and 8284).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks import nets
from torch import Tensor

from cryovox.models.blocks.layers import MaskNetwork, check_input_size


class SwinUNETR(MaskNetwork):
    """Tokens of 2 x 2 x 2 voxels, four stages of windowed attention, skips at every resolution.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    width
        Channels at full resolution and of the tokens, a multiple of 12; each stage doubles them.
    window
        Tokens along an attention window.
    depths, heads
        Transformer blocks and attention heads of the four stages.
    """

    stride = 32

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 24,
        window: int = 4,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
    ) -> None:
        super().__init__()
        if width % 12 or len(depths) != 4 or len(heads) != 4:
            raise ValueError("width must be a multiple of 12, depths and heads must be four numbers each")
        if any(width * 2**stage % n for stage, n in enumerate(heads)):
            raise ValueError(f"heads {list(heads)} must divide the {width} channels, doubled at each stage")
        device = torch.get_default_device()
        with torch.device("cpu"):  # MONAI reads numbers off tensors, which the meta device has not
            self.body = nets.SwinUNETR(
                in_channels,
                out_channels,
                feature_size=width,
                window_size=window,
                depths=depths,
                num_heads=heads,
                norm_name=("group", {"num_groups": width // 3}),
                downsample="mergingv2",
            )
        self.body.to(device)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Tokens ``s2`` and the stages ``s4``, ``s8``, ``s16``, ``s32``, named after their stride."""
        check_input_size(x, self.stride)
        return {f"s{2**depth}": stage for depth, stage in enumerate(self.body.swinViT(x), start=1)}

    def forward(self, x: Tensor) -> Tensor:
        check_input_size(x, self.stride)
        return self.body(x)
