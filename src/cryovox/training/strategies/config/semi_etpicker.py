"""Settings of `cryovox.training.strategies.semi_etpicker`."""

from __future__ import annotations

from pydantic import Field

from cryovox.core.config import Config


class LessonConfig(Config):
    """A teacher on unlabelled patches, and how hard the student has it."""

    teacher_decay: float = Field(0.999, gt=0, lt=1)
    """Decay of the moving average that teaches, and that is kept."""
    weight: float = Field(1.0, ge=0)
    """Weight of what unlabelled patches teach, once it has risen."""
    pseudo_from: float = Field(0.2, ge=0, lt=1)
    """Progress at which unlabelled patches begin to teach."""
    rise: float = Field(0.2, gt=0, le=1)
    """Progress that their weight then takes to rise."""
    student_noise: float = Field(0.3, ge=0)
    """Largest standard deviation of the noise on what the student sees of them."""
    student_gain: float = Field(0.3, ge=0, lt=1)
    """Its grey values are multiplied by 1 +- this."""


class SemiETPickerConfig(LessonConfig):
    """The parts of SemiETPicker, each of which can be switched off."""

    views: int = Field(4, ge=1, le=8)
    """Symmetries of the missing wedge from which the teacher looks; up to 4 keep the handedness."""
    high: float = Field(0.3, gt=0, lt=1)
    """Highest threshold of a peak that becomes a pseudo-label."""
    low: float = Field(0.1, ge=0, lt=1)
    """Below it, what the teacher sees is background."""
    agreement: float = Field(0.5, ge=0, le=1)
    """Least share of the views that share a peak."""
    adaptive: bool = True
    """Lower the threshold of a species to what the student gives half of its labelled particles."""
    ignore: bool = True
    """Leave out what lies between background and peaks."""
    exclusive: bool = False
    """Believe in one species in a place: the one whose peak is the highest."""
    student_drop: float = Field(0.1, ge=0, lt=1)
    """Share of unlabelled patches that is replaced by cuboids of noise."""
    deep_drop: float = Field(0.1, ge=0, lt=1)
    """Share of the coarsest features that is set to 0."""
    rounds: int = Field(2, ge=0)
    """How often the teacher is replaced by what the student has become, and stays as it is in between; 0: it
    follows the student all the time."""


class FixMatchConfig(SemiETPickerConfig):
    """One view, one threshold, no DropBlock, a teacher that follows the student."""

    views: int = Field(1, ge=1, le=8)
    agreement: float = Field(0.0, ge=0, le=1)
    adaptive: bool = False
    student_drop: float = Field(0.0, ge=0, lt=1)
    deep_drop: float = Field(0.0, ge=0, lt=1)
    rounds: int = Field(0, ge=0)


class RoundsConfig(FixMatchConfig):
    """Pseudo-labels that stay the same for a while."""

    rounds: int = Field(2, ge=1)
