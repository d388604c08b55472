"""Settings of `cryovox.training.strategies.alignment`."""

from __future__ import annotations

from pydantic import Field

from cryovox.core.config import Config


class AlignmentConfig(Config):
    """How strongly the domains are aligned."""

    weight: float = Field(1.0, ge=0)
    """Weight of the alignment."""
    ramp: float = Field(10.0, gt=0)
    """How fast the reversed gradient grows with the progress p: 2 / (1 + exp(-ramp p)) - 1."""
