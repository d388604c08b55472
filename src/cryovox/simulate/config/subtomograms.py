"""Settings of the simulated subtomograms."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cryovox.core.config import Config


class SubtomogramConfig(Config):
    """Simulated subtomograms."""

    basic: ClassVar[tuple[str, ...] | None] = ("box", "voxel_size", "snr", "tilt")
    renamed: ClassVar[dict[str, str]] = {"neighbours": "neighbors"}

    box: int = Field(32, ge=8)
    """Box size in voxels."""
    voxel_size: float = Field(10.0, gt=0)
    """Voxel size in Å."""
    neighbors: int = Field(4, ge=0, le=32)
    """Number of neighboring particles."""
    offset: float = Field(0.25, ge=0, lt=0.5)
    """Maximum shift of the target from the center on every axis, as a fraction of the box."""
    snr: float = Field(0.05, gt=0)
    """Signal-to-noise ratio: variance of the signal over that of the noise in the box; `.inf` in YAML for
    no noise."""
    before: float = Field(0.5, ge=0, le=1)
    """Fraction of the noise that is added before the CTF; the rest is detector noise."""
    tilt: float = Field(60.0, gt=0, le=90)
    """Maximum tilt in degrees about y."""
    defocus: float = 5.0
    """Underfocus in µm."""
    voltage: float = Field(300.0, gt=0)
    """Acceleration voltage in kV."""
    cs: float = Field(2.0, ge=0)
    """Spherical aberration in mm."""
    amplitude_contrast: float = Field(0.0, ge=0, lt=1)
    """Amplitude contrast; the published recipe has none."""
    envelope: float = Field(0.4, gt=0)
    """Fraction of Nyquist at which the CTF envelope has fallen to 1 / e."""
    resolution: float = Field(40.0, gt=0)
    """Resolution of the structures in Å."""
    roll_off: float = Field(2.0, gt=0)
    """Width of the resolution filter in Fourier voxels of a box."""
    threshold: float = Field(0.3, gt=0, lt=1)
    """Mask threshold, as a fraction of the maximum density."""
    margin: float = Field(0.5, ge=0)
    """Margin for neighbors that reach into the box, as a fraction of the box."""
