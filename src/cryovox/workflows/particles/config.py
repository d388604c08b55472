"""Settings of the commands for particle lists; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from cryovox.core.config import Config
from cryovox.workflows.config import Center, ConvertConfig, ParticleConvention


class ListConfig(Config):
    """Files."""

    basic: ClassVar[tuple[str, ...] | None] = ("convention",)

    voxel_size: float | None = Field(None, gt=0)
    """Voxel size in Å of coordinates in voxels; overrides that of the file and of the tomogram."""
    center: Center | None = None
    """Voxel from which RELION 5 counts: half (n / 2) or half-1 (n / 2 - 1); by default as in the file."""
    out_voxel_size: float | None = Field(None, gt=0)
    """Voxel size in Å of the coordinates in the output, for formats in voxels."""
    convention: ParticleConvention | None = None
    """Convention of the output, where an extension has several."""

    def to_convert(self) -> ConvertConfig:
        """The same as settings of a conversion."""
        return ConvertConfig(**self.model_dump())


class FilterConfig(Config):
    """Filters, in the order in which they apply."""

    only: tuple[str, ...] = ()
    """Keep particles of these tomograms; names may be patterns such as 'TS_0*'."""
    subset: Path | None = None
    """File with the names of tomograms whose particles are kept, as `cryovox report` saves it."""
    species: tuple[str, ...] = ()
    """Keep particles of these species."""
    min_score: float | None = None
    """Minimum score."""
    max_score: float | None = None
    """Maximum score."""
    border: float | None = Field(None, ge=0)
    """Minimum distance in Å from the faces of the volume."""
    mask: Path | None = None
    """Mask, or folder of masks named after the tomograms: adds the column distance_to_mask in Å, which is
    negative inside, and keeps the particles inside unless --mask-distance says otherwise."""
    mask_distance: tuple[float, float] | None = None
    """Lowest and highest distance_to_mask of a particle in Å."""
    membrane: Path | None = None
    """Mask of membranes, or folder of them: adds the column distance_to_membrane in Å, inf without membranes.
    `cryovox find --surroundings` writes such masks."""
    membrane_distance: tuple[float, float] | None = None
    """Lowest and highest distance_to_membrane of a particle in Å."""
    lamella: Path | None = None
    """Mask of the lamella, or folder of them: adds the column lamella_depth in Å below the closer of its two
    surfaces along z. `cryovox doctor --write-masks` writes such masks."""
    min_depth: float | None = None
    """Minimum lamella_depth in Å."""
    duplicates: float | None = Field(None, gt=0)
    """Of particles of one species closer than this in Å, keep the one with the highest score."""
    any_species: bool = False
    """With --duplicates: compare particles of different species as well."""
    neighbor_distance: float | None = Field(None, gt=0)
    """Add the columns nearest_neighbor in Å, and neighbors: the number of particles of the same species
    within this distance in Å."""
    min_neighbors: int | None = Field(None, ge=0)
    """Minimum number of neighbors."""
    max_neighbors: int | None = Field(None, ge=0)
    """Maximum number of neighbors."""
    max_count: int | None = Field(None, ge=1)
    """Maximum number of particles of each species and tomogram, best first."""

    @property
    def needs_positions(self) -> bool:
        """Whether a filter compares positions with a volume."""
        return any(x is not None for x in (self.border, self.mask, self.membrane, self.lamella))
