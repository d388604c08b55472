"""Pseudo-labels for heatmaps from the predictions of a teacher in several orientations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.data.augment import HALF_TURNS, WEDGE_SYMMETRIES
from cryovox.training.losses import interior_mask

Axes = tuple[int, ...]
NEAR = 0.1
"""Height of a Gaussian down to which its surroundings are known."""
ONE_SIGMA = exp(-0.5) - 1e-6
"""Height of a Gaussian at a standard deviation."""


class PseudoLabels(NamedTuple):
    """A target as of labels.

    Attributes
    ----------
    target : (b, k, z, y, x)
        Gaussians at the peaks that are believed.
    valid_mask : (b, k, z, y, x) bool
        Where the target is valid.
    peaks : (b, k, z, y, x) bool
        Which are believed.
    """

    target: Tensor
    valid_mask: Tensor
    peaks: Tensor


def select_views(number: int) -> Sequence[Axes]:
    """So many symmetries of the missing wedge, the identity first; up to 4 keep the handedness."""
    return (HALF_TURNS if number <= len(HALF_TURNS) else WEDGE_SYMMETRIES)[:number]


@torch.no_grad()
def multi_view_probabilities(predict: Callable[[Tensor], Tensor], x: Tensor, views: Sequence[Axes]) -> Tensor:
    """Probabilities (v, b, k, z, y, x) of every view, turned back."""
    return torch.stack([predict(x.flip(axes)).float().sigmoid().flip(axes) for axes in views])


def pseudo_labels(  # noqa: PLR0913 (settings of a method)
    probabilities: Tensor,
    high: Tensor,
    low: float,
    *,
    radii: Sequence[float],
    sigmas: Sequence[float],
    agreement: float,
    ignore: bool,
    exclusive: bool,
    picks: Tensor | None = None,
    complete: Tensor | None = None,
) -> PseudoLabels:
    """Peaks of the mean over the views that are high enough and that enough views share.

    Within the radius of a labeled pick the pick wins: no other peak of any species lies there. Of a species
    whose picks are complete there are no other peaks, and all else is known background.

    Parameters
    ----------
    probabilities : (v, b, k, z, y, x)
        Probabilities in each view.
    high : (k,)
        Least height of a peak of each species.
    low
        Above it, what is no peak is not called background (with *ignore*).
    radii, sigmas
        Of the species and of their Gaussians, in voxels of the heatmap.
    agreement
        Least share of the views that have a voxel as high within a voxel of the peak.
    ignore
        Whether what lies between *low* and a peak is unknown.
    exclusive
        Whether there is one species in a place: a peak is higher than what others have there, and tells
        that they are not.
    picks : (b, k, z, y, x) bool
        Voxels of labeled picks; none by default.
    complete : (b, k) bool
        Whether all particles of a species are picked; none by default.
    """
    peaks = accepted_peaks(probabilities, high, radii, agreement, exclusive)
    ruled = torch.zeros_like(peaks[:, :1])
    if picks is not None and picks.any():
        ruled = (gaussians(picks, radii) >= ONE_SIGMA).any(1, keepdim=True)
        peaks = (peaks & ~ruled) | picks
    known = torch.zeros_like(peaks[:, :, :1, :1, :1])
    if complete is not None:
        known = complete[:, :, None, None, None]
        peaks = torch.where(known, torch.zeros_like(peaks) if picks is None else picks, peaks)
    target = gaussians(peaks, sigmas)
    near = target > NEAR
    if exclusive:
        near = near.any(1, keepdim=True)
    near = near | ruled
    valid_mask = (probabilities.mean(0) <= low) | near | known if ignore else torch.ones_like(peaks)
    return PseudoLabels(target, valid_mask, peaks)


def accepted_peaks(
    probabilities: Tensor, high: Tensor, radii: Sequence[float], agreement: float, exclusive: bool
) -> Tensor:
    """Voxels (b, k, z, y, x) that are peaks and become labels; parameters as of `pseudo_labels`."""
    mean, line = probabilities.mean(0), high[None, :, None, None, None]
    peaks = separated_peaks(mean, radii) & (mean >= line)
    if exclusive:
        peaks &= mean >= local_max(mean.amax(1, keepdim=True), 1)
    if agreement > 0:
        near = local_max(probabilities.flatten(0, 1), 1).view_as(probabilities)
        peaks &= (near >= line).float().mean(0) >= agreement
    return peaks


def separated_peaks(heights: Tensor, radii: Sequence[float]) -> Tensor:
    """Which voxels are the highest of all within half a radius (as a cube) of the same species.

    None on a face: it is mostly the slope of a peak beyond it.
    """
    is_peak = torch.empty_like(heights, dtype=torch.bool)
    for channel, radius in enumerate(radii):
        reach = max(1, int(0.5 * radius))
        own = heights[:, channel : channel + 1]
        is_peak[:, channel : channel + 1] = local_max(own, reach) == own
    return is_peak & interior_mask(heights)


def local_max(heights: Tensor, reach: int) -> Tensor:
    """Highest of the cube of so many voxels around each, axis by axis, which takes fewer comparisons."""
    for axis in range(3):
        side, border = [1, 1, 1], [0, 0, 0]
        side[axis], border[axis] = 2 * reach + 1, reach
        heights = F.max_pool3d(heights, side, stride=1, padding=border)
    return heights


def gaussians(peaks: Tensor, sigmas: Sequence[float]) -> Tensor:
    """One Gaussian of height 1 for each peak; where several meet, the highest counts.

    The logarithm of a Gaussian is a sum over the axes, so that the highest is found axis by axis.

    Parameters
    ----------
    peaks : (b, k, z, y, x) bool
    sigmas
        Standard deviation in voxels, of each species.
    """
    height = torch.where(peaks, 0.0, -1e6).float()
    scale = 0.5 / torch.tensor(sigmas, device=peaks.device).square()
    for axis in (2, 3, 4):
        at = torch.arange(peaks.shape[axis], device=peaks.device)
        fall = scale[:, None, None] * (at[:, None] - at).square()  # (k, to, from)
        moved = height.movedim(axis, -1)
        best = torch.full_like(moved, -torch.inf)
        for index in range(moved.shape[-1]):  # all at once would take side^4
            best = torch.maximum(best, moved[..., index, None] - fall[None, :, None, None, :, index])
        height = best.movedim(-1, axis)
    return height.exp()
