"""Heatmaps with offsets: every voxel votes for the center it points at."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

REACH = 2.5
"""Longest offset along an axis, in voxels of the heatmap."""
FURTHEST = int(REACH)
"""Maximum distance of a vote along an axis, in voxels."""


def vote_for_centers(logits: Tensor, offsets: Tensor) -> Tensor:
    """Highest vote for every voxel; a vote is a Gaussian one voxel wide at the center that a voxel points at.

    G. Papandreou et al., CVPR 2017, sum such votes; the highest keeps heights comparable with thresholds.

    Parameters
    ----------
    logits : (b, k, z, y, x)
    offsets : (b, 3, z, y, x)
        From each voxel to the center it belongs to, (z, y, x) in voxels of the heatmap.

    Returns
    -------
    (b, k, z, y, x) logits
    """
    height = logits.float().sigmoid()
    offsets = offsets.float().clamp(-REACH, REACH)
    best = torch.zeros_like(height)
    for step in product(range(-FURTHEST, FURTHEST + 1), repeat=3):
        away = offsets - torch.tensor(step, device=offsets.device).view(3, 1, 1, 1)
        vote = height * torch.exp(-0.5 * away.square().sum(1, keepdim=True))
        best = torch.maximum(best, _shift(vote, step))
    return best.clamp(1e-6, 1 - 1e-6).logit()


def _shift(x: Tensor, step: tuple[int, ...]) -> Tensor:
    """Shift by *step* voxels, padded with zeros."""
    wide = F.pad(x, (FURTHEST,) * 6)
    z, y, x_ = (slice(FURTHEST - s, FURTHEST - s + n) for s, n in zip(step, x.shape[2:], strict=True))
    return wide[..., z, y, x_]
