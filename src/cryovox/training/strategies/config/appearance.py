"""Settings of `cryovox.training.strategies.appearance`."""

from __future__ import annotations

from pydantic import Field

from cryovox.core.config import Config


class PlainConfig(Config):
    """Nothing to choose."""


class FourierConfig(Config):
    """Which amplitudes are taken from the target."""

    share: float = Field(0.1, gt=0, le=1)
    """Side of the cube of low frequencies over that of the whole spectrum (beta of the paper, doubled)."""
