"""Settings of the training loop; imports no torch, so that help and refusals are quick."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cryovox.core.config import Config
from cryovox.core.durations import Duration


class LoopConfig(Config):
    """How long and how fast."""

    steps: int = Field(2000, ge=1)
    """Steps at most."""
    max_time: Duration | None = None
    """Time at most, with its unit: 90s, 20m or 1h. With it the schedule follows the clock or the steps,
    whichever is further, so that it is complete when time is up; such runs differ a little."""
    clock: Literal["wall", "processor"] = "wall"
    """What `max_time` is counted in: time that passes, or that the processors work for this training,
    which other work on the machine does not change."""
    batch: int = Field(8, ge=1)
    """Patches per step (on each device)."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients are summed before the weights move."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """What moves the weights; `sgd` has Nesterov momentum 0.9."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate at its height."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay; `adamw` decouples it from the gradient."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Learning rate over time: half a cosine, or a tenth at every half of the training (the
    MVGFormer recipe), or constant."""
    warmup: int = Field(50, ge=0)
    """Steps over which the learning rate rises."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Arithmetic."""
    validate_every: int = Field(200, ge=1)
    """Steps between validations on the held-out regions."""
    patience: int = Field(20, ge=1)
    """Validations without a better score after which training stops."""
    save_every: Duration = "120s"
    """Time between states that an interrupted training goes on from, beside those of validations."""
    keep: Literal["best", "last"] = "best"
    """Weights to keep: those of the best validation, or the last where few annotations make the
    validation a lottery."""
