"""Settings of the filters; imports no torch, so that help and refusals are quick."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from cryovox.core.config import Config

Range = tuple[float, float]

BOUNDS: dict[str, Range] = {
    "prior_level": (0.0, 100.0),
    "prior_color": (-4.0, 8.0),
    "prior_band": (0.01, 10.0),
    "prior_wedge": (1.0, 90.0),
    "prior_zero": (0.01, 10.0),
    "prior_phase": (0.0, 179.0),
    "prior_envelope": (0.01, 10.0),
    "prior_gamma": (0.1, 10.0),
}
"""Limits of the ends of each range."""


class PriorConfig(Config):
    """Prior of noise and microscope."""

    basic: ClassVar[tuple[str, ...] | None] = ()
    renamed: ClassVar[dict[str, str]] = {
        "prior_colour": "prior_color",
        "prior_restandardised": "prior_restandardized",
    }

    prior_level: Range = (0.1, 2.0)
    """Range of the standard deviation of the noise relative to the patch, log-uniform; 0 0 adds none."""
    prior_color: Range = (0.0, 2.0)
    """Range of the exponent by which the noise power falls with frequency; 0 is white."""
    prior_band: Range = (0.5, 2.0)
    """Range of the fraction of Nyquist above which there is no noise; 1.74 and more keep all frequencies."""
    prior_wedge: Range = (40.0, 70.0)
    """Range of the maximum tilt in degrees, on both sides."""
    prior_wedge_share: float = Field(0.8, ge=0, le=1)
    """Fraction of patches with a missing wedge."""
    prior_ctf_share: float = Field(0.5, ge=0, le=1)
    """Fraction of patches with a CTF."""
    prior_zero: Range = (0.2, 0.8)
    """Range of the first zero of the CTF in cycles per voxel (3 µm at 10 Å: 0.4)."""
    prior_phase: Range = (5.0, 90.0)
    """Range of the CTF phase at frequency 0 in degrees: about 5 for ice, 90 for a phase plate."""
    prior_flip_share: float = Field(0.5, ge=0, le=1)
    """Fraction of those patches with corrected phases."""
    prior_envelope: Range = (0.4, 1.5)
    """Range of the fraction of Nyquist at which a Gaussian low-pass filter has fallen to one half."""
    prior_envelope_share: float = Field(0.5, ge=0, le=1)
    """Fraction of patches that pass this filter."""
    prior_gamma: Range = (0.7, 1.4)
    """Range of the gamma correction of the standardized gray values; their sign stays."""
    prior_restandardized: bool = True
    """Standardize every patch before gain and offset."""
    prior_gain: float = Field(0.2, ge=0, lt=1)
    """Gray values are scaled by a random factor within 1 ± this."""
    prior_offset: float = Field(0.1, ge=0)
    """Gray values are shifted by up to this."""

    @field_validator(*BOUNDS)
    @classmethod
    def _possible(cls, ends: Range, info: ValidationInfo) -> Range:
        lowest, highest = BOUNDS[str(info.field_name)]
        if not lowest <= ends[0] <= ends[1] <= highest:
            raise ValueError(f"two values in ascending order within {lowest:g} and {highest:g} are needed")
        if info.field_name == "prior_level" and ends[0] == 0 < ends[1]:
            raise ValueError("a logarithmic scale has no 0; only 0 0 may stand for no noise")
        return ends


HighPassVariant = Literal["remove-cube", "keep-outer", "keep-highest"]
Feature = Literal["gradient", "intensity"]
"""What a bilateral filter compares: the gradient of the Laplacian, or the gray value."""

SIGMA_R: dict[Feature, float] = {"gradient": 9.8, "intensity": 1.2}
"""Default range width of the bilateral filters in standard deviations of the input.

The published 1.2 of the improved filter belongs to gray values in [0, 1]. White noise in a cube of 32^3
voxels scaled to that range has a standard deviation of 0.12, so that 1.2 there is 9.8 here.
"""
