"""Settings of `cryovox.training.strategies.semi.semi_etpicker`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cryovox.core.config import Config


class HeatmapTeacherConfig(Config):
    """Unlabeled patches."""

    basic: ClassVar[tuple[str, ...] | None] = ()
    renamed: ClassVar[dict[str, str]] = {"rise": "rampup", "student_gain": "student_contrast_jitter"}

    teacher_decay: float = Field(0.999, gt=0, lt=1)
    """Decay of the EMA teacher, which is kept as the model; its reach is limited as that of `ema`."""
    weight: float = Field(1.0, ge=0)
    """Weight of the unlabeled loss after the ramp-up."""
    pseudo_from: float = Field(0.2, ge=0, lt=1)
    """Progress (0 to 1) at which the unlabeled loss begins."""
    rampup: float = Field(0.2, gt=0, le=1)
    """Length of its ramp-up, in progress."""
    student_noise: float = Field(0.3, ge=0)
    """Maximum standard deviation of noise added to the student's input."""
    student_contrast_jitter: float = Field(0.3, ge=0, lt=1)
    """The student's gray values are scaled by a random factor within 1 ± this."""


class SemiETPickerConfig(HeatmapTeacherConfig):
    """SemiETPicker; each part can be switched off."""

    views: int = Field(4, ge=1, le=8)
    """Number of wedge-preserving orientations from which the teacher predicts; up to 4 keep the
    handedness."""
    high: float = Field(0.3, gt=0, lt=1)
    """Maximum threshold of a peak that becomes a pseudo-label."""
    low: float = Field(0.1, ge=0, lt=1)
    """Teacher scores below it are background."""
    agreement: float = Field(0.5, ge=0, le=1)
    """Minimum fraction of the orientations that share a peak."""
    adaptive: bool = True
    """Lower the threshold of a species to the median score of its labeled particles."""
    ignore: bool = True
    """Ignore voxels between background and peaks in the loss."""
    exclusive: bool = False
    """At most one species per location: the one with the highest peak."""
    student_drop: float = Field(0.1, ge=0, lt=1)
    """Fraction of unlabeled patches replaced by cuboids of noise."""
    deep_drop: float = Field(0.1, ge=0, lt=1)
    """Fraction of the coarsest features set to 0."""
    rounds: int = Field(2, ge=0)
    """Number of times that a fixed teacher is replaced by the EMA of the student; 0: the teacher is the EMA
    at every step."""


class FixMatchConfig(SemiETPickerConfig):
    """FixMatch on heatmaps."""

    views: int = Field(1, ge=1, le=8)
    """Number of wedge-preserving orientations from which the teacher predicts."""
    agreement: float = Field(0.0, ge=0, le=1)
    """Minimum fraction of the orientations that share a peak."""
    adaptive: bool = False
    """Lower the threshold of a species to the median score of its labeled particles."""
    student_drop: float = Field(0.0, ge=0, lt=1)
    """Fraction of unlabeled patches replaced by cuboids of noise."""
    deep_drop: float = Field(0.0, ge=0, lt=1)
    """Fraction of the coarsest features set to 0."""
    rounds: int = Field(0, ge=0)
    """Number of times that a fixed teacher is replaced by the EMA of the student; 0: the teacher is the EMA
    at every step."""


class RoundsConfig(FixMatchConfig):
    """Pseudo-labels in rounds."""

    rounds: int = Field(2, ge=1)
    """Number of times that the fixed teacher is replaced by the EMA of the student."""
