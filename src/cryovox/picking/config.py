"""Settings of picking and of annotation suggestions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro
from pydantic import Field

from cryovox.core.config import Config
from cryovox.core.errors import RequestError

if TYPE_CHECKING:
    from cryovox.core.volume import ScoreMap

THRESHOLDS = {"heatmap": 0.3, "mask": 0.5}
"""Minimum score of a pick where neither the user nor the model sets one."""

Purpose = Literal["averaging", "counting", "czii"]
"""What picks are for: subtomogram averaging, counting, or the metric of the CZII challenge."""


class PickConfig(Config):
    """Picking."""

    basic: ClassVar[tuple[str, ...] | None] = (
        "species", "threshold", "purpose", "distance", "border", "max_count",
    )  # fmt: skip
    renamed: ClassVar[dict[str, str]] = {"outvoted": "overlap_ratio"}

    species: tuple[str, ...] = ()
    """Species to pick, by default all: names of species of the model, or NAME=RADIUS with a radius in Å, such
    as ribosome=125, for what the model detects at about this size."""
    by_contrast: bool = False
    """With NAME=RADIUS and a detector of any size: also rank by how much denser than its surroundings a place
    is. For compact dense particles such as ribosomes; hollow and small ones get lost."""
    method: Literal["auto", "mean-shift"] = "auto"
    """auto: peaks of heatmaps, connected regions of masks and label maps. mean-shift: clusters of the
    voxels of masks and label maps, as in DeepFinder; slower, needs the radii of the species."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Minimum score; by default that of the model, else 0.5 for masks and 0.3 for heatmaps."""
    purpose: Annotated[Purpose | None, tyro.conf.arg(name="for")] = None
    """Choose the threshold of each species in each tomogram by calibrated probabilities: averaging (expected
    precision 0.95), counting (highest expected F1) or czii (highest expected F-beta with beta = 4)."""
    distance: float | None = Field(default=None, ge=0)
    """Minimum distance between picks of a species in Å; by default the radius of the species in heatmaps,
    none in masks and label maps."""
    border: float | None = Field(default=None, ge=0)
    """Exclude picks whose center lies within this distance of the volume edge, in Å; by default half the
    radius of the species, since such boxes are cut and many are artifacts. 0 keeps all."""
    max_count: int | None = Field(default=None, ge=1)
    """Maximum number of picks per species, best first."""
    min_size: float = Field(default=0.1, ge=0)
    """Minimum size of a region, as a fraction of a sphere with the radius of the species."""
    exclusive: bool = True
    """In heatmaps: where picks of two species overlap (closer than the smaller radius), drop the weaker
    one."""
    overlap_ratio: float = Field(default=2.0, ge=1)
    """Drop the weaker of two overlapping picks if the ratio of their scores (over the thresholds) exceeds
    this; 1 always drops it."""
    split_touching: bool = True
    """Split connected regions at their necks into touching particles."""


class ControlConfig(Config):
    """False discoveries."""

    basic: ClassVar[tuple[str, ...] | None] = ("fdr", "curated", "halves")

    fdr: float | None = Field(default=None, gt=0, lt=1)
    """Keep the picks with at most this estimated false discovery rate, such as 0.05: by calibrated
    probabilities in tomograms like those of the training where more is found than in noise, else by picks in
    noise with the power spectrum of the tomogram."""
    curated: tuple[Path, ...] = ()
    """Lists of picks with a column `keep` (1 or yes, 0 or no) that recalibrate probabilities and
    thresholds."""
    halves: tuple[Path, Path] | None = None
    """Even and odd half tomogram, or folders of them, in which the picks are sought again."""
    noise_control: float = Field(default=0.125, ge=0, le=1)
    """Fraction of the tomogram that is also searched as noise (random phases, or half the difference of
    --halves), to show what the model finds in noise; 1 where --fdr needs decoys. 0 skips it."""

    @property
    def share(self) -> float:
        """Largest fraction of the tomogram that is also searched in noise."""
        return 1.0 if self.fdr is not None else self.noise_control


def check_cut(config: PickConfig, fdr: float | None = None) -> None:
    """Refuse more than one rule for the minimum score."""
    rules = {"--threshold": config.threshold, "--for": config.purpose, "--fdr": fdr}
    given = [option for option, value in rules.items() if value is not None]
    if len(given) > 1:
        message = f"is given with {given[1]}, and each of them chooses the minimum score"
        raise RequestError(given[0], message, "give one of them")


def check_calibrated(config: PickConfig, calibration: object) -> None:
    """Refuse a cut for a purpose where scores have no calibration."""
    if config.purpose is None or calibration is not None:
        return
    if config.by_contrast:
        message = "needs calibrated scores, and those of --by-contrast are not calibrated"
        remedy = "leave one of both out, give --threshold or --fdr, or --curated with your decisions"
    else:
        message = "needs calibrated scores, and this model has none"
        remedy = (
            "train the model again, give --threshold, or `cryovox find --curated LIST` with your decisions"
        )
    raise RequestError("--for", message, remedy)


def check_method(config: PickConfig, kind: str) -> None:
    """Refuse a method that does not fit the output of a network, "heatmap" or "mask"."""
    if config.method == "mean-shift" and kind == "heatmap":
        message = "mean-shift clusters the voxels of masks, and this model predicts heatmaps"
        raise RequestError("--method", message, "leave it out, or use a model that predicts masks")


def threshold_of(scores: ScoreMap, name: str, config: PickConfig) -> float:
    """Minimum score of a pick of one species: that of the user, of the model, or the default."""
    if config.threshold is not None:
        return config.threshold
    return scores.thresholds.get(name, THRESHOLDS[scores.kind])


class SuggestConfig(Config):
    """Selection."""

    renamed: ClassVar[dict[str, str]] = {"lowest": "min_score", "pool": "max_candidates"}

    count: int = Field(default=30, ge=1)
    """Number of locations to suggest."""
    min_score: float = Field(default=0.05, gt=0, le=1)
    """Minimum score of a candidate; half the threshold of its species, where that is lower."""
    balance: bool = True
    """Give every species at least half of an equal share."""
    max_candidates: int = Field(default=300, ge=1)
    """Maximum number of candidates per species and tomogram that are compared, the most uncertain first."""
    border: float | None = Field(default=None, ge=0)
    """Exclude candidates whose center lies within this distance of the volume edge, in Å; by default half the
    radius of the species. 0 keeps all."""
