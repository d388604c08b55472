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
    """Settings of a simulated tomogram, without its structures and seed."""

    basic: ClassVar[tuple[str, ...] | None] = ("species", "snr", "halves")

    nested: ClassVar[bool] = True

    species: tuple[str, ...] = ("ribosome-80s", "proteasome-20s")
    """Names of the built-in library, PDB IDs, or stems of files in the folder of structures, in the order
    of their labels."""
    resolution: float | None = Field(None, gt=0)
    """Resolution of the structures in Å; by default two voxels."""
    scene: SceneConfig = SceneConfig()
    """Sample."""
    tilts: TiltConfig = TiltConfig()
    """Tilt series."""
    optics: OpticsConfig = OpticsConfig()
    """Optics and CTF."""
    detector: DetectorConfig = DetectorConfig()
    """Detector."""
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    """Reconstruction."""
    beyond: Beyond = "mirror"
    """Content next to the scene in x in tilted views: ice, or the mirror image of the scene (not with
    multislice)."""
    amplitudes: Path | None = None
    """Match the radial amplitude spectrum of the projections to an experiment: a tilt series (MRC stack),
    or a table of frequencies in 1/Å and amplitudes."""
    snr: float | None = Field(None, gt=0)
    """Signal-to-noise ratio of the tomogram: variance of the noise-free tomogram over that of the noise; by
    default set by the dose."""
    halves: Literal["none", "tilts", "frames"] = "none"
    """Also reconstruct two half-tomograms, from even and odd tilts or from half of the dose each."""
