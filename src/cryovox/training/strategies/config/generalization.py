"""Settings of `cryovox.training.strategies.baselines.generalization`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cryovox.core.config import Config


class MixStyleConfig(Config):
    """MixStyle."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    style_chance: float = Field(0.5, ge=0, le=1)
    """Probability that a stage of the encoder mixes the feature statistics of a batch."""
    style_alpha: float = Field(0.1, ge=0.01)
    """Mixing coefficients are drawn from Beta(alpha, alpha)."""


class SwadConfig(Config):
    """Dense weight averaging."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    swad_share: float = Field(0.5, ge=0, le=1)
    """Last fraction of the training whose weights are averaged; a training that stops early may not reach
    it."""


class RscConfig(Config):
    """Representation self-challenging."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    rsc_share: float = Field(1 / 3, ge=0, lt=1)
    """Fraction of the coarsest features to mute: those that lower the loss most."""
    rsc_samples: float = Field(1 / 3, ge=0, le=1)
    """Fraction of the samples whose features are muted."""
