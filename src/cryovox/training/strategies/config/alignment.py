"""Settings of `cryovox.training.strategies.baselines.alignment`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cryovox.core.config import Config


class AlignmentConfig(Config):
    """Domain alignment."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    weight: float = Field(1.0, ge=0)
    """Weight of the alignment loss."""
    ramp: float = Field(10.0, gt=0)
    """Steepness r of the gradient-reversal coefficient at progress p: 2 / (1 + exp(-r p)) - 1."""
    joint_pass: bool = True
    """Pass source and target through the network together, so that batch norm cannot hide a difference in
    scale."""


class AdventConfig(AlignmentConfig):
    """Adversarial alignment of entropy maps."""


class CoralConfig(AlignmentConfig):
    """Alignment of feature covariances."""


class DannConfig(AlignmentConfig):
    """Adversarial alignment of features."""


class MmdConfig(AlignmentConfig):
    """Maximum mean discrepancy of features."""
