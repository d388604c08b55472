"""Settings of `cryovox.training.strategies.dressing`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from cryovox.core.config import Config
from cryovox.filters.config import PriorConfig, Range


class HeavyConfig(PriorConfig):
    """The prior of noise and microscopes, and how often it is drawn from."""

    clean: float = Field(0.5, ge=0, le=1)
    """Share of patches that stay as they are: the simulation, too, is to be learned."""


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
