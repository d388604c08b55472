"""Domain discriminator behind a gradient-reversal layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GradientReversal(torch.autograd.Function):
    """The identity, with a reversed gradient (Ganin and Lempitsky, ICML 2015)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient = coefficient
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.coefficient * grads[0], None


class Discriminator(nn.Sequential):
    """Classifies every location as source (0) or target (1).

    Two convolutions of 3 voxels and one of 1, batch norm, leaky ReLU of 0.2: the form in the third-party
    write-up of Vox-UDA; that of the paper is not known.
    """

    def __init__(self, width: int, hidden: tuple[int, int] = (64, 32)) -> None:
        super().__init__(
            nn.Conv3d(width, hidden[0], 3, padding=1, bias=False),
            nn.BatchNorm3d(hidden[0]),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv3d(hidden[0], hidden[1], 3, padding=1, bias=False),
            nn.BatchNorm3d(hidden[1]),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv3d(hidden[1], 1, 1),
        )

    def adversarial_loss(
        self, source: Tensor, target: Tensor, coefficient: float, *, joint: bool = True
    ) -> Tensor:
        """Cross-entropy of the domain; the gradient with respect to both inputs is reversed.

        Parameters
        ----------
        source, target : (b, c, z, y, x)
        coefficient
            Factor of the reversed gradient.
        joint
            Classify both domains in one pass. In separate passes, batch norm hides a difference in scale.
        """
        reverse = GradientReversal.apply
        x, y = (reverse(part.float(), coefficient) for part in (source, target))  # type: ignore[no-untyped-call]
        logits = self(torch.cat([x, y])).split([len(x), len(y)]) if joint else (self(x), self(y))
        return 0.5 * (
            F.binary_cross_entropy_with_logits(logits[0], torch.zeros_like(logits[0]))
            + F.binary_cross_entropy_with_logits(logits[1], torch.ones_like(logits[1]))
        )


def grl_coefficient(progress: float, steepness: float) -> float:
    """Factor of the reversed gradient, rising from 0 to 1."""
    return 2 / (1 + float(torch.exp(torch.tensor(-steepness * progress)))) - 1


def coarsest(features: dict[str, Tensor]) -> Tensor:
    """The last of the features, which are ordered from fine to coarse."""
    return list(features.values())[-1]
