"""What teacher-student methods share: the teacher's probabilities, augmentation of the student, ramp-ups."""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor, nn


@torch.no_grad()
def teacher_probabilities(teacher: nn.Module, x: Tensor) -> Tensor:
    """Class probabilities (b, k, z, y, x) of the teacher."""
    return teacher(x).float().softmax(1)


def strong_augment(x: Tensor, noise: float, contrast_jitter: float) -> Tensor:
    """Scale the gray values of each patch by a random factor, and add noise of a random level.

    Parameters
    ----------
    x : (b, 1, z, y, x)
    noise
        Maximum standard deviation of the noise.
    contrast_jitter
        Factors lie within 1 ± this.
    """
    random = torch.rand(2, len(x), *(1,) * (x.ndim - 1), device=x.device)
    return x * (1 + contrast_jitter * (2 * random[0] - 1)) + noise * random[1] * torch.randn_like(x)


def linear_rampup(progress: float) -> float:
    """From 0 to 1 over the first quarter of the training."""
    return min(1.0, 4 * progress)


def sigmoid_rampup(progress: float, start: float, length: float) -> float:
    """From 0 to 1 by the sigmoid ramp of S. Laine and T. Aila (ICLR 2017)."""
    if progress < start:
        return 0.0
    return exp(-5 * (1 - min(1.0, (progress - start) / length)) ** 2)
