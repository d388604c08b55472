"""Settings of `cryovox.training.strategies.baselines.mean_teacher`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cryovox.core.config import Config


class TeacherConfig(Config):
    """Teacher and student."""

    basic: ClassVar[tuple[str, ...] | None] = ()
    renamed: ClassVar[dict[str, str]] = {"student_gain": "student_contrast_jitter"}

    teacher_decay: float = Field(0.999, ge=0, lt=1)
    """Decay of the EMA teacher, which is kept as the model; its reach is limited as that of `ema`."""
    weight: float = Field(1.0, ge=0)
    """Weight of the unlabeled loss, reached after a quarter of the training."""
    student_noise: float = Field(0.5, ge=0)
    """Maximum standard deviation of noise added to the student's input."""
    student_contrast_jitter: float = Field(0.3, ge=0, lt=1)
    """The student's gray values are scaled by a random factor within 1 ± this."""
    target_statistics: bool = False
    """Batch-norm statistics of the teacher from the target alone (our addition)."""


class ConfidentConfig(TeacherConfig):
    """Teacher, student and pseudo-labels."""

    threshold: float = Field(0.85, gt=0, lt=1)
    """Minimum probability of a pseudo-label."""


class MicConfig(ConfidentConfig):
    """Masked image consistency."""

    renamed: ClassVar[dict[str, str]] = {
        **ConfidentConfig.renamed,
        "block": "mask_block",
        "masked": "mask_ratio",
    }

    threshold: float = Field(0.968, gt=0, lt=1)
    """Probability above which a voxel is confident; the fraction of confident voxels weights the loss."""
    mask_block: int = Field(8, ge=1)
    """Size of a masked block in voxels."""
    mask_ratio: float = Field(0.5, gt=0, lt=1)
    """Fraction of the patch that is masked."""
