"""YOPO: a classifier of whole boxes that slides over a tomogram.

"You only pool once" (Zeng, Liu and Xu at SHREC 2021; the feature network of DISCA, X. Zeng et al.,
PNAS 120 (2023) e2213149120) has ten convolutions without padding, keeps the largest value of each
of their 1360 channels over a box, and classifies those. The convolutions of neighboring boxes are
the same numbers, so here they run once over a tile, and only the maxima are taken box by box: after
n convolutions, over what an unpadded box leaves of them, n voxels less at each face.
For a box inside the tile that is exactly the classifier on the box. A box that reaches beyond the
tile is cut at its face, and near the face the convolutions see zeros; such boxes count little
where tiles overlap and blend.

Our reconstruction of the picker: one logit per species at the middle of a box every few voxels,
trained as a heatmap, so that it is scored, picked and compared like any other heatmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.layers import PRIOR_LOGIT, HeatmapNetwork, check_input_size


class YOPO(HeatmapNetwork):
    """Convolutions over the tile, one maximum per channel and box, a classifier on the maxima.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the heatmaps (one per species).
    widths
        Channels of the convolutions, one after the other.
    hidden
        Channels between the maxima and the output.
    window
        Voxels along a box.
    step
        Voxels from one box to the next, and stride of the heatmap; odd or even like *window*, so
        that a box has its middle where the heatmap has a voxel.
    noise
        Standard deviation of the Gaussian factor on the input in training ("Gaussian dropout").
    """

    stride = 4
    output_stride = 4

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = tuple(range(64, 209, 16)),
        hidden: int = 1024,
        window: int = 32,
        step: int = 4,
        noise: float = 1.0,
    ) -> None:
        super().__init__()
        spare = window - 2 * len(widths) - step
        if step < 1 or spare < 0 or spare % 2:
            message = f"window {window} must be step {step} plus {2 * len(widths)}, or more by an even number"
            raise ValueError(message)
        self.stride = self.output_stride = step
        self.patch = -(-type(self).patch // step) * step
        self.window, self.noise = window, noise
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv3d(a, b, kernel_size=3, padding=1), nn.ELU(inplace=True), nn.BatchNorm3d(b))
            for a, b in pairwise((in_channels, *widths))
        )
        self.norm = nn.BatchNorm3d(sum(widths))
        self.describe = nn.Conv3d(sum(widths), hidden, kernel_size=1)
        self.classify = nn.Conv3d(hidden, out_channels, kernel_size=1)
        for conv in (m for m in self.modules() if isinstance(m, nn.Conv3d)):
            nn.init.orthogonal_(conv.weight)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.constant_(self.classify.bias, PRIOR_LOGIT)  # type: ignore[arg-type]

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Largest values ``boxes`` (b, sum of widths, z / s, y / s, x / s), of a box around each voxel."""
        check_input_size(x, self.stride)
        if self.training and self.noise:
            x = x * (1 + self.noise * torch.randn_like(x))
        maxima = []
        for depth, step in enumerate(self.steps, start=1):
            x = step(x)
            maxima.append(largest(x, self.window - 2 * depth, self.stride))
        return {"boxes": torch.cat(maxima, 1)}

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.describe(self.norm(self.encode(x)["boxes"])))


def largest(x: Tensor, side: int, step: int) -> Tensor:
    """Largest value in cubes of *side* voxels around every *step*-th place, one axis after another."""
    for axis in range(3):
        kernel, stride, padding = [1, 1, 1], [1, 1, 1], [0, 0, 0]
        kernel[axis], stride[axis], padding[axis] = side, step, (side - step) // 2
        x = F.max_pool3d(x, kernel, stride, padding)
    return x
