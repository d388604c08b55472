"""What counts as a particle: the settings that all pickers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cryovox.core.config import Config
from cryovox.core.errors import RequestError

if TYPE_CHECKING:
    from cryovox.core.volume import ScoreMap

THRESHOLDS = {"heatmap": 0.3, "mask": 0.5}
"""Lowest score of a pick where neither the user nor the model named one."""


class PickConfig(Config):
    """What counts as a particle."""

    method: Literal["auto", "mean-shift"] = "auto"
    """auto: peaks of heatmaps, connected regions of masks and label maps. mean-shift: clusters of the voxels
    of masks and label maps, as DeepFinder picks; slower, and it needs the radii of the species."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Lowest score; by default the one that the model advises, else 0.5 for masks and 0.3 for heatmaps."""
    distance: float | None = Field(default=None, ge=0)
    """Least distance in Å between two particles of a species; by default the radius of the species in
    heatmaps, and no limit for the regions of masks and label maps."""
    border: float | None = Field(default=None, ge=0)
    """Exclude picks whose centre lies within this distance (Å) of a face of the volume; by default half the
    radius of the species, since the boxes of such picks are cut and many are artefacts. 0 keeps all."""
    max_count: int | None = Field(default=None, ge=1)
    """Most particles of each species, best first."""
    min_size: float = Field(default=0.1, ge=0)
    """Smallest region, as a fraction of the volume of a ball with the radius of the species."""
    exclusive: bool = True
    """In heatmaps, where two species claim one place (closer than the smaller radius), drop the weaker claim
    if it is clearly weaker; a claim is a score over its threshold."""
    outvoted: float = Field(default=2.0, ge=1)
    """A claim is clearly weaker than one that is at least so many times as strong; 1 leaves one species in
    every place."""
    split_touching: bool = True
    """Cut connected regions at their necks into the particles that touch there."""


def check_method(config: PickConfig, kind: str) -> None:
    """Refuse a method that does not fit what a network answers with, "heatmap" or "mask"."""
    if config.method == "mean-shift" and kind == "heatmap":
        told = "mean-shift groups the voxels of masks, and this model answers with heatmaps"
        raise RequestError("--method", told, "leave it out, or take a model that answers with masks")


def threshold_of(scores: ScoreMap, name: str, config: PickConfig) -> float:
    """Lowest score of a pick of one species: the user's, the model's, or the usual one."""
    if config.threshold is not None:
        return config.threshold
    return scores.thresholds.get(name, THRESHOLDS[scores.kind])


class SuggestConfig(Config):
    """What is worth a label."""

    count: int = Field(default=30, ge=1)
    """Places to suggest."""
    lowest: float = Field(default=0.05, gt=0, le=1)
    """Lowest score of a candidate; half the threshold of its species, where that is lower."""
    balance: bool = True
    """Give every species at least half of an equal share of the places."""
    pool: int = Field(default=300, ge=1)
    """Most candidates of a species in a tomogram whose surroundings are compared, the most uncertain."""
    border: float | None = Field(default=None, ge=0)
    """Suggest nothing whose centre lies within this distance (Å) of a face of the tomogram; by default half
    the radius of the species. 0 suggests there too."""
