"""MedNeXt: a U-Net of ConvNeXt blocks, with residual steps between its resolutions (MONAI's network).

S. Roy et al., MICCAI 2023, LNCS 14223, 405-415; the published size is MedNeXt-M with kernels of 3.
Without the deep supervision of its authors.
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks import nets
from torch import Tensor

from cryovox.models.blocks.layers import MaskNetwork, check_input_size


class MedNeXt(MaskNetwork):
    """Encoder, bottleneck and a decoder that mirrors the encoder; skips are added.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    width
        Channels at full resolution; each step down doubles them.
    blocks, expansion
        Blocks and their inner widening at each resolution, the bottleneck last.
    kernel
        Edge of the depth-wise kernels.
    """

    stride = 16
    channels_last = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        blocks: Sequence[int] = (3, 4, 4, 4, 4),
        expansion: Sequence[int] = (2, 3, 4, 4, 4),
        kernel: int = 3,
    ) -> None:
        super().__init__()
        if len(blocks) < 2 or len(blocks) != len(expansion) or kernel % 2 == 0:
            raise ValueError("blocks and expansion must be alike, two or more, and kernel odd")
        self.stride = 2 ** (len(blocks) - 1)
        self.body = nets.MedNeXt(
            in_channels=in_channels,
            out_channels=out_channels,
            init_filters=width,
            kernel_size=kernel,
            use_residual_connection=True,
            blocks_down=blocks[:-1],
            blocks_bottleneck=blocks[-1],
            blocks_up=blocks[-2::-1],
            encoder_expansion_ratio=expansion[:-1],
            bottleneck_expansion_ratio=expansion[-1],
            decoder_expansion_ratio=expansion[-2::-1],
        )

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Features ``s1``, ``s2``, ... of the encoder, named after their stride, the bottleneck last."""
        check_input_size(x, self.stride)
        features, x = {}, self.body.stem(x)
        for depth, (stage, down) in enumerate(zip(self.body.enc_stages, self.body.down_blocks, strict=True)):
            x = features[f"s{2**depth}"] = stage(x)
            x = down(x)
        return features | {f"s{self.stride}": self.body.bottleneck(x)}

    def forward(self, x: Tensor) -> Tensor:
        check_input_size(x, self.stride)
        return self.body(x)
