"""Settings of `cryovox.training.strategies.teachers`."""

from __future__ import annotations

from pydantic import Field

from cryovox.core.config import Config


class TeacherConfig(Config):
    """A teacher, and how hard the student has it."""

    teacher_decay: float = Field(0.99, ge=0, lt=1)
    """Decay of the moving average that teaches, and that is kept."""
    weight: float = Field(1.0, ge=0)
    """Weight of the teacher's lessons, from a quarter of the training on."""
    student_noise: float = Field(0.5, ge=0)
    """Largest standard deviation of the noise on what the student sees."""
    student_gain: float = Field(0.3, ge=0, lt=1)
    """Its grey values are multiplied by 1 +- this."""
    target_statistics: bool = False
    """Batch norms of the teacher count the target alone (ours)."""


class ConfidentConfig(TeacherConfig):
    """The same, and when the teacher is believed."""

    threshold: float = Field(0.85, gt=0, lt=1)
    """Lowest probability of a pseudo-label."""


class MicConfig(ConfidentConfig):
    """The same, and what is hidden from the student."""

    threshold: float = Field(0.968, gt=0, lt=1)
    """Probability above which a voxel counts as certain; the share of those weighs the lesson."""
    block: int = Field(8, ge=1)
    """Edge of what is hidden in one piece, in voxels."""
    masked: float = Field(0.5, gt=0, lt=1)
    """Share of the patch that is hidden."""
