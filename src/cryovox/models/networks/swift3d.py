"""SwiFT for one volume: the 4D Swin encoder with its time axis collapsed, and an MLP decoder.

P. Kim et al., NeurIPS 36 (2023) 42015-42037, classify films of brain volumes. Papers on cryo-ET
compare with a "SwiFT" that labels voxels, and print neither its time axis nor its decoder. This is
our reconstruction: one frame, so the windows, shifts and mergings are those of space, and all-MLP
decoding after SegFormer. Position comes as MONAI's relative bias inside the windows instead of
tables over the whole grid, so that any multiple of the stride fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from monai.networks.nets.swin_unetr import BasicLayer, PatchEmbed, PatchMergingV2
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.layers import MaskNetwork, check_input_size, conv_block, he_init


class Swift3D(MaskNetwork):
    """Four stages of windowed attention at 1/2 to 1/16 of the resolution, each read by the decoder.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    embed
        Channels of the first stage; each merging doubles them.
    depths, heads
        Layers of each stage (a layer shifts its windows every second time) and attention heads.
    window
        Tokens along a window.
    width
        Channels of the decoder.
    drop_path
        Chance that the last layer is skipped for a sample; earlier layers in proportion.
    """

    stride = 16

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        embed: int = 48,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 4,
        width: int = 768,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        widths = [embed * 2**n for n in range(4)]
        if len(depths) != 4 or len(heads) != 4 or any(c % h for c, h in zip(widths, heads, strict=False)):
            raise ValueError(f"depths and heads must be four each, and heads divide {widths}")
        drops = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        ends = list(accumulate(depths))
        self.embed = PatchEmbed(2, in_channels, embed)
        self.stages = nn.ModuleList(
            BasicLayer(c, n, h, 3 * (window,), drops[end - n : end], qkv_bias=True)
            for c, n, h, end in zip(widths, depths, heads, ends, strict=True)
        )
        self.merge = nn.ModuleList(PatchMergingV2(c) for c in widths[:3])
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in widths)
        self.levels = nn.ModuleList(nn.Linear(c, width) for c in widths)
        self.mix = nn.Sequential(*conv_block(4 * width, width, kernel=1))
        self.classify = nn.Conv3d(width, out_channels, kernel_size=1)
        he_init(self)
        for linear in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        nn.init.normal_(self.classify.weight, std=width**-0.5)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Features ``s2``, ``s4``, ``s8``, ``s16``: (b, c_i, z / f, y / f, x / f)."""
        check_input_size(x, self.stride)
        x, features = self.embed(x), {}
        for depth, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x = stage(x).movedim(1, -1)
            features[f"s{2 ** (depth + 1)}"] = norm(x).movedim(-1, 1)
            if depth < 3:
                x = self.merge[depth](x).movedim(-1, 1)
        return features

    def forward(self, x: Tensor) -> Tensor:
        features = list(self.encode(x).values())
        fine = features[0].shape[2:]
        levels = [
            enlarge(level(f.movedim(1, -1)).movedim(-1, 1), fine)
            for level, f in zip(self.levels, features, strict=True)
        ]
        return enlarge(self.classify(self.mix(torch.cat(levels, 1))), x.shape[2:])


def enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate (b, c, z, y, x) linearly along each axis to *size*."""
    return F.interpolate(x, size=list(size), mode="trilinear", align_corners=False)
