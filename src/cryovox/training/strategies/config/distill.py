"""Settings of `cryovox.training.strategies.distill`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from cryovox.core.config import Config
from cryovox.core.errors import RequestError
from cryovox.models.card import is_embedded, model_file


class DistillConfig(Config):
    """Distillation."""

    basic: ClassVar[tuple[str, ...] | None] = ("teacher",)

    teacher: Path | None = None
    """Trained model whose scores the student learns: a model file, a run folder, or `embedded`. (required)"""
    weight: float = Field(1.0, gt=0)
    """Weight of the teacher's scores beside the annotations, where the dataset has some."""
    pick_voxels: float = Field(64.0, gt=0)
    """Without annotations: million voxels, spread over the tomograms, in which the teacher picks before the
    training. Patches are drawn around its picks and anywhere in these parts."""

    @field_validator("teacher")
    @classmethod
    def _resolve(cls, teacher: Path | None) -> Path | None:
        """However the path is spelled, a run goes on with the same settings."""
        return teacher if teacher is None or is_embedded(teacher) else teacher.resolve()

    def teacher_file(self) -> Path:
        """The model file of the teacher, which must be named."""
        if self.teacher is None:
            message = "names no trained model, whose scores the student learns"
            remedy = "give a model file, a run folder of `cryovox train`, or `embedded`"
            raise RequestError("--teacher", message, remedy)
        return model_file(self.teacher)
