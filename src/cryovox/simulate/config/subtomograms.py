"""Settings of the simulated subtomograms."""

from __future__ import annotations

from pydantic import Field

from cryovox.core.config import Config


class SubtomogramConfig(Config):
    """How crowded subtomograms are made."""

    box: int = Field(32, ge=8)
    """Edge of the subtomogram in voxels."""
    voxel_size: float = Field(10.0, gt=0)
    """Edge of a voxel in Å."""
    neighbours: int = Field(4, ge=0, le=32)
    """Other particles that touch the target or each other."""
    offset: float = Field(0.25, ge=0, lt=0.5)
    """Largest shift of the target from the centre on every axis, as a share of the box."""
    snr: float = Field(0.05, gt=0)
    """Variance of the signal over that of the noise, both in the box and as the microscope leaves
    them; infinite (`.inf` in YAML) for no noise."""
    before: float = Field(0.5, ge=0, le=1)
    """Share of the noise that enters before the contrast transfer; the rest is the detector's."""
    tilt: float = Field(60.0, gt=0, le=90)
    """Largest tilt in degrees about y."""
    defocus: float = 5.0
    """Underfocus in µm."""
    voltage: float = Field(300.0, gt=0)
    """Acceleration voltage in kV."""
    cs: float = Field(2.0, ge=0)
    """Spherical aberration in mm."""
    amplitude_contrast: float = Field(0.0, ge=0, lt=1)
    """Share of amplitude contrast; the recipe has none."""
    envelope: float = Field(0.4, gt=0)
    """Fraction of the Nyquist frequency at which the contrast transfer has fallen to 1 / e."""
    resolution: float = Field(40.0, gt=0)
    """Edge of the band-pass in Å."""
    roll_off: float = Field(2.0, gt=0)
    """Width of that edge in steps of the spectrum of a box."""
    threshold: float = Field(0.3, gt=0, lt=1)
    """The target is where its density exceeds this share of its largest value."""
    margin: float = Field(0.5, ge=0)
    """Room on either side for neighbours that reach into the box, as a share of the box."""
