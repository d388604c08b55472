"""Settings of the training loop; imports no torch, so that help and refusals are quick."""

from __future__ import annotations

from math import inf
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cryovox.core.config import Config
from cryovox.core.durations import Duration, seconds

DEFAULT_STEPS = 4000
MEASURED_STEPS, MEASURED_SECONDS = 200, 60.0
"""Shorter trainings do not repay the measurement of the faster precision."""
Precision = Literal["32-true", "bf16-mixed", "auto"]


class LoopConfig(Config):
    """Training schedule."""

    basic: ClassVar[tuple[str, ...] | None] = ("steps", "max_time", "batch", "lr")

    steps: int | None = Field(None, ge=1)
    """Maximum number of steps; by default 4000, or with `max_time` as many as it allows."""
    max_time: Duration | None = None
    """Maximum duration with its unit: 90s, 20m or 1h. The learning-rate schedule then follows the clock or
    the steps, whichever is further, and is complete when the time is up."""
    clock: Literal["wall", "processor"] = "wall"
    """Clock of `max_time`: wall time, or processor time of this training, which other work on the machine
    does not change."""
    batch: int = Field(4, ge=1)
    """Batch size in patches, on each device."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients are accumulated before an optimizer step."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """Optimizer; `sgd` has Nesterov momentum 0.9."""
    lr: float = Field(3e-3, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay; decoupled from the gradient in `adamw`."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Learning-rate schedule: cosine, a factor of 10 down at each of `drops`, or constant."""
    drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5,)
    """Progress (0 to 1) at which the schedule `step` divides the learning rate by 10: half of the training as
    published for MVGFormer; 1/3 and 2/3 for Vox-UDA."""
    warmup: int = Field(20, ge=0)
    """Warm-up steps of the learning rate."""
    clip: float = Field(1.0, gt=0)
    """Maximum norm of the gradient."""
    precision: Precision | None = None
    """Precision; by default `auto` in supervised trainings of at least 200 steps or one minute, and else
    32-true. `auto` takes bfloat16 where a step is at least 1.2 times as fast and scores hardly change, which
    is measured once per machine, network and batch."""
    validate_every: int | None = Field(None, ge=1)
    """Steps between validations; by default 200, and in trainings of more than 4000 steps a twentieth of the
    training."""
    patience: int = Field(20, ge=1)
    """Validations without improvement after which training stops."""
    save_every: Duration = "120s"
    """Time between checkpoints from which an interrupted training continues, besides those of validations."""
    keep: Literal["best", "last"] = "best"
    """Weights to keep: best validation, or last, where few annotations make the validation unreliable."""

    def precision_of(self, strategy: str) -> Precision:
        """The precision that is set, or the default of a strategy for a training of this length."""
        if self.precision is not None:
            return self.precision
        time = inf if self.max_time is None else seconds(self.max_time)
        is_short = self.max_steps < MEASURED_STEPS or time < MEASURED_SECONDS
        return "auto" if strategy == "supervised" and not is_short else "32-true"

    @property
    def max_steps(self) -> float:
        """Maximum number of steps, which is infinite if only the time limits the training."""
        if self.steps is not None:
            return self.steps
        return DEFAULT_STEPS if self.max_time is None else inf
