"""Settings of `cryovox.training.strategies.generalising`."""

from __future__ import annotations

from pydantic import Field

from cryovox.core.config import Config


class MixStyleConfig(Config):
    """How often and how far styles are mixed."""

    style_chance: float = Field(0.5, ge=0, le=1)
    """Chance that a stage of the encoder mixes the styles of a batch."""
    style_alpha: float = Field(0.1, ge=0.01)
    """Shares are drawn from Beta(alpha, alpha): below 1, mostly the own style or the other."""


class SwadConfig(Config):
    """Over which part of the training weights are averaged."""

    swad_share: float = Field(0.5, ge=0, le=1)
    """Last part of the training whose weights are averaged, by progress; a training that patience ends
    before does not come to it."""


class RscConfig(Config):
    """How much is muted, and how often."""

    rsc_share: float = Field(1 / 3, ge=0, lt=1)
    """Share of the coarsest features that is muted: those that lower the loss most."""
    rsc_samples: float = Field(1 / 3, ge=0, le=1)
    """Share of the samples of which features are muted."""
