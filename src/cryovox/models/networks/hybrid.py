"""Decoders of MVGFormer on the encoders of other networks (figure 9a of the paper).

H. Li et al., Knowledge-Based Systems 331 (2025) 114810, exchange the decoders of three networks for
their own and print neither which features the new decoder reads nor on what grid. Our
reconstruction: every feature map of the encoder is resampled to MVGFormer's own grid, a point per 4
voxels (averages of finer maps, linear interpolation of coarser ones), and mixed to one width. The
decoders ``mf`` and ``mlp`` take those maps as they take MVGFormer's levels, ``p3da`` their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models import build
from cryovox.models import options as named
from cryovox.models.blocks.decoders import LastLevel, MultiLevel
from cryovox.models.blocks.layers import MaskNetwork, check_choice, check_input_size, he_init

SIDE = 32  # voxels along the cube that P3DA belongs to


class Hybrid(MaskNetwork):
    """Any encoder of the table under a decoder of MVGFormer.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    encoder, size, options
        Row of the table of networks, its named size, and its options that differ from those.
    decoder, width
        ``"p3da"``, ``"mf"`` or ``"mlp"``, and the channels inside it.
    dim
        Channels that every feature map is mixed to.
    scale
        Voxels per point of the grid: 1, 2, 4, 8 or 16.
    """

    # under P3DA, which belongs to one grid; the other decoders take any multiple of the stride
    stride = SIDE
    patch = SIDE
    fixed_patch = True

    def __init__(  # noqa: PLR0913 - encoder, decoder and their sizes
        self,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "swift3d",
        size: str = "s",
        options: Mapping[str, Any] | None = None,
        decoder: str = "p3da",
        dim: int = 256,
        width: int = 128,
        scale: int = 4,
    ) -> None:
        super().__init__()
        check_choice("decoder", decoder, ("p3da", "mf", "mlp"))
        check_choice("scale", scale, (1, 2, 4, 8, 16))
        if encoder in ("hybrid", "multi-view"):
            raise ValueError(f"encoder {encoder!r} has no encoder of its own")
        self.encoder = build(encoder, named(encoder, size, **options or {}), in_channels, out_channels)
        if SIDE % self.encoder.stride:
            raise ValueError(f"the encoder works on multiples of {self.encoder.stride}, not on {SIDE} voxels")
        self.fixed_patch = decoder == "p3da" or self.encoder.fixed_patch
        self.stride = SIDE if self.fixed_patch else lcm(self.encoder.stride, scale)
        self.scale = scale
        channels, called = trace_encode(self.encoder, in_channels)
        remove_uncalled(self.encoder, called)
        self.levels = nn.ModuleList(nn.Conv3d(c, dim, kernel_size=1) for c in channels)
        self.decoder: LastLevel | MultiLevel = (
            LastLevel(dim, out_channels, width=width, grid=SIDE // scale, scale=scale)
            if decoder == "p3da"
            else MultiLevel(
                dim, out_channels, width=width, levels=len(channels), scale=scale, mlp=decoder == "mlp"
            )
        )
        he_init(self.levels)
        he_init(self.decoder)
        classify = self.decoder.classify
        nn.init.normal_(classify.weight, std=classify.in_channels**-0.5)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Features of the encoder."""
        sides = tuple(x.shape[2:])
        if self.fixed_patch and sides != 3 * (SIDE,):
            raise ValueError(f"sides {sides} do not fit; pad to or cut tiles of {(SIDE, SIDE, SIDE)} voxels")
        check_input_size(x, self.stride)
        return self.encoder.encode(x)

    def forward(self, x: Tensor) -> Tensor:
        grid = [side // self.scale for side in x.shape[2:]]
        features = self.encode(x).values()
        maps = [level(resample(f, grid)) for level, f in zip(self.levels, features, strict=True)]
        return self.decoder([torch.stack(maps).sum(0)] if isinstance(self.decoder, LastLevel) else maps)


def resample(feature: Tensor, grid: Sequence[int]) -> Tensor:
    """Resample a map (b, c, z, y, x) to a *grid* over the same volume."""
    if feature.shape[2] > grid[0]:
        return F.interpolate(feature, size=list(grid), mode="area")
    return F.interpolate(feature, size=list(grid), mode="trilinear", align_corners=False)


@torch.no_grad()
def trace_encode(network: nn.Module, in_channels: int) -> tuple[list[int], set[str]]:
    """Channels of each feature of a network, and the modules that compute them."""
    called: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: called.add(name))
        for name, module in network.named_modules()
    ]
    features = network.eval().encode(torch.zeros(1, in_channels, SIDE, SIDE, SIDE))  # type: ignore[operator]
    network.train()
    for hook in hooks:
        hook.remove()
    return [f.shape[1] for f in features.values()], called


def remove_uncalled(network: nn.Module, called: set[str], prefix: str = "") -> None:
    """Remove the modules that are not called, with their weights: the decoder of the network itself."""
    for name, child in list(network.named_children()):
        path = prefix + name
        if path in called:
            continue
        if any(other.startswith(path + ".") for other in called):
            remove_uncalled(child, called, path + ".")
        else:
            setattr(network, name, nn.Identity())
