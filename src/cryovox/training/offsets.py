"""Loss of the offset head of a heatmap network: vectors to the particle centers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.models.blocks.voting import REACH
from cryovox.training.losses import interior_mask


def offset_error(offsets: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Mean distance along an axis (smooth at 0) of offsets from those that the target implies.

    Parameters
    ----------
    offsets : (b, 3, z, y, x)
        From each voxel to the center it belongs to, in voxels.
    target, known : (b, k, z, y, x)
        As of :func:`heatmap_focal`; above half the height of a Gaussian the offsets count.
    """
    height, species = target.max(1, keepdim=True)
    target_offsets, valid = implied_offsets(height)
    valid = valid & (height > 0.5) & valid_mask.gather(1, species)
    terms = F.smooth_l1_loss(offsets.float(), target_offsets, reduction="none", beta=0.25)
    return (terms * valid).sum() / (3 * valid.sum()).clamp(min=1)


def implied_offsets(height: Tensor) -> tuple[Tensor, Tensor]:
    """From each voxel (b, 1, z, y, x) of Gaussians to the center, and where that is known.

    The logarithm of a Gaussian is a parabola: its slope, divided by its curvature, leads to the center.
    """
    log = F.pad(height.clamp(min=1e-12).log(), (1,) * 6, mode="replicate")
    middle, target_offsets, valid = log[..., 1:-1, 1:-1, 1:-1], [], interior_mask(height)
    for axis in (2, 3, 4):
        before, after = (_beside(log, axis, start) for start in (0, 2))
        bend = 2 * middle - before - after
        valid = valid & (bend > 1e-3)
        target_offsets.append((after - before) / 2 / bend.clamp(min=1e-3))
    offsets = torch.cat(target_offsets, 1)
    return offsets, valid & (offsets.abs().amax(1, keepdim=True) <= REACH)


def _beside(padded: Tensor, axis: int, start: int) -> Tensor:
    """The neighbors before (0) or after (2) along an axis of what was padded by one voxel."""
    window = [slice(None), slice(None), *(slice(1, -1) for _ in range(3))]
    window[axis] = slice(start, start + padded.shape[axis] - 2)
    return padded[tuple(window)]
