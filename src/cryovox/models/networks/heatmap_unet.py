"""A residual 3D U-Net: heatmaps of the species at half resolution, or a mask at full resolution.

The form that did best in the CZII challenge of 2024: for finding centers, the half-resolution map
is as exact as the full one and much cheaper. Every step keeps the geometry: output voxel i covers
input voxels 2i and 2i + 1, so its center lies at 2i + 0.5, and a flipped input gives the flipped
map. A 3-wide convolution with stride 2 would be centered on 2i instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.layers import PRIOR_LOGIT, HeatmapNetwork, check_input_size, he_init
from cryovox.models.blocks.voting import vote_for_centers
from cryovox.models.supervision import Supervision


class HeatmapUNet(HeatmapNetwork):
    """Encoder over several resolutions, decoder up to stride 2, sigmoid heads.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the heatmaps (one per species).
    widths
        Channels at full, half, quarter, ... resolution.
    blocks
        Residual blocks of the encoder at each of them.
    norm
        ``"group"`` serves small batches and teacher-student training. ``"batch"`` makes a
        prediction independent of what else lies in the tile.
    offsets
        Predict the offset from each voxel to its center with a second head; at inference, voxels vote
        for the center they point at.
    surroundings
        Channels of a further head (`SurroundingsHead`), which `predict_all` alone computes.
    """

    stride = 8
    output_stride = 2
    channels_last = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = (32, 64, 128, 256),
        blocks: Sequence[int] = (1, 1, 2, 2),
        norm: str = "group",
        offsets: bool = False,
        surroundings: int = 0,
    ) -> None:
        super().__init__()
        if surroundings and self.kind != "heatmap":
            raise ValueError("surroundings belong to heatmaps; train a mask network on their labels")
        if offsets and self.kind != "heatmap":
            raise ValueError("offsets belong to heatmaps; leave them out")
        if len(widths) < 2 or len(widths) != len(blocks):
            raise ValueError(f"widths {list(widths)} and blocks {list(blocks)} must be alike, two or more")
        self.stride = 2 ** (len(widths) - 1)
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, widths[0], kernel_size=3, padding=1),
            *(Residual(widths[0], norm) for _ in range(blocks[0])),
            *norm_relu(widths[0], norm),
        )
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(before, after, kernel_size=2, stride=2), *(Residual(after, norm) for _ in range(n))
            )
            for before, after, n in zip(widths, widths[1:], blocks[1:], strict=False)
        )
        decoded = widths[self.output_stride - 1 :]
        self.up = nn.ModuleList(
            Merge(coarse, fine, norm) for fine, coarse in zip(decoded[-2::-1], decoded[:0:-1], strict=True)
        )
        self.head = nn.Sequential(
            *norm_relu(decoded[0], norm), nn.Conv3d(decoded[0], out_channels, kernel_size=1)
        )
        he_init(self)
        if self.kind == "heatmap":
            nn.init.normal_(self.head[-1].weight, std=0.01)  # type: ignore[arg-type]
            nn.init.constant_(self.head[-1].bias, PRIOR_LOGIT)  # type: ignore[arg-type]
        self.offsets = None
        if offsets:
            self.offsets = nn.Sequential(
                *norm_relu(decoded[0], norm), nn.Conv3d(decoded[0], 3, kernel_size=1)
            )
            nn.init.normal_(self.offsets[-1].weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(self.offsets[-1].bias)  # type: ignore[arg-type]
        self.surroundings = SurroundingsHead(decoded[::-1], surroundings, norm) if surroundings else None

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Features ``s2``, ``s4``, ... of the encoder, named after their stride; for a mask ``s1`` too."""
        check_input_size(x, self.stride)
        x = self.stem(x)
        features = {"s1": x} if self.output_stride == 1 else {}
        for depth, down in enumerate(self.down, start=1):
            x = features[f"s{2**depth}"] = down(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        return self.supervise(x).prediction

    def predict(self, x: Tensor) -> Tensor:
        """Logits at inference: after the votes, if there are offsets."""
        output = self.supervise(x)
        return (
            output.prediction
            if output.offsets is None
            else vote_for_centers(output.prediction, output.offsets)
        )

    def supervise(self, x: Tensor) -> Supervision:
        """Logits, and offsets if there is a head for them."""
        return self._heads(self.decode(x)[-1])

    def decode(self, x: Tensor) -> list[Tensor]:
        """Features of the decoder, from coarse to fine; the first are those of the encoder."""
        *skips, x = self.encode(x).values()
        features = [x]
        for up, skip in zip(self.up, reversed(skips), strict=True):
            features.append(up(features[-1], skip))
        return features

    def _heads(self, finest: Tensor) -> Supervision:
        offsets = None if self.offsets is None else self.offsets(finest)
        return Supervision({"main": self.head(finest)}, offsets=offsets)

    def predict_all(self, x: Tensor) -> Tensor:
        """Logits at inference, followed by those of the surroundings."""
        assert self.surroundings is not None
        features = self.decode(x)
        output = self._heads(features[-1])
        particles = output.prediction
        if output.offsets is not None:
            particles = vote_for_centers(particles, output.offsets)
        return torch.cat([particles, self.surroundings(features)], dim=1)


class ResidualUNet(HeatmapUNet):
    """The same with one step of the decoder more: a mask at full resolution, to compare heatmaps with.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    widths, blocks, norm
        As of :class:`HeatmapUNet`.
    """

    output_stride = 1
    activation = "softmax"
    kind = "mask"


class SurroundingsHead(nn.Module):
    """Membranes and other surroundings from the features of a decoder, which it does not change.

    Parameters
    ----------
    widths
        Channels of the features, from coarse to fine.
    out_channels
        Kinds of surroundings.
    norm
        As of :class:`HeatmapUNet`.
    hidden, last
        Channels of the sum of all features, and of the last convolution.
    """

    def __init__(
        self, widths: Sequence[int], out_channels: int, norm: str, hidden: int = 16, last: int = 8
    ) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(
            nn.Sequential(*norm_relu(width, norm), nn.Conv3d(width, hidden, kernel_size=1))
            for width in widths
        )
        self.blocks = nn.ModuleList(Residual(hidden, norm) for _ in widths[1:-1])
        self.head = nn.Sequential(
            *norm_relu(hidden, norm),
            nn.Conv3d(hidden, last, kernel_size=3, padding=1, bias=False),
            *norm_relu(last, norm),
            nn.Conv3d(last, out_channels, kernel_size=1),
        )
        he_init(self)
        nn.init.constant_(self.head[-1].bias, PRIOR_LOGIT)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits from features (b, c_i, z_i, y_i, x_i), each twice as fine as the one before."""
        narrowed = [narrow(x) for narrow, x in zip(self.narrow, features, strict=True)]
        x = narrowed[0]
        for i, finer in enumerate(narrowed[1:]):
            x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False) + finer
            x = self.blocks[i](x) if i < len(self.blocks) else x
        return self.head(x)


class Merge(nn.Module):
    """Enlarge coarse features and add the finer ones."""

    def __init__(self, coarse: int, fine: int, norm: str) -> None:
        super().__init__()
        self.narrow = nn.Conv3d(coarse, fine, kernel_size=1)
        self.block = Residual(fine, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        wide = F.interpolate(self.narrow(x), scale_factor=2, mode="trilinear", align_corners=False)
        return self.block(wide + skip)


class Residual(nn.Module):
    """Two pre-activated convolutions beside an identity."""

    def __init__(self, width: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *norm_relu(width, norm),
            nn.Conv3d(width, width, kernel_size=3, padding=1, bias=False),
            *norm_relu(width, norm),
            nn.Conv3d(width, width, kernel_size=3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def norm_relu(width: int, norm: str) -> tuple[nn.Module, nn.Module]:
    """Normalize, in groups of at least four channels or over the batch, then rectify."""
    if norm == "batch":
        return nn.BatchNorm3d(width), nn.ReLU(inplace=True)
    if norm != "group":
        raise ValueError(f"norm {norm!r} is neither 'group' nor 'batch'")
    groups = max(g for g in (1, 2, 4, 8) if width % g == 0 and width // g >= min(4, width))
    return nn.GroupNorm(groups, width), nn.ReLU(inplace=True)
