"""Domain generalisation by what is done to the labelled patches: no target is ever seen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cryovox.core.config import Config
from cryovox.data.streams import Batch
from cryovox.filters.mix import mix_amplitudes
from cryovox.filters.prior import PriorConfig, Range, dressed
from cryovox.training.strategies.adapting import Batches
from cryovox.training.strategies.generalising import Generalising


def mostly(x: Tensor, varied: Callable[[Tensor], Tensor], clean: float) -> Tensor:
    """Vary the samples of a batch, but for a share that is left as it is."""
    if clean >= 1:
        return x
    kept = torch.rand((len(x), 1, 1, 1, 1), device=x.device) < clean
    return torch.where(kept, x, varied(x))


class Varied(Generalising):
    """Learns from patches of which some are as they were, and the others as they might be elsewhere."""

    def seen(self, batch: Batches) -> Batch:
        given = batch["labelled"]
        return self.supervised.shown(
            given._replace(image=mostly(given.image, self.varied, self.config.clean))
        )

    @abstractmethod
    def varied(self, x: Tensor) -> Tensor:
        """Patches (b, 1, z, y, x) as they might be elsewhere."""


class HeavyConfig(PriorConfig):
    """The prior of noise and microscopes, and how often it is drawn from."""

    clean: float = Field(0.5, ge=0, le=1)
    """Share of patches that stay as they are: the simulation, too, is to be learned."""


class HeavyAugmentation(Varied):
    """Noise and microscopes drawn from a wide prior: domain randomisation (J. Tobin et al., IROS 2017)."""

    Config = HeavyConfig

    def varied(self, x: Tensor) -> Tensor:
        return dressed(x, self.config)


class FourierMixingConfig(Config):
    """How far and how often amplitudes are mixed."""

    clean: float = Field(0.5, ge=0, le=1)
    """Share of patches that stay as they are; half, as in the paper."""
    mix_share: Range = (0.0, 1.0)
    """Between these the share of another patch in the amplitudes is drawn."""
    mix_spread: float = Field(0.5, ge=0)
    """Standard deviation of the logarithm of a random spectrum on top; 0 leaves it out."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if not 0 <= self.mix_share[0] <= self.mix_share[1] <= 1:
            raise ValueError("mix_share: two values in ascending order within 0 and 1 are needed")
        return self


class FourierMixing(Varied):
    """Amplitudes of other patches and of random spectra (after Q. Xu et al., CVPR 2021: FACT).

    The co-teacher of the paper, which has both views agree, is left out.
    """

    Config = FourierMixingConfig

    def furnish(self, network: nn.Module) -> None:
        self.least_batch = 2 if self.config.mix_share[1] > 0 else 1

    def varied(self, x: Tensor) -> Tensor:
        return mix_amplitudes(x, self.config.mix_share, spread=self.config.mix_spread)
