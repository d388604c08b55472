"""Domain generalisation by what is done to the labelled patches: no target is ever seen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cryovox.data.streams import Batch
from cryovox.filters.mix import mix_amplitudes
from cryovox.filters.prior import randomize_appearance
from cryovox.training.strategies.baselines.generalization import DomainGeneralization
from cryovox.training.strategies.config.augmentation import FourierMixingConfig, HeavyConfig
from cryovox.training.strategies.domain_adaptation import Batches


def mostly(x: Tensor, varied: Callable[[Tensor], Tensor], clean: float) -> Tensor:
    """Vary the samples of a batch, but for a share that is left as it is."""
    if clean >= 1:
        return x
    kept = torch.rand((len(x), 1, 1, 1, 1), device=x.device) < clean
    return torch.where(kept, x, varied(x))


class AugmentedTraining(DomainGeneralization):
    """Learns from patches of which some are as they were, and the others as they might be elsewhere."""

    def seen(self, batch: Batches) -> Batch:
        given = batch["labelled"]
        return self.supervised.shown(
            given._replace(image=mostly(given.image, self.varied, self.config.clean))
        )

    @abstractmethod
    def varied(self, x: Tensor) -> Tensor:
        """Patches (b, 1, z, y, x) as they might be elsewhere."""


class HeavyAugmentation(AugmentedTraining):
    """Noise and microscopes drawn from a wide prior: domain randomisation (J. Tobin et al., IROS 2017)."""

    Config = HeavyConfig

    def varied(self, x: Tensor) -> Tensor:
        return randomize_appearance(x, self.config)


class FourierMixing(AugmentedTraining):
    """Amplitudes of other patches and of random spectra (after Q. Xu et al., CVPR 2021: FACT).

    The co-teacher of the paper, which has both views agree, is left out.
    """

    Config = FourierMixingConfig

    def build_modules(self, network: nn.Module) -> None:
        self.min_batch_size = 2 if self.config.mix_share[1] > 0 else 1

    def varied(self, x: Tensor) -> Tensor:
        return mix_amplitudes(x, self.config.mix_share, spread=self.config.mix_spread)
