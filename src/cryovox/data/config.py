"""Settings of patches; imports no torch, so that help and refusals are quick."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cryovox.core.config import Config


class PatchConfig(Config):
    """Sampling of patches."""

    basic: ClassVar[tuple[str, ...] | None] = ("patch",)

    patch: int | None = Field(None, ge=8)
    """Patch size in voxels; by default that of the network."""
    foreground: float = Field(0.7, ge=0, le=1)
    """Fraction of patches centered near a particle; the others lie anywhere."""
    balance: bool = True
    """Sample species equally often, however rare they are."""
    jitter: float = Field(0.35, ge=0, le=0.5)
    """Maximum shift of that particle from the center, as a fraction of the patch."""
    rim: float = Field(1.5, ge=1)
    """Where a species is not annotated exhaustively: distance from a pick, in radii, within which voxels
    count as background."""


class AugmentConfig(Config):
    """Data augmentation."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    flips: bool = True
    """Random symmetry of the missing wedge, one of eight."""
    mirrors: bool = True
    """Include the symmetries that change handedness."""
    contrast: float = Field(0.2, ge=0, lt=1)
    """Gray values are scaled by a random factor within 1 ± this."""
    brightness: float = Field(0.1, ge=0)
    """Gray values are shifted by up to this many standard deviations of the tomogram."""
    noise: float = Field(0.2, ge=0)
    """Maximum standard deviation of added white noise."""
    blur: float = Field(0.6, ge=0)
    """Maximum standard deviation of a Gaussian blur in voxels, applied to half of the patches."""
    cut: float = Field(0.15, ge=0, le=1)
    """Fraction of patches that are cut off at a random plane, as particles are by the faces of a tomogram."""
