"""Losses that leave out what nobody knows.

Every loss takes logits, a target and the voxels at which the target is to be believed. Where a
species was not searched exhaustively, unlabelled voxels are unknown. They are no background, but
they are not void either: :func:`hidden_risk` is the non-negative positive-unlabelled estimate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.losses import DiceLoss, TverskyLoss
from torch import Tensor
from torch.nn import functional as F

UNKNOWN = 255


def cross_entropy(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Mean cross-entropy over the known voxels.

    Parameters
    ----------
    logits : (b, 1 + k, z, y, x)
    target : (b, z, y, x) int64
        Channel, 0 is background; 255 is unknown.
    known : (b, z, y, x) bool
    """
    believed = target.masked_fill(~known, UNKNOWN)
    terms = F.cross_entropy(logits.float(), believed, ignore_index=UNKNOWN, reduction="none")
    return terms.sum() / known.sum().clamp(min=1)


def soft_dice(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """One minus soft Dice, mean over the foreground classes that occur, pooled over the batch."""
    probabilities, wanted, present = _overlaps(logits, target, known)
    loss = DiceLoss(include_background=False, batch=True, reduction="none", smooth_nr=0.0, smooth_dr=1.0)
    return (loss(probabilities, wanted).flatten() * present).sum() / present.sum().clamp(min=1)


def tversky(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Mean over all classes of one minus the Tversky index with alpha = beta = 0.5 (DeepFinder)."""
    probabilities, wanted, _ = _overlaps(logits, target, known)
    loss = TverskyLoss(alpha=0.5, beta=0.5, batch=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0)
    return loss(probabilities, wanted).mean()


def ce_dice(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice."""
    return cross_entropy(logits, target, known) + soft_dice(logits, target, known)


def _overlaps(logits: Tensor, target: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities and one-hot target with unknown voxels struck out, and which species occur."""
    classes = logits.shape[1]
    clean = torch.where(known, target, 0)
    wanted = F.one_hot(clean, classes).movedim(-1, 1).to(torch.float32) * known[:, None]
    probabilities = logits.float().softmax(1) * known[:, None]
    present = (wanted[:, 1:].sum(dim=(0, 2, 3, 4)) > 0).to(torch.float32)
    return probabilities, wanted, present


def heatmap_focal(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Penalty-reduced focal loss on Gaussian targets, per particle (CenterNet: alpha 2, beta 4).

    Parameters
    ----------
    logits, target : (b, k, z, y, x)
        Target in [0, 1]. A Gaussian seldom has its summit on a voxel, so "at the peak" is where
        the target is the largest of its neighbourhood and above 0.5.
    known : (b, k, z, y, x) bool
    """
    peak, away = _focal_parts(logits, target)
    summit = summits(target) & known
    count = summit.sum().clamp(min=1)
    return (peak[summit].sum() + away[known & ~summit].sum()) / count


def weighted_mse(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Squared error of the heatmap, weighted towards its peaks (target + 0.1)."""
    error = (logits.float().sigmoid() - target).square() * (target + 0.1)
    return error[known].sum() / (target[known].sum() + 1e-3 * known.sum()).clamp(min=1)


def summits(target: Tensor) -> Tensor:
    """Where a Gaussian target has its largest voxel."""
    return (F.max_pool3d(target, 3, stride=1, padding=1) == target) & (target > 0.5)


def _focal_parts(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    z = logits.float()
    p = z.sigmoid()
    return -((1 - p) ** 2) * F.logsigmoid(z), -((1 - target) ** 4) * p**2 * F.logsigmoid(-z)


def hidden_risk(away: Tensor, unknown: Tensor, labelled: Tensor, hidden: float) -> Tensor:
    """Background loss of the unknown voxels, less what their hidden particles account for.

    The non-negative risk of positive-unlabelled learning (Kiryo et al., NeurIPS 2017) in counts:
    for each labelled particle, *hidden* more are taken to lie in the unknown region; what the
    background loss charges for one of those is estimated on the labelled ones.

    Parameters
    ----------
    away : (b, k, ...)
        Loss of answering "background" at each voxel.
    unknown, labelled : (b, k, ...) bool
        Voxels of which nothing is known, and voxels of labelled particles.
    hidden
        Unlabelled particles per labelled one.

    Returns
    -------
    Sum over the unknown voxels, at least 0 for each channel.
    """
    dims = (0, *range(2, away.ndim))
    seen = (away * unknown).sum(dims)
    owed = hidden * (away * labelled).sum(dims)
    return (seen - owed).clamp(min=0).sum()


def heatmap_hidden(logits: Tensor, target: Tensor, known: Tensor, hidden: float) -> Tensor:
    """:func:`hidden_risk` for heatmaps, per labelled particle."""
    z = logits.float()
    away = -(z.sigmoid() ** 2) * F.logsigmoid(-z)
    summit = summits(target) & known
    return hidden_risk(away, ~known, (target > 0.1) & known, hidden) / summit.sum().clamp(min=1)


def mask_hidden(logits: Tensor, target: Tensor, known: Tensor, hidden: float) -> Tensor:
    """:func:`hidden_risk` for masks: background cross-entropy over the unknown voxels, per voxel."""
    away = -F.log_softmax(logits.float(), 1)[:, :1]
    unknown = ~known[:, None]
    labelled = (known & (target > 0))[:, None]
    return hidden_risk(away, unknown, labelled, hidden) / unknown.sum().clamp(min=1)


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

MASK_LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "dice": soft_dice,
    "ce+dice": ce_dice,
    "tversky": tversky,
}
HEATMAP_LOSSES: dict[str, Loss] = {"focal-heatmap": heatmap_focal, "weighted-mse": weighted_mse}
