"""Positions of tokens in a cube: sines, and rotations of queries and keys (fig. 9b of MVGFormer).

The paper names the alternatives to one learned table per view. Our reconstruction: they encode the
position in the cube, along (z, y, x), so that a token has the same position in every view.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cryovox.models.blocks.views import to_view


def token_positions(grid: int, views: Sequence[str]) -> Tensor:
    """Position of each token along (z, y, x) of the cube: (v, n, 3), in the order of each view."""
    axes = torch.meshgrid(*3 * [torch.arange(float(grid))], indexing="ij")
    return torch.stack([to_view(torch.stack(axes), view).flatten(1).T for view in views])


def sinusoidal(positions: Tensor, dim: int) -> Tensor:
    """Sines and cosines of each coordinate (..., 3): (..., dim), the rest of *dim* / 6 is zero."""
    angles = _angles(positions, dim, 10_000.0)
    waves = torch.cat([angles.sin(), angles.cos()], -1)
    return torch.nn.functional.pad(waves, (0, dim - waves.shape[-1]))


def rotary(positions: Tensor, dim: int) -> Tensor:
    """Angles by which pairs of the *dim* channels of a head are rotated: (..., 3 * (dim // 6)).

    Each axis has a third of the pairs (axial rotary encoding, B. Heo et al., ECCV 2024); channels that
    are left over are not rotated.
    """
    return _angles(positions, dim, 100.0)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate channels i and i + p of *x* (b, h, n, d) by the angles (b, n, p), for each i below p.

    Tokens before the last n (the nodes of a graph) have no position and are not rotated.
    """
    angles = torch.nn.functional.pad(angles, (0, 0, x.shape[2] - angles.shape[1], 0))[:, None]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    pairs = angles.shape[-1]
    first, second, rest = x.split([pairs, pairs, x.shape[-1] - 2 * pairs], -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], -1)


def _angles(positions: Tensor, dim: int, base: float) -> Tensor:
    if dim < 6:
        raise ValueError(f"3D positions need at least 6 channels, not {dim}")
    count = dim // 6
    speeds = base ** -(torch.arange(count, device=positions.device) / count)
    return (positions[..., None] * speeds).flatten(-2)
