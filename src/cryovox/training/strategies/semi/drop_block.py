"""DropBlock for tomograms: cuboids of noise in the input, and holes in deep features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.filters.spectra import AXES, irfftn_like, rfftn
from cryovox.models.features import encode_method, replaced_encode

CUBOID_EDGES = (4, 12)
Z_STRETCH = 2.0


def drop_cuboids(
    x: Tensor, share: float, edges: tuple[int, int] = CUBOID_EDGES, z_stretch: float = Z_STRETCH
) -> Tensor:
    """Replace cuboids by Gaussian noise with the mean and power spectrum of their patch.

    SemiETPicker names "a cryo-ET-specific DropBlock" and no more; this is our reconstruction. Zeros would
    be strong edges in a tomogram, white noise would be recognized by its power in the missing wedge, and the
    wedge smears along z: hence noise of the same spectrum, and hence taller.

    Parameters
    ----------
    x : (b, 1, z, y, x)
    share
        Of the volume that is dropped, where cuboids do not overlap; 0 drops nothing.
    edges
        Shortest and longest edge in voxels.
    z_stretch
        Edges along z are so many times longer.
    """
    if not share:
        return x
    out, sides = x.clone(), x.shape[2:]
    count = max(1, round(share * sides.numel() / _mean_volume(sides, edges, z_stretch)))
    for patch, noise in zip(out, noise_like(x), strict=True):
        for _ in range(count):
            window = (slice(None), *_cuboid(sides, edges, z_stretch))
            patch[window] = noise[window]
    return out


def noise_like(x: Tensor) -> Tensor:
    """Gaussian noise with the mean and, on average, the power spectrum of each patch (b, 1, z, y, x)."""
    mean = x.mean(AXES, keepdim=True)
    amplitude = rfftn(x - mean).abs() / x[0].numel() ** 0.5
    return mean + irfftn_like(amplitude * rfftn(torch.randn_like(x)), x)


def _mean_volume(sides: torch.Size, edges: tuple[int, int], z_stretch: float) -> float:
    """Mean volume of what lies inside of a cuboid whose middle lies anywhere."""
    volume = 1.0
    for side, stretch in zip(sides, (z_stretch, 1.0, 1.0), strict=True):
        lengths = [round(stretch * edge) for edge in range(edges[0], edges[1] + 1)]
        inside = [float(side) if n > 2 * side else n - n * n / (4 * side) for n in lengths]
        volume *= sum(inside) / len(inside)
    return volume


def _cuboid(sides: torch.Size, edges: tuple[int, int], z_stretch: float) -> tuple[slice, ...]:
    """A box whose middle lies anywhere, cut at the faces."""
    drawn = torch.randint(edges[0], edges[1] + 1, (3,)).tolist()
    lengths = [round(z_stretch * drawn[0]), *drawn[1:]]
    starts = [int(torch.randint(0, n, ())) - length // 2 for n, length in zip(sides, lengths, strict=True)]
    return tuple(slice(max(0, a), max(0, a + length)) for a, length in zip(starts, lengths, strict=True))


def drop_block(features: Tensor, share: float, block: int = 3) -> Tensor:
    """DropBlock (G. Ghiasi et al., NeurIPS 2018) in three dimensions, the rest scaled up.

    Parameters
    ----------
    features : (b, c, z, y, x)
    share
        Of the places that are set to 0, in all channels alike.
    block
        Edge of what is dropped in one piece, odd.
    """
    rate = 1 - (1 - share) ** (1 / block**3)
    wider = [side + block - 1 for side in features.shape[2:]]  # blocks may begin outside
    draws = torch.rand(len(features), 1, *wider, device=features.device, dtype=features.dtype)
    kept = 1 - F.max_pool3d((draws < rate).to(features.dtype), block, stride=1)
    return features * kept * (kept.numel() / kept.sum().clamp(min=1))


@contextmanager
def deep_drop(network: nn.Module, share: float) -> Iterator[None]:
    """Within, the coarsest features of the network have holes."""
    if not share:
        yield
        return
    own = encode_method(network)

    def encode(x: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = own(x)
        deepest = list(features)[-1]
        return features | {deepest: drop_block(features[deepest], share)}

    with replaced_encode(network, encode):
        yield
