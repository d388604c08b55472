"""Settings of the simulated tomogram."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from cryovox.core.config import Config
from cryovox.simulate.config.microscope import (
    Beyond,
    DetectorConfig,
    OpticsConfig,
    ReconstructionConfig,
    TiltConfig,
)
from cryovox.simulate.config.scene import SceneConfig


class SimulationConfig(Config):
    """Everything that a simulated tomogram depends on, besides its templates and seed."""

    nested: ClassVar[bool] = True

    species: tuple[str, ...] = ("ribosome-80s", "proteasome-20s")
    """Names of the built-in library, PDB ids, or stems of files in the folder of structures; the
    order is that of the labels."""
    resolution: float | None = Field(None, gt=0)
    """Resolution of the templates in Å; what the voxels can hold by default."""
    scene: SceneConfig = SceneConfig()
    """What is in the sample."""
    tilts: TiltConfig = TiltConfig()
    """How the sample is turned."""
    optics: OpticsConfig = OpticsConfig()
    """How the microscope forms images."""
    detector: DetectorConfig = DetectorConfig()
    """How they are counted."""
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    """How the tilt series becomes a tomogram."""
    beyond: Beyond = "mirror"
    """What tilted views see next to the scene in x: nothing but ice, or a sample that goes on as the
    scene's mirror image (not with multislice)."""
    amplitudes: Path | None = None
    """Filter the recorded projections so that their radial spectrum has the form of an experiment's: a
    tilt series (MRC stack), or a table of frequencies in 1/Å and amplitudes."""
    snr: float | None = Field(None, gt=0)
    """Scale the noise so that the variance of the noise-free tomogram is this many times that of the
    noise in it; as the dose has it by default."""
    halves: Literal["none", "tilts", "frames"] = "none"
    """Reconstruct two half-tomograms as well, from even and odd tilts or from half of the dose each."""
