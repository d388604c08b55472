"""Adaptations that dress the source like the target, or count the target's statistics anew."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from cryovox.core.config import Config
from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.filters.match import match_histogram, match_spectrum, swap_amplitudes
from cryovox.training.batch_norm import bn_layers
from cryovox.training.strategies.config.style_transfer import FourierConfig, PlainConfig
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.domain_adaptation import MIN_DECAY, Batches, DomainAdaptation, Seen


class StyleTransfer(DomainAdaptation):
    """Learns from the source as it would look in the target."""

    Config: type[Config] = PlainConfig

    def seen(self, batch: Batches) -> Batch:
        source = batch["labelled"]
        return self.supervised.shown(source._replace(image=self.dressed(source.image, batch["target"].image)))

    @abstractmethod
    def dressed(self, source: Tensor, target: Tensor) -> Tensor:
        """Source patches (b, 1, z, y, x) with the looks of the target."""

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        return {}


class FourierDomainAdaptation(StyleTransfer):
    """Low-frequency amplitudes of the target (Y. Yang and S. Soatto, CVPR 2020: FDA)."""

    Config = FourierConfig

    def dressed(self, source: Tensor, target: Tensor) -> Tensor:
        return swap_amplitudes(source, target, share=self.config.share)


class SpectrumMatching(StyleTransfer):
    """The radial amplitude spectrum of the target, as DeePiCt does before training."""

    def dressed(self, source: Tensor, target: Tensor) -> Tensor:
        return match_spectrum(source, target)


class HistogramMatching(StyleTransfer):
    """The grey values of the target."""

    def dressed(self, source: Tensor, target: Tensor) -> Tensor:
        return match_histogram(source, target)


class AdaptiveBatchNorm(DomainAdaptation):
    """Batch norms that count the target (Y. Li et al., 2017: AdaBN); nothing else is learned from it."""

    Config = PlainConfig

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        if not bn_layers(network):
            told = f"{name} has no batch norm whose statistics could be counted anew"
            raise RequestError("--model", told, "choose another network or another strategy")
        # without an average the student would have to keep both statistics
        return supervised.model_copy(update={"ema": max(supervised.ema, MIN_DECAY)})

    @property
    def updates_bn_on_target(self) -> bool:
        return True

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        return {}
