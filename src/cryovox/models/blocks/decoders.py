"""Decoders of MVGFormer (section 4.3), from token features to logits of every voxel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.layers import conv_block
from cryovox.models.blocks.p3da import P3DA, depth_to_space


class LastLevel(P3DA):
    """P3DA on the deepest features."""

    def forward(self, features: list[Tensor]) -> Tensor:  # type: ignore[override]
        return super().forward(features[-1])


class MultiLevel(nn.Module):
    """Decoders ``mf`` (4.3.1) and ``mlp``: one block per encoder depth, concatenated, classified.

    The classifier mixes channels only, so it can be applied before the upsampling with the same result; with
    *enlarge* ``"depth-to-space"`` it gives the logits of all voxels of a token.
    """

    def __init__(
        self,
        dim: int,
        out_channels: int,
        *,
        width: int,
        levels: int,
        scale: int,
        mlp: bool = False,
        enlarge: str = "trilinear",
    ) -> None:
        super().__init__()
        self.scale, self.enlarge = scale, enlarge
        blocks = [
            nn.Conv3d(dim, width, kernel_size=1)
            if mlp
            else nn.Sequential(*conv_block(dim, width), *conv_block(width, width))
            for _ in range(levels)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.mix = nn.Sequential(*conv_block(levels * width, width, kernel=1)) if mlp else nn.Identity()
        channels = width if mlp else levels * width
        per_token = scale**3 if enlarge == "depth-to-space" else 1
        self.classify = nn.Conv3d(channels, out_channels * per_token, kernel_size=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """From maps (b, c, n, n, n) of each depth to logits (b, k, side, side, side)."""
        levels = [block(f) for block, f in zip(self.blocks, features, strict=True)]
        logits = self.classify(self.mix(torch.cat(levels, 1)))
        if self.enlarge == "depth-to-space":
            return depth_to_space(logits, self.scale)
        return F.interpolate(logits, scale_factor=self.scale, mode="trilinear", align_corners=False)
