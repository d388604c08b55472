"""Settings of the filters; imports no torch, so that help and refusals are quick."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from cryovox.core.config import Config

Range = tuple[float, float]

BOUNDS: dict[str, Range] = {
    "prior_level": (0.0, 100.0),
    "prior_colour": (-4.0, 8.0),
    "prior_band": (0.01, 10.0),
    "prior_wedge": (1.0, 90.0),
    "prior_zero": (0.01, 10.0),
    "prior_phase": (0.0, 179.0),
    "prior_envelope": (0.01, 10.0),
    "prior_gamma": (0.1, 10.0),
}
"""Within which the ends of ranges may lie."""


class PriorConfig(Config):
    """From how wide a world the looks of a cube are drawn; shares of 0 and closed ranges switch parts off."""

    prior_level: Range = (0.1, 2.0)
    """Standard deviation of the noise over that of the cube, before wedge and envelope, drawn on a
    logarithmic scale; 0 0 adds none."""
    prior_colour: Range = (0.0, 2.0)
    """Exponent by which the power of the noise falls with the frequency: 0 is white."""
    prior_band: Range = (0.5, 2.0)
    """Share of Nyquist above which there is no noise; from 1.74 on all frequencies of the cube have it."""
    prior_wedge: Range = (40.0, 70.0)
    """Largest tilt in degrees, on both sides: what lies beyond is empty."""
    prior_wedge_share: float = Field(0.8, ge=0, le=1)
    """Share of cubes that get a wedge."""
    prior_ctf_share: float = Field(0.5, ge=0, le=1)
    """Share of cubes whose contrast is transferred by an underfocused lens."""
    prior_zero: Range = (0.2, 0.8)
    """Its first zero in cycles per voxel: 3 µm and 10 Å make 0.4."""
    prior_phase: Range = (5.0, 90.0)
    """Its phase in degrees at frequency 0: about 5 for ice; 90, which leaves low frequencies as they are,
    for a phase plate, or where the source has lost them already."""
    prior_flip_share: float = Field(0.5, ge=0, le=1)
    """Share of those cubes with corrected phases."""
    prior_envelope: Range = (0.4, 1.5)
    """Share of Nyquist at which a Gaussian low-pass filter has fallen to one half."""
    prior_envelope_share: float = Field(0.5, ge=0, le=1)
    """Share of cubes that pass it."""
    prior_gamma: Range = (0.7, 1.4)
    """Power to which grey values, in standard deviations from their mean, are raised; their sign stays."""
    prior_restandardised: bool = True
    """Bring every cube to mean 0 and standard deviation 1 before gain and offset, as network input has it."""
    prior_gain: float = Field(0.2, ge=0, lt=1)
    """Grey values are multiplied by 1 +- this at the end."""
    prior_offset: float = Field(0.1, ge=0)
    """... and shifted by +- this."""

    @field_validator(*BOUNDS)
    @classmethod
    def _possible(cls, ends: Range, info: ValidationInfo) -> Range:
        lowest, highest = BOUNDS[str(info.field_name)]
        if not lowest <= ends[0] <= ends[1] <= highest:
            raise ValueError(f"two values in ascending order within {lowest:g} and {highest:g} are needed")
        if info.field_name == "prior_level" and ends[0] == 0 < ends[1]:
            raise ValueError("a logarithmic scale has no 0; only 0 0 may stand for no noise")
        return ends


Reading = Literal["remove-cube", "keep-outer", "keep-highest"]
