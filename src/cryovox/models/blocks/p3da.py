"""P3DA, the parallel atrous decoder of MVGFormer (section 4.3.2), computed on the token grid.

The paper convolves features that were enlarged from the token grid to all voxels, with dilations
up to 18. Enlarging is linear and acts on each axis by itself, so a dilated convolution of an
enlarged map is the same as: mix the channels once per tap of the kernel on the small grid, then
enlarge each of the 27 results, shifted by its tap, one axis after another. The result is exact,
zero padding included, and no convolution runs at full resolution. The weights are those of the
plain `torch.nn.Conv3d`.

"Reshape it to the original size" can also mean that the channels of a token become its voxels
(depth-to-space). Then the features have detail below a token, and the convolutions run at full
resolution on *width* channels.
"""

from __future__ import annotations

from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

ENLARGEMENTS = ("trilinear", "depth-to-space")


class P3DA(nn.Module):
    """Four atrous branches on the enlarged features, concatenated and classified.

    Parameters
    ----------
    dim, out_channels
        Channels of the features and of the mask.
    width
        Channels of each branch.
    grid, scale
        Tokens along a side, and voxels along a token.
    rates
        Dilations; the branch of rate 1 has a kernel of one voxel.
    enlarge
        ``"trilinear"``, or ``"depth-to-space"`` after a linear layer to *width* channels per voxel.
    """

    def __init__(
        self,
        dim: int,
        out_channels: int,
        *,
        width: int,
        grid: int,
        scale: int,
        rates: tuple[int, ...] = (1, 6, 12, 18),
        enlarge: str = "trilinear",
    ) -> None:
        super().__init__()
        self.scale = scale
        self.expand: nn.Conv3d | None = None
        branch = partial(Branch, dim, width, grid=grid, scale=scale)
        if enlarge == "depth-to-space":
            self.expand = nn.Conv3d(dim, width * scale**3, kernel_size=1)
            branch = partial(Branch, width, width, grid=grid * scale, scale=1)
        self.branches = nn.ModuleList(branch(rate=rate) for rate in rates)
        self.mix = nn.Conv3d(len(rates) * width, width, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.classify = nn.Conv3d(width, out_channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """From features (b, c, grid, grid, grid) to logits (b, k, side, side, side)."""
        if self.expand is not None:
            features = depth_to_space(self.expand(features), self.scale)
        parts = self.mix.weight.chunk(len(self.branches), 1)  # spares the concatenation
        mixed: Tensor | None = None
        for branch, part in zip(self.branches, parts, strict=True):
            mixed = pointwise(branch(features), part, mixed)
        voxels = F.relu(self.norm(mixed), inplace=True)
        return pointwise(voxels, self.classify.weight, self.classify.bias)


class Branch(nn.Module):
    """Enlarge, convolve with a dilated kernel, normalize, rectify; scale 1 does not enlarge."""

    taps: Tensor

    def __init__(self, dim: int, width: int, rate: int, grid: int, scale: int) -> None:
        super().__init__()
        shifts = (0,) if rate == 1 else (-rate, 0, rate)
        kernel, padding = (1, 0) if rate == 1 else (3, rate)
        self.conv = nn.Conv3d(dim, width, kernel, padding=padding, dilation=rate, bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.enlarges = scale > 1
        taps = torch.cat([shifted_enlargement(grid, scale, shift) for shift in shifts], 1)
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        if self.enlarges:
            voxels = enlarged_convolution(features, self.conv.weight, self.taps)
        else:
            voxels = self.conv(features)
        return F.relu(self.norm(voxels), inplace=True)


def depth_to_space(x: Tensor, scale: int) -> Tensor:
    """Channels (b, k * scale**3, n, n, n) of a token as its voxels (b, k, n * scale, ...).

    The memory format is channels last, in which a CPU convolves the voxels faster.
    """
    cut = "b (k p q r) z y x -> b k (z p) (y q) (x r)"
    voxels = rearrange(x, cut, p=scale, q=scale, r=scale)
    return voxels.contiguous(memory_format=torch.channels_last_3d)


def pointwise(x: Tensor, weight: Tensor, onto: Tensor | None) -> Tensor:
    """Mix the channels of *x* (b, c, z, y, x) and add to *onto*, a bias (k,) or a map (b, k, z, y, x).

    A convolution with a kernel of one voxel; as a matrix product it is three times as fast on a CPU.
    """
    flat, mixer = x.flatten(2), weight.flatten(1).expand(x.shape[0], -1, -1)
    if onto is None:
        mixed = mixer @ flat
    else:
        base = onto[None, :, None] if onto.ndim == 1 else onto.flatten(2)
        mixed = torch.baddbmm(base, mixer, flat)
    return mixed.unflatten(2, x.shape[2:])


def enlarged_convolution(features: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
    """Convolve the trilinear enlargement of *features* without ever enlarging them.

    Parameters
    ----------
    features : (b, c, n, n, n)
        Map on the small grid.
    weight : (w, c, t, t, t)
        Kernel, as of `torch.nn.Conv3d`.
    taps : (m, t * n)
        The matrices of `shifted_enlargement` of the t taps along an axis, side by side.

    Returns
    -------
    (b, w, m, m, m)
    """
    b, c, n = features.shape[:3]
    mixers = rearrange(weight, "w c i j k -> (w i j k) c")
    mixed = mixers @ features.reshape(b, c, n**3)
    t = weight.shape[2]
    mixed = rearrange(mixed, "b (w i j k) (z y x) -> (b w) (i z) (j y) (k x)", i=t, j=t, k=t, z=n, y=n, x=n)
    wide = mixed @ taps.T  # along x, then y, then z
    wide = (taps @ wide).flatten(2)
    return (taps @ wide).reshape(b, -1, *3 * (taps.shape[0],))


def shifted_enlargement(n: int, scale: int, shift: int) -> Tensor:
    """Give the matrix (n * scale, n) of linear enlargement followed by a zero-padded shift.

    Row i enlarges at the voxel i + *shift*, and is zero where that lies outside.
    """
    enlarge = F.interpolate(torch.eye(n)[None], scale_factor=scale, mode="linear", align_corners=False)[0].T
    at = torch.arange(n * scale) + shift
    inside = (at >= 0) & (at < n * scale)
    return enlarge[at.clamp(0, n * scale - 1)] * inside[:, None]
