"""Settings of patches; imports no torch, so that help and refusals are quick."""

from __future__ import annotations

from pydantic import Field

from cryovox.core.config import Config


class PatchConfig(Config):
    """How patches are drawn from tomograms."""

    patch: int | None = Field(None, ge=8)
    """Edge of a patch in voxels; the network's own by default."""
    foreground: float = Field(0.7, ge=0, le=1)
    """Share of patches that are centred near a particle; the others lie anywhere."""
    balance: bool = True
    """Draw species equally often, however rare they are."""
    jitter: float = Field(0.35, ge=0, le=0.5)
    """Largest shift of that particle from the centre, as a share of the patch."""
    rim: float = Field(1.5, ge=1)
    """Where a species was not searched exhaustively, how far around its picks (in radii) the
    absence of another particle is certain."""


class AugmentConfig(Config):
    """How patches are varied."""

    flips: bool = True
    """Draw one of the eight symmetries of the missing wedge."""
    mirrors: bool = True
    """Allow those that change handedness."""
    contrast: float = Field(0.2, ge=0, lt=1)
    """Grey values are multiplied by 1 +- this."""
    brightness: float = Field(0.1, ge=0)
    """... and shifted by +- this many standard deviations of the tomogram."""
    noise: float = Field(0.2, ge=0)
    """Largest standard deviation of added white noise."""
    blur: float = Field(0.6, ge=0)
    """Largest width in voxels of a Gaussian blur, applied to half of the patches."""
