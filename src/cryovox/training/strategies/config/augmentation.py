"""Settings of `cryovox.training.strategies.baselines.augmentation`."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from cryovox.core.config import Config
from cryovox.filters.config import PriorConfig, Range


class HeavyConfig(PriorConfig):
    """Random appearance from a wide prior."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    clean: float = Field(0.5, ge=0, le=1)
    """Fraction of patches that stay unchanged."""


class FourierMixingConfig(Config):
    """Mixing of Fourier amplitudes."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    clean: float = Field(0.5, ge=0, le=1)
    """Fraction of patches that stay unchanged; half, as in the paper."""
    mix_share: Range = (0.0, 1.0)
    """Range of the mixing coefficient of another patch's amplitudes."""
    mix_spread: float = Field(0.5, ge=0)
    """Standard deviation of the logarithm of a random spectrum on top; 0 turns it off."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if not 0 <= self.mix_share[0] <= self.mix_share[1] <= 1:
            raise ValueError("mix_share: two values in ascending order within 0 and 1 are needed")
        return self
