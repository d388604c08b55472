"""U-CLSTM: a 3D U-Net whose deepest features are read slice by slice by a convolutional LSTM.

A method of SHREC 2021 (Papoulias, Gerolymatos, Zacharaki, Moustakas) of which only the name
and the idea are public. This is our reconstruction: widths 32, 64 and 128, the LSTM of X. Shi et
al., NeurIPS 28 (2015), without peepholes, along z at a quarter of the resolution. Along z because
that is where the missing wedge blurs, and both ways because neither end of it comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.layers import MaskNetwork, check_input_size, conv_block, he_init


class UCLSTM(MaskNetwork):
    """Encoder at 1, 1/2 and 1/4 of the resolution, a ConvLSTM along z, decoder with two skips.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    widths
        Channels at full, half and quarter resolution.
    bidirectional
        Read upwards with half of the deepest channels and downwards with the others, or upwards
        with all.
    """

    stride = 4

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = (32, 64, 128),
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        if len(widths) != 3 or widths[-1] % 2:
            raise ValueError(f"widths {list(widths)} must be three, the last even")
        self.down = nn.ModuleList(double_conv(a, b) for a, b in pairwise((in_channels, *widths)))
        deep = widths[-1]
        self.along_z = Bidirectional(deep) if bidirectional else ConvLSTM(deep, deep)
        climb = list(pairwise(widths[::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose3d(a, b, kernel_size=2, stride=2) for a, b in climb)
        self.merge = nn.ModuleList(double_conv(2 * b, b) for _, b in climb)
        self.classify = nn.Conv3d(widths[0], out_channels, kernel_size=1)
        he_init(self)
        nn.init.normal_(self.classify.weight, std=widths[0] ** -0.5)
        for lstm in (m for m in self.modules() if isinstance(m, ConvLSTM)):
            lstm.reset()

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Features ``s1``, ``s2`` and, behind the LSTM, ``s4``: (b, c_i, z / f, y / f, x / f)."""
        check_input_size(x, self.stride)
        features: dict[str, Tensor] = {}
        for depth, block in enumerate(self.down):
            x = features[f"s{2**depth}"] = block(x if depth == 0 else F.max_pool3d(x, 2))
        return features | {"s4": self.along_z(x)}

    def forward(self, x: Tensor) -> Tensor:
        *skips, x = self.encode(x).values()
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = merge(torch.cat([up(x), skip], 1))
        return self.classify(x)


class ConvLSTM(nn.Module):
    """Read maps (b, c, z, y, x) plane after plane along z; the output has *width* channels."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        # the names of the two convolutions are those of the stored weights
        self.given = nn.Conv3d(before, 4 * width, kernel_size=(1, 3, 3), padding=(0, 1, 1))
        self.kept = nn.Conv2d(width, 4 * width, kernel_size=3, padding=1, bias=False)

    def reset(self) -> None:
        """Initialize the gates after Glorot, with a forget gate of bias 1."""
        assert self.given.bias is not None
        for conv in (self.given, self.kept):
            nn.init.xavier_uniform_(conv.weight)
        nn.init.zeros_(self.given.bias)
        nn.init.ones_(self.given.bias.chunk(4)[1])

    def forward(self, x: Tensor) -> Tensor:
        planes = self.given(x).unbind(2)  # the part that does not depend on the previous plane
        hidden, cell = (torch.zeros_like(planes[0].chunk(4, 1)[0]) for _ in range(2))
        outputs = []
        for plane in planes:
            input_gate, forget_gate, output_gate, update = (plane + self.kept(hidden)).chunk(4, 1)
            cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * update.tanh()
            hidden = output_gate.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, 2)


class Bidirectional(nn.Module):
    """One `ConvLSTM` upwards and one downwards, with half of the channels each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.upwards, self.downwards = ConvLSTM(width, width // 2), ConvLSTM(width, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.upwards(x), self.downwards(x.flip(2)).flip(2)], 1)


def double_conv(before: int, after: int) -> nn.Sequential:
    """Two convolutions with batch normalization and ReLU."""
    return nn.Sequential(*conv_block(before, after), *conv_block(after, after))
