"""DeepFinder: the 3D U-Net that cryo-ET papers compare with.

E. Moebel et al., Nature Methods 18 (2021) 1386-1394. Convolutions with ReLU and no normalization,
two poolings, nearest-neighbor enlargement followed by a 2 x 2 x 2 convolution. Weights start after
Glorot with zero biases, as in Keras, where it was written.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.layers import MaskNetwork, check_input_size, convolutions


class DeepFinder(MaskNetwork):
    """Three resolutions, two skips.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    widths
        Channels at full, half and quarter resolution.
    """

    stride = 4
    channels_last = True
    patch = 56

    def __init__(self, in_channels: int, out_channels: int, *, widths: Sequence[int] = (32, 48, 64)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.fine = convolutions(in_channels, fine, fine)
        self.middle = convolutions(fine, middle, middle)
        self.coarse = convolutions(middle, coarse, coarse, coarse, coarse)
        self.to_middle = Enlarge(coarse)
        self.merge_middle = convolutions(coarse + middle, middle, middle)
        self.to_fine = Enlarge(middle)
        self.merge_fine = convolutions(middle + fine, fine, fine)
        self.classify = nn.Conv3d(fine, out_channels, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Features ``fine``, ``middle``, ``coarse``: (b, c_i, z / f, y / f, x / f) with f = 1, 2, 4."""
        check_input_size(x, self.stride)
        fine = self.fine(x)
        middle = self.middle(F.max_pool3d(fine, 2))
        return {"fine": fine, "middle": middle, "coarse": self.coarse(F.max_pool3d(middle, 2))}

    def forward(self, x: Tensor) -> Tensor:
        fine, middle, coarse = self.encode(x).values()
        middle = self.merge_middle(torch.cat([self.to_middle(coarse), middle], 1))
        fine = self.merge_fine(torch.cat([self.to_fine(middle), fine], 1))
        return self.classify(fine)


class Enlarge(nn.Module):
    """Double by repetition, then convolve 2 x 2 x 2, padded at the far ends as Keras does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, kernel_size=2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (0, 1, 0, 1, 0, 1))
        return F.relu(self.conv(x), inplace=True)
