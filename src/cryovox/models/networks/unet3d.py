"""3D U-Net: double convolutions with batch norm, poolings, transposed convolutions, concatenation.

Ö. Çiçek et al., MICCAI 2016, LNCS 9901, 424-432, in the form 32-64-128-256 that papers on cryo-ET
compare with. Made of the blocks of MONAI's BasicUNet, which itself has five resolutions; its
DynUNet, the other candidate, steps down by convolutions instead of poolings.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import Tensor, nn

from cryovox.models.blocks.layers import MaskNetwork, check_input_size, he_init

BLOCK = {"act": ("relu", {"inplace": True}), "norm": "batch", "bias": False}


class UNet3D(MaskNetwork):
    """As many resolutions as there are widths.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    widths
        Channels at full, half, quarter, ... resolution; each twice the one before.
    """

    stride = 8
    channels_last = True

    def __init__(
        self, in_channels: int, out_channels: int, *, widths: Sequence[int] = (32, 64, 128, 256)
    ) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        if not steps or any(coarse != 2 * fine for fine, coarse in steps):
            raise ValueError(f"widths {list(widths)} must be two or more, each twice the one before")
        self.stride = 2 ** len(steps)
        self.stem = TwoConv(3, in_channels, widths[0], **BLOCK)
        self.down = nn.ModuleList(Down(3, fine, coarse, **BLOCK) for fine, coarse in steps)
        self.up = nn.ModuleList(UpCat(3, coarse, fine, fine, **BLOCK) for fine, coarse in reversed(steps))
        self.classify = nn.Conv3d(widths[0], out_channels, kernel_size=1)
        he_init(self)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Features ``s1``, ``s2``, ``s4``, ... of the encoder, named after their stride."""
        check_input_size(x, self.stride)
        features = {"s1": self.stem(x)}
        for depth, down in enumerate(self.down, start=1):
            features[f"s{2**depth}"] = down(features[f"s{2 ** (depth - 1)}"])
        return features

    def forward(self, x: Tensor) -> Tensor:
        *skips, x = self.encode(x).values()
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(x, skip)
        return self.classify(x)
