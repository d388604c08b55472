"""EDSS3D: the plain encoder-decoder without skips that came before SSN3D-ED.

X. Zeng et al., Journal of Structural Biology 202 (2018) 150-160, in the form of the group's public
code: five convolutions of 32 channels, two poolings, two enlargements by repetition.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.layers import MaskNetwork, check_input_size, convolutions, he_init


class EDSS3D(MaskNetwork):
    """Down to a quarter of the resolution and up again.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    width
        Channels of every layer.
    """

    stride = 4

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 32) -> None:
        super().__init__()
        self.fine = convolutions(in_channels, width)
        self.middle = convolutions(width, width)
        self.coarse = convolutions(width, width)
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2),
            convolutions(width, width),
            nn.Upsample(scale_factor=2),
            convolutions(width, width),
            nn.Conv3d(width, out_channels, kernel_size=1),
        )
        he_init(self)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Features ``s1``, ``s2``, ``s4`` of the encoder, named after their stride."""
        check_input_size(x, self.stride)
        fine = self.fine(x)
        middle = self.middle(F.max_pool3d(fine, 2))
        return {"s1": fine, "s2": middle, "s4": self.coarse(F.max_pool3d(middle, 2))}

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.encode(x)["s4"])
