"""Domain adaptation by giving the source the appearance, or the network the statistics, of the target."""

from __future__ import annotations

from torch import Tensor, nn

from cryovox.core.errors import RequestError
from cryovox.filters.match import match_histogram, match_spectrum, swap_amplitudes
from cryovox.training.batch_norm import bn_layers
from cryovox.training.strategies import Task
from cryovox.training.strategies.base import Batches
from cryovox.training.strategies.config.style_transfer import (
    AdaptiveBatchNormConfig,
    FourierConfig,
    HistogramMatchingConfig,
    SpectrumMatchingConfig,
)
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.extended import MIN_DECAY, ExtendedSupervised, SourceOutput


class FourierDomainAdaptation(ExtendedSupervised):
    """Low-frequency amplitudes of the target (Y. Yang and S. Soatto, CVPR 2020: FDA)."""

    task: Task = "domain adaptation"
    Config = FourierConfig

    def source_images(self, batches: Batches) -> Tensor:
        return swap_amplitudes(batches["labeled"].image, batches["target"].image, fraction=self.config.share)


class SpectrumMatching(ExtendedSupervised):
    """The radial amplitude spectrum of the target, as DeePiCt does before training."""

    task: Task = "domain adaptation"
    Config = SpectrumMatchingConfig

    def source_images(self, batches: Batches) -> Tensor:
        return match_spectrum(batches["labeled"].image, batches["target"].image)


class HistogramMatching(ExtendedSupervised):
    """The gray-value histogram of the target."""

    task: Task = "domain adaptation"
    Config = HistogramMatchingConfig

    def source_images(self, batches: Batches) -> Tensor:
        return match_histogram(batches["labeled"].image, batches["target"].image)


class AdaptiveBatchNorm(ExtendedSupervised):
    """Batch-norm statistics of the target (Y. Li et al., 2017: AdaBN); nothing else is learned from it."""

    task: Task = "domain adaptation"
    Config = AdaptiveBatchNormConfig

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        if not bn_layers(network):
            message = f"{name} has no batch norm whose statistics could be adapted"
            raise RequestError("--model", message, "choose another network or another strategy")
        # without an EMA the student would have to keep the statistics of both domains
        return supervised.model_copy(update={"ema": max(supervised.ema, MIN_DECAY)})

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        self.bn_images = batches["target"].image
        return {}
