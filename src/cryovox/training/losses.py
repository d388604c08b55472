"""Losses that ignore unlabeled voxels.

Every loss takes logits, a target and a mask of the voxels with a valid target. Where a species was not
searched exhaustively, unlabeled voxels are ignored in the loss, not treated as background. Alternatives are
a presumption of background (:func:`heatmap_background_loss`) and the non-negative positive-unlabeled
estimate of their loss (:func:`pu_risk`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.losses import DiceLoss, TverskyLoss
from torch import Tensor
from torch.nn import functional as F

from cryovox.data.targets import IGNORE_INDEX


def cross_entropy(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Mean cross-entropy over the known voxels.

    Parameters
    ----------
    logits : (b, 1 + k, z, y, x)
    target : (b, z, y, x) int64
        Channel, 0 is background; 255 is unknown.
    valid_mask : (b, z, y, x) bool
    """
    known = target.masked_fill(~valid_mask, IGNORE_INDEX)
    terms = F.cross_entropy(logits.float(), known, ignore_index=IGNORE_INDEX, reduction="none")
    return terms.sum() / valid_mask.sum().clamp(min=1)


def soft_dice(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """One minus soft Dice, mean over the foreground classes that occur, pooled over the batch."""
    return _dice(*_overlaps(logits, target, valid_mask))


def boundary_dice(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Soft Dice of the inner surfaces of the masks, where all neighbors are known.

    A surface is max-pool(1 - p) - (1 - p) over 3 x 3 x 3 voxels (A. Bokhovkin and E. Burnaev, 2019, who
    further widen it). MVGFormer names a "Boundary Dice Loss" in table 9 and no more; this is our reading.
    """
    sure = F.max_pool3d((~valid_mask[:, None]).to(torch.float32), 3, stride=1, padding=1) == 0
    probabilities, one_hot = _overlaps(logits, target, valid_mask)
    return _dice(_surface(probabilities) * sure, _surface(one_hot) * sure, smooth=1e-5)


def tversky(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Mean over all classes of one minus the Tversky index with alpha = beta = 0.5 (DeepFinder)."""
    probabilities, one_hot = _overlaps(logits, target, valid_mask)
    loss = TverskyLoss(alpha=0.5, beta=0.5, batch=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0)
    return loss(probabilities, one_hot).mean()


def ce_dice(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice."""
    return cross_entropy(logits, target, valid_mask) + soft_dice(logits, target, valid_mask)


def ce_boundary(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Cross-entropy plus Dice of the boundaries (table 9 of MVGFormer)."""
    return cross_entropy(logits, target, valid_mask) + boundary_dice(logits, target, valid_mask)


def _overlaps(logits: Tensor, target: Tensor, valid_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and one-hot target with unknown voxels struck out."""
    known = valid_mask[:, None].to(torch.float32)
    clean = torch.where(valid_mask, target, 0)[:, None]
    one_hot = torch.zeros_like(logits, dtype=torch.float32).scatter_(1, clean, known)
    return logits.float().softmax(1) * known, one_hot


def _dice(predicted: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    present = (target[:, 1:].sum(dim=(0, 2, 3, 4)) > 0).to(torch.float32)
    loss = DiceLoss(include_background=False, batch=True, reduction="none", smooth_nr=0.0, smooth_dr=smooth)
    return (loss(predicted, target).flatten() * present).sum() / present.sum().clamp(min=1)


def _surface(mask: Tensor) -> Tensor:
    return F.max_pool3d(1 - mask, 3, stride=1, padding=1) - (1 - mask)


def heatmap_focal(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Penalty-reduced focal loss on Gaussian targets, per particle (CenterNet: alpha 2, beta 4).

    Parameters
    ----------
    logits, target : (b, k, z, y, x)
        Target in [0, 1]. A Gaussian seldom has its summit on a voxel, so "at the peak" is where
        :func:`peak_voxels` says.
    valid_mask : (b, k, z, y, x) bool
    """
    peak, away = _focal_parts(logits, target)
    weight = peak_weights(target) * valid_mask
    return ((peak * weight).sum() + away[valid_mask & (weight == 0)].sum()) / weight.sum().clamp(min=1)


def weighted_mse(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Squared error of the heatmap, weighted toward its peaks (target + 0.1)."""
    error = (logits.float().sigmoid() - target).square() * (target + 0.1)
    return error[valid_mask].sum() / (target[valid_mask].sum() + 1e-3 * valid_mask.sum()).clamp(min=1)


def point_ce(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Cross-entropy of the one voxel at a center against all others, weighted 256 to 1.

    As in the first place of the CZII challenge, but for each species by itself instead of one softmax.
    """
    weight = peak_weights(target)
    point = weight > 0
    weights = torch.where(point, 256.0 * weight, 1.0) * valid_mask
    terms = F.binary_cross_entropy_with_logits(logits.float(), point.float(), reduction="none")
    return (terms * weights).sum() / weights.sum().clamp(min=1)


def peak_voxels(target: Tensor) -> Tensor:
    """Where a Gaussian target has its largest voxel; maxima on a face of the patch are left out.

    A center between voxels has several, up to eight.
    """
    return (F.max_pool3d(target, 3, stride=1, padding=1) == target) & (target > 0.5) & interior_mask(target)


def peak_weights(target: Tensor) -> Tensor:
    """Weights (b, k, z, y, x) of :func:`peak_voxels`, which add up to 1 for each center; 0 elsewhere."""
    summit = peak_voxels(target).to(torch.float32)
    beside = 27 * F.avg_pool3d(F.pad(summit, (1,) * 6), 3, stride=1)
    return summit / beside.round().clamp(min=1)


def count_peaks(target: Tensor, valid_mask: Tensor) -> Tensor:
    """Number of centers within a valid mask."""
    return (peak_weights(target) * valid_mask).sum()


def interior_mask(maps: Tensor) -> Tensor:
    """Which voxels (z, y, x) of maps (..., z, y, x) have all their neighbors."""
    mask = torch.zeros(maps.shape[-3:], dtype=torch.bool, device=maps.device)
    mask[1:-1, 1:-1, 1:-1] = True
    return mask


def _focal_parts(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    z = logits.float()
    p = z.sigmoid()
    return -((1 - p) ** 2) * F.logsigmoid(z), -((1 - target) ** 4) * p**2 * F.logsigmoid(-z)


def pu_risk(away: Tensor, unknown: Tensor, labeled: Tensor, unlabeled_ratio: float) -> Tensor:
    """Background loss of the unknown voxels, less the part that unlabeled particles account for.

    The non-negative risk of positive-unlabeled learning (Kiryo et al., NeurIPS 2017) in counts: for each
    labeled particle, the unknown region is assumed to hold *unlabeled_ratio* more. The background loss of
    one of those is estimated on the labeled ones.

    Parameters
    ----------
    away : (b, k, ...)
        Loss of predicting background at each voxel.
    unknown, labeled : (b, k, ...) bool
        Voxels without a known target, and voxels of labeled particles.
    unlabeled_ratio
        Unlabeled particles per labeled one.

    Returns
    -------
    Sum over the unknown voxels, at least 0 for each channel.
    """
    dims = (0, *range(2, away.ndim))
    total = (away * unknown).sum(dims)
    of_particles = unlabeled_ratio * (away * labeled).sum(dims)
    return (total - of_particles).clamp(min=0).sum()


def heatmap_pu_loss(logits: Tensor, target: Tensor, valid_mask: Tensor, unlabeled_ratio: float) -> Tensor:
    """:func:`pu_risk` for heatmaps, per labeled particle."""
    z = logits.float()
    away = -(z.sigmoid() ** 2) * F.logsigmoid(-z)
    count = count_peaks(target, valid_mask).clamp(min=1)
    return pu_risk(away, ~valid_mask, (target > 0.1) & valid_mask, unlabeled_ratio) / count


def mask_pu_loss(logits: Tensor, target: Tensor, valid_mask: Tensor, unlabeled_ratio: float) -> Tensor:
    """:func:`pu_risk` for masks: background cross-entropy over the unknown voxels, per voxel."""
    away = -F.log_softmax(logits.float(), 1)[:, :1]
    unknown = ~valid_mask[:, None]
    labeled = (valid_mask & (target > 0))[:, None]
    return pu_risk(away, unknown, labeled, unlabeled_ratio) / unknown.sum().clamp(min=1)


def heatmap_background_loss(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Focal background loss of the unknown voxels, per labeled particle."""
    _, away = _focal_parts(logits, target)
    return (away * ~valid_mask).sum() / count_peaks(target, valid_mask).clamp(min=1)


def mask_background_loss(logits: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
    """Background cross-entropy of the unknown voxels, per voxel."""
    away = -F.log_softmax(logits.float(), 1)[:, 0]
    return (away * ~valid_mask).sum() / (~valid_mask).sum().clamp(min=1)


def score_divergence(logits: Tensor, scores: Tensor, activation: str) -> Tensor:
    """Divergence of predicted scores from those of a teacher, per unit of the foreground of the teacher.

    The cross-entropy against the teacher's scores less its smallest value, so 0 where both agree: of each
    species by itself for heatmaps, of all classes together for masks. It is summed over the patch and divided
    by the summed scores of the species.

    Parameters
    ----------
    logits : (b, k, z, y, x)
    scores : (b, k, z, y, x)
        Probabilities of the teacher; with softmax, channel 0 is the background.
    activation
        "sigmoid" or "softmax".
    """
    if activation == "softmax":
        terms = F.kl_div(logits.float().log_softmax(1), scores, reduction="none")
        foreground = scores[:, 1:]
    else:
        entropy = torch.special.entr(scores) + torch.special.entr(1 - scores)
        terms = F.binary_cross_entropy_with_logits(logits.float(), scores, reduction="none") - entropy
        foreground = scores
    return terms.sum() / (foreground.sum() + 1e-3 * foreground.numel())


def contrastive(
    features: Tensor, target: Tensor, valid_mask: Tensor, points: int = 64, temperature: float = 0.1
) -> Tensor:
    """Supervised contrastive loss (P. Khosla et al., NeurIPS 2020) of the features at sampled voxels.

    MVGFormer names "contrastive regularization" in table 9 and no more; this is our reconstruction. Known
    voxels are drawn so that all classes come equally often, background included; features are read
    between the places of their grid and brought to unit length; no projection head.

    Parameters
    ----------
    features : (b, c, z', y', x')
        On a grid that covers the patch, coarser or not.
    target : (b, z, y, x) int64
    valid_mask : (b, z, y, x) bool
    points
        Voxels per sample; drawn with replacement.
    """
    at = _balanced_voxels(target, valid_mask, points)
    labels = target.flatten(1).gather(1, at).flatten()
    embedding = F.normalize(_read(features.float(), at, target.shape[1:]), dim=-1).flatten(0, 1)
    usable = valid_mask.flatten(1).gather(1, at).flatten()
    same = (labels[:, None] == labels) & usable[:, None] & usable
    similarity = embedding @ embedding.T / temperature
    self_ = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    others = (usable[:, None] & usable) & ~self_
    log_p = similarity - similarity.masked_fill(~others, -1e4).logsumexp(1, keepdim=True)
    pairs = (same & ~self_).to(log_p.dtype)
    held = pairs.sum(1) > 0
    return -((log_p * pairs).sum(1) / pairs.sum(1).clamp(min=1)).sum() / held.sum().clamp(min=1)


def _balanced_voxels(target: Tensor, valid_mask: Tensor, points: int) -> Tensor:
    """Draw flat indices (b, points) of known voxels, every class with the same weight."""
    labels = target.masked_fill(~valid_mask, 0).flatten(1)
    counts = torch.bincount(labels[valid_mask.flatten(1)], minlength=int(labels.max()) + 1)
    weights = valid_mask.flatten(1) / counts.float().clamp(min=1)[labels]
    nothing = ~valid_mask.flatten(1).any(1, keepdim=True)
    return torch.multinomial(weights + nothing, points, replacement=True)


def _read(features: Tensor, at: Tensor, shape: torch.Size) -> Tensor:
    """Features (b, points, c) at flat voxel indices of a patch of *shape*, trilinear."""
    index = torch.stack(torch.unravel_index(at, shape), -1)
    sides = torch.tensor(shape, device=at.device)
    where = ((2 * index + 1) / sides - 1).flip(-1)  # grid_sample wants (x, y, z) in -1 to 1
    read = F.grid_sample(
        features, where[:, None, None].to(features.dtype), padding_mode="border", align_corners=False
    )
    return read[:, :, 0, 0].transpose(1, 2)


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

MASK_LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "dice": soft_dice,
    "ce+dice": ce_dice,
    "ce+boundary": ce_boundary,
    "tversky": tversky,
}
HEATMAP_LOSSES: dict[str, Loss] = {
    "focal-heatmap": heatmap_focal,
    "weighted-mse": weighted_mse,
    "point-ce": point_ce,
}
