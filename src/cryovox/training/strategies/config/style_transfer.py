"""Settings of `cryovox.training.strategies.baselines.style_transfer`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cryovox.core.config import Config


class SpectrumMatchingConfig(Config):
    """Strategy (no settings of its own)."""


class HistogramMatchingConfig(Config):
    """Strategy (no settings of its own)."""


class AdaptiveBatchNormConfig(Config):
    """Strategy (no settings of its own)."""


class FourierConfig(Config):
    """Fourier domain adaptation."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    share: float = Field(0.1, gt=0, le=1)
    """Size of the low-frequency cube as a fraction of the spectrum (twice the paper's beta)."""
