"""Domain adaptation that aligns the features, or the uncertainty, of source and target."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryovox.data.streams import Batch
from cryovox.models.features import feature_channels, output_channels
from cryovox.training.strategies import Task
from cryovox.training.strategies.adversarial import Discriminator, coarsest, grl_coefficient
from cryovox.training.strategies.base import Batches
from cryovox.training.strategies.config.alignment import AdventConfig, CoralConfig, DannConfig, MmdConfig
from cryovox.training.strategies.extended import ExtendedSupervised, SourceOutput, StudentOutput

MAX_LOCATIONS = 512
"""Locations per batch at which features are sampled."""


class Alignment(ExtendedSupervised):
    """Base of the methods that align the target with the source, in one pass of both."""

    task: Task = "domain adaptation"

    def joint_images(self, source: Batch, batches: Batches) -> tuple[Tensor, ...]:
        return (batches["target"].image,) if self.config.joint_pass else ()

    def target_output(self, source: SourceOutput, batches: Batches) -> StudentOutput:
        """Output and features of the target."""
        return source.joint[0] if source.joint else self.forward_features(batches["target"].image)


class Dann(Alignment):
    """A discriminator behind a gradient reversal on the coarsest features (DANN)."""

    Config = DannConfig
    uses_features = True

    def build_modules(self, network: nn.Module) -> None:
        self.discriminator = Discriminator(list(feature_channels(network).values())[-1])

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        _, target = self.target_output(source, batches)
        loss = self.discriminator.adversarial_loss(
            coarsest(source.features),
            coarsest(target),
            grl_coefficient(progress, self.config.ramp),
            joint=self.config.joint_pass,
        )
        return {"adversarial": self.config.weight * loss}


class Advent(Alignment):
    """A discriminator of the maps -p log p (T.-H. Vu et al., CVPR 2019: AdvEnt)."""

    Config = AdventConfig
    required_output = "mask"

    def build_modules(self, network: nn.Module) -> None:
        self.discriminator = Discriminator(output_channels(network))

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        target, _ = self.target_output(source, batches)
        loss = self.discriminator.adversarial_loss(
            self_information(source.output.prediction),
            self_information(target.prediction),
            grl_coefficient(progress, self.config.ramp),
            joint=self.config.joint_pass,
        )
        return {"adversarial": self.config.weight * loss}


class Coral(Alignment):
    """Distance of the covariances of the features (B. Sun and K. Saenko, 2016: Deep CORAL)."""

    Config = CoralConfig
    uses_features = True

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        _, target = self.target_output(source, batches)
        features = sample_locations(coarsest(source.features)), sample_locations(coarsest(target))
        return {"coral": self.config.weight * covariance_distance(*features)}


class Mmd(Alignment):
    """Maximum mean discrepancy of the features under Gaussian kernels (M. Long et al., ICML 2015: DAN)."""

    Config = MmdConfig
    uses_features = True

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        _, target = self.target_output(source, batches)
        features = sample_locations(coarsest(source.features)), sample_locations(coarsest(target))
        return {"mmd": self.config.weight * mmd(*features)}


def self_information(logits: Tensor) -> Tensor:
    """Weighted self-information of the classes, -p log p / log k."""
    log_p = logits.float().log_softmax(1)
    return -log_p.exp() * log_p / float(torch.log(torch.tensor(float(logits.shape[1]))))


def sample_locations(features: Tensor) -> Tensor:
    """Features (n, c) at random locations, `MAX_LOCATIONS` at most."""
    flat = features.float().movedim(1, -1).flatten(0, -2)
    if len(flat) <= MAX_LOCATIONS:
        return flat
    return flat[torch.randperm(len(flat), device=flat.device)[:MAX_LOCATIONS]]


def covariance_distance(source: Tensor, target: Tensor) -> Tensor:
    """Squared Frobenius distance of the covariances of two samples (n, c) and (m, c), over 4 c^2."""
    return (torch.cov(source.T) - torch.cov(target.T)).square().sum() / (4 * source.shape[1] ** 2)


def mmd(source: Tensor, target: Tensor, widths: tuple[float, ...] = (0.25, 0.5, 1, 2, 4)) -> Tensor:
    """Squared maximum mean discrepancy of two samples (n, c) and (m, c).

    The kernels are Gaussians whose widths are these multiples of the mean squared distance.
    """
    joined = torch.cat([source, target])
    distance = torch.cdist(joined, joined).square()
    mean = distance.detach().mean().clamp(min=1e-12)
    kernel = torch.stack([torch.exp(-distance / (width * mean)) for width in widths]).mean(0)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
