"""Adaptations that make source and target look alike to the network: its features, or its doubts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.features import feature_channels, forward_with_features, output_channels
from cryovox.models.supervision import supervise
from cryovox.training.strategies.config.alignment import AlignmentConfig
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.domain_adaptation import (
    Batches,
    DomainAdaptation,
    Seen,
    require_mask_network,
)

MARKS = 512
"""Places of the features that moments are taken of, per batch."""


class GradientReversal(torch.autograd.Function):
    """The identity, whose gradient is turned round (Ganin and Lempitsky, ICML 2015)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficient: float) -> Tensor:
        ctx.grl_coefficient = coefficient
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.grl_coefficient * grads[0], None


class Discriminator(nn.Sequential):
    """Says of every place whether it is of the source (0) or of the target (1).

    Two convolutions of 3 voxels and one of 1, batch norm, leaky ReLU of 0.2: the form that the third-party
    write-up of Vox-UDA uses; the paper's own is not known.
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

    def adversarial_loss(self, source: Tensor, target: Tensor, coefficient: float) -> Tensor:
        """Cross-entropy of telling the domains apart; what the maps come from learns the contrary."""
        told = [self(GradientReversal.apply(x.float(), coefficient)) for x in (source, target)]  # type: ignore[no-untyped-call]
        return 0.5 * (
            F.binary_cross_entropy_with_logits(told[0], torch.zeros_like(told[0]))
            + F.binary_cross_entropy_with_logits(told[1], torch.ones_like(told[1]))
        )


def grl_coefficient(progress: float, ramp: float) -> float:
    """How strongly gradients are reversed, from 0 to 1."""
    return 2 / (1 + float(torch.exp(torch.tensor(-ramp * progress)))) - 1


class FeatureAlignment(DomainAdaptation):
    """An adaptation that compares the coarsest features of both domains."""

    Config = AlignmentConfig
    uses_features = True

    def target_features(self, x: Tensor) -> Tensor:
        """The coarsest features of target patches."""
        return last(forward_with_features(self.student, x, lambda given: supervise(self.student, given))[1])


class Dann(FeatureAlignment):
    """A discriminator behind a gradient reversal on the coarsest features (DANN)."""

    def build_modules(self, network: nn.Module) -> None:
        self.discriminator = Discriminator(list(feature_channels(network).values())[-1])

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        there = self.target_features(batch["target"].image)
        adversarial = self.discriminator.adversarial_loss(
            last(source.features), there, grl_coefficient(progress, self.config.ramp)
        )
        return {"adversarial": self.config.weight * adversarial}


class Advent(DomainAdaptation):
    """A discriminator of the maps -p log p (T.-H. Vu et al., CVPR 2019: AdvEnt)."""

    Config = AlignmentConfig

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        require_mask_network(network, name)
        return supervised

    def build_modules(self, network: nn.Module) -> None:
        self.discriminator = Discriminator(output_channels(network))

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        there = supervise(self.student, batch["target"].image).prediction
        maps = self_information(source.answer.prediction), self_information(there)
        adversarial = self.discriminator.adversarial_loss(*maps, grl_coefficient(progress, self.config.ramp))
        return {"adversarial": self.config.weight * adversarial}


class Coral(FeatureAlignment):
    """Distance of the covariances of the features (B. Sun and K. Saenko, 2016: Deep CORAL)."""

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        here, there = (
            places(f) for f in (last(source.features), self.target_features(batch["target"].image))
        )
        gap = (torch.cov(here.T) - torch.cov(there.T)).square().sum() / (4 * here.shape[1] ** 2)
        return {"coral": self.config.weight * gap}


class Mmd(FeatureAlignment):
    """Maximum mean discrepancy of the features under Gaussian kernels (M. Long et al., ICML 2015: DAN)."""

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        here, there = (
            places(f) for f in (last(source.features), self.target_features(batch["target"].image))
        )
        return {"mmd": self.config.weight * mmd(here, there)}


def last(features: dict[str, Tensor]) -> Tensor:
    """The coarsest features."""
    return list(features.values())[-1]


def self_information(logits: Tensor) -> Tensor:
    """Weighted self-information of the classes, -p log p / log k."""
    chances = logits.float().log_softmax(1)
    return -chances.exp() * chances / float(torch.log(torch.tensor(float(logits.shape[1]))))


def places(features: Tensor) -> Tensor:
    """Features (n, c) at n places that are drawn."""
    found = features.float().movedim(1, -1).flatten(0, -2)
    if len(found) <= MARKS:
        return found
    return found[torch.randperm(len(found), device=found.device)[:MARKS]]


def mmd(here: Tensor, there: Tensor, widths: tuple[float, ...] = (0.25, 0.5, 1, 2, 4)) -> Tensor:
    """Squared maximum mean discrepancy of two samples (n, c) and (m, c).

    The kernels are Gaussians whose widths are these multiples of the mean squared distance.
    """
    joined = torch.cat([here, there])
    apart = torch.cdist(joined, joined).square()
    mean = apart.detach().mean().clamp(min=1e-12)
    kernel = torch.stack([torch.exp(-apart / (width * mean)) for width in widths]).mean(0)
    n = len(here)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
