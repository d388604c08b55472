"""Datasets: tomograms, their annotations and species."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cryovox.core.config import Contrast
from cryovox.core.particles import Species

Range = tuple[int, int]


class Box(BaseModel):
    """A region of a tomogram in voxels, half open on every axis; None is the full axis."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    z: Range | None = None
    y: Range | None = None
    x: Range | None = None

    def bounds(self, shape: tuple[int, int, int]) -> tuple[Range, Range, Range]:
        """((z0, z1), (y0, y1), (x0, x1)), clipped to the shape of the tomogram."""
        clipped = [
            (0, n) if r is None else (max(0, r[0]), min(n, r[1]))
            for r, n in zip((self.z, self.y, self.x), shape, strict=True)
        ]
        return clipped[0], clipped[1], clipped[2]


class Entry(BaseModel):
    """One tomogram of a dataset with its metadata and annotations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name; a tomogram may appear twice with different boxes under two names."""
    tomogram: Path
    """Path of the tomogram."""
    even: Path | None = None
    """Half tomogram of the even frames or tilts."""
    odd: Path | None = None
    """Half tomogram of the odd frames or tilts."""
    labels: Path | None = None
    """Label map."""
    particles: Path | None = None
    """Particle list."""
    mask: Path | None = None
    """Mask of the lamella, or of the annotated region: not 0 inside."""
    box: Box = Box()
    """Region to use, in voxels."""
    tilt_axis: Literal["y", "x"] = "y"
    """Tilt axis. For axis x, patches and tiles are rotated by 90 degrees for the network."""
    tilt_range: tuple[float, float] | None = None
    """Lowest and highest tilt in degrees, for information; training and segmentation do not use it."""
    contrast: Contrast = "auto"
    """Whether particles are dark or bright."""
    split: Literal["train", "val", "test"] = "train"
    """Split to which the entry belongs."""
    exhaustive: bool | dict[str, bool] = True
    """Whether all particles (of a species) in the region are annotated. If not, unlabeled voxels are ignored
    in the loss, not treated as background."""

    def is_exhaustive(self, species: str) -> bool:
        """Whether every particle of that species in the region is annotated."""
        if isinstance(self.exhaustive, dict):
            return self.exhaustive.get(species, True)
        return self.exhaustive


class Dataset(BaseModel):
    """Contents of `dataset.yaml`; paths are relative to its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voxel_size: float = Field(gt=0)
    """Voxel size in Å of all tomograms."""
    species: tuple[Species, ...] = ()
    """The species, in the order of the channels of a network."""
    entries: tuple[Entry, ...] = ()
    """The tomograms."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for what, values in (
            ("species name", [s.name for s in self.species]),
            ("species label", [str(s.label) for s in self.species]),
            ("entry name", [e.name for e in self.entries]),
        ):
            twice = sorted({v for v in values if values.count(v) > 1})
            if twice:
                raise ValueError(f"duplicate {what}: {', '.join(twice)}")
        return self

    def split(self, name: str) -> tuple[Entry, ...]:
        """The entries of one split."""
        return tuple(e for e in self.entries if e.split == name)
