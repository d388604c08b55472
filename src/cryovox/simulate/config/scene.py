"""Settings of the sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cryovox.core.config import Config

if TYPE_CHECKING:
    import numpy as np

Range = tuple[float, float]
"""Minimum and maximum of a uniform draw."""


class VesicleConfig(Config):
    """Vesicles."""

    basic: ClassVar[tuple[str, ...] | None] = ()
    renamed: ClassVar[dict[str, str]] = {
        "most": "max_count",
        "embedded": "membrane_proteins",
        "protein": "protein_mass",
    }

    count: int = Field(0, ge=0)
    """Number of vesicles, as far as they fit."""
    max_count: int | None = Field(None, ge=0)
    """Draw the number between `count` and this."""
    radius: Range = (250.0, 500.0)
    """Range of the mean radius in Å, to the middle of the bilayer."""
    thickness: float = Field(40.0, gt=0)
    """Thickness of the bilayer in Å, between the head groups."""
    protein_mass: float = Field(0.0, ge=0)
    """Mass of membrane proteins that are not modeled one by one, relative to that of the lipids; about 1 in
    cells. It is spread evenly over the bilayer and its surroundings."""
    bulge: float = Field(0.08, ge=0, le=0.2)
    """Deviation from a sphere relative to the radius."""
    membrane_proteins: float | None = Field(None, ge=0)
    """Membrane proteins per µm²; by default `membrane_proteins` of the scene."""
    cut: bool = True
    """Allow vesicles to cross the faces of the volume in x and y."""


class SheetConfig(Config):
    """Membrane sheets."""

    basic: ClassVar[tuple[str, ...] | None] = ()
    renamed: ClassVar[dict[str, str]] = {"protein": "protein_mass"}

    count: int = Field(0, ge=0)
    """Number of sheets, as far as they fit."""
    curvature: Range = (0.0, 5e-4)
    """Range of the curvature in 1/Å; 0 is flat."""
    inclination: float = Field(35.0, ge=0, le=90)
    """Maximum angle in degrees between the normal of the sheet and the plane of the sample."""
    thickness: float = Field(40.0, gt=0)
    """Thickness of the bilayer in Å, between the head groups."""
    protein_mass: float = Field(0.0, ge=0)
    """Mass of membrane proteins that are not modeled one by one, relative to that of the lipids; about 1 in
    cells. It is spread evenly over the bilayer and its surroundings."""


class FilamentConfig(Config):
    """Filaments."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    count: int = Field(0, ge=0)
    """Number of filaments, as far as they fit."""
    kind: Literal["microtubule", "actin"] = "microtubule"
    """Microtubule of 13 protofilaments, or actin."""
    length: Range = (3000.0, 10000.0)
    """Range of the contour length in Å."""
    persistence: float | None = Field(None, gt=0)
    """Persistence length in Å; by default 5.2 mm for microtubules and 17.7 µm for actin."""
    inclination: float = Field(5.0, ge=0, le=90)
    """Maximum angle in degrees out of the plane of the sample."""
    potential: float = 3.0
    """Potential above that of ice, in volts."""


class FiducialConfig(Config):
    """Gold fiducials."""

    basic: ClassVar[tuple[str, ...] | None] = ()
    renamed: ClassVar[dict[str, str]] = {"most": "max_count"}

    count: int = Field(0, ge=0)
    """Number of gold beads, as far as they fit."""
    max_count: int | None = Field(None, ge=0)
    """Draw the number between `count` and this."""
    diameter: Range = (80.0, 120.0)
    """Range of the diameter in Å."""
    potential: float = 20.0
    """Potential above that of ice, in volts; that of gold is 25-30 V, that of ice about 4 V."""
    surface: bool = False
    """Place beads at the faces of the sample; otherwise anywhere in it."""


class IceConfig(Config):
    """Crystalline ice."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    count: int = Field(0, ge=0)
    """Number of ice crystals."""
    radius: Range = (200.0, 500.0)
    """Range of the radius in Å."""
    potential: float = 4.5
    """Potential above that of the vacuum, in volts."""


class CarbonConfig(Config):
    """Carbon film."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    present: bool = False
    """Add a carbon film with the edge of a round hole."""
    thickness: Range = (120.0, 200.0)
    """Range of the thickness in Å."""
    hole: Range = (6000.0, 10000.0)
    """Range of the radius of the hole in Å."""
    cover: Range = (0.1, 0.3)
    """Range of the fraction of the field that is covered by carbon."""
    potential: float = 5.0
    """Potential above that of ice, in volts."""
    texture: float = Field(1.0, ge=0)
    """Standard deviation of the potential between voxels, in volts."""


class SceneConfig(Config):
    """Sample."""

    basic: ClassVar[tuple[str, ...] | None] = ("shape", "voxel_size", "counts", "occupancy")
    renamed: ClassVar[dict[str, str]] = {"slab_centre": "slab_center"}

    shape: tuple[int, int, int] = (64, 128, 128)
    """Size in voxels (z, y, x)."""
    voxel_size: float = Field(10.0, gt=0)
    """Voxel size in Å."""
    slab: float | None = Field(None, gt=0)
    """Thickness of the sample in Å; by default the whole volume."""
    slab_center: float | None = None
    """z of the middle of the sample in Å, from the center of the first voxel; by default the middle of the
    volume."""
    slab_tilt: tuple[float, float] = (0.0, 0.0)
    """Tilt of the sample in degrees, about x and then about y."""
    counts: dict[str, int] | None = None
    """Number of particles of each species, as far as they fit."""
    occupancy: float | None = Field(None, ge=0, lt=0.6)
    """Fraction of the sample volume filled by particles, filled with `species` after `counts`."""
    species: dict[str, float] | None = None
    """Relative frequencies of the species for `occupancy` and `membrane_proteins`; equal by default."""
    gap: int = Field(1, ge=0, le=8)
    """Minimum gap between particles in voxels."""
    cut: bool = False
    """Allow particles to cross the faces of the volume in x and y."""
    vesicles: VesicleConfig = VesicleConfig()
    """Closed bilayers."""
    sheets: SheetConfig = SheetConfig()
    """Open bilayers."""
    membrane_proteins: float = Field(0.0, ge=0)
    """Membrane proteins per µm² of bilayer, from the species with a membrane axis."""
    filaments: FilamentConfig = FilamentConfig()
    """Microtubules or thin filaments."""
    fiducials: FiducialConfig = FiducialConfig()
    """Gold beads."""
    ice: IceConfig = IceConfig()
    """Crystalline contamination."""
    carbon: CarbonConfig = CarbonConfig()
    """Film at the edge of a hole."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if min(self.shape) < 1:
            raise ValueError(f"shape is at least one voxel along each axis, got {self.shape}")
        if any(
            part.max_count is not None and part.max_count < part.count
            for part in (self.vesicles, self.fiducials)
        ):
            raise ValueError("max_count is less than count")
        if self.slab is None and any(self.slab_tilt):
            raise ValueError("slab_tilt needs a slab")
        if any(n < 0 for n in (self.counts or {}).values()):
            raise ValueError("counts are not negative")
        if any(weight < 0 for weight in (self.species or {}).values()):
            raise ValueError("weights of species are not negative")
        return self

    def draw_counts(self, rng: np.random.Generator) -> SceneConfig:
        """Replace ranges of counts (`count` to `max_count`) by drawn numbers."""
        drawn = {
            name: part.model_copy(
                update={"count": int(rng.integers(part.count, part.max_count + 1)), "max_count": None}
            )
            for name, part in (("vesicles", self.vesicles), ("fiducials", self.fiducials))
            if part.max_count is not None
        }
        return self.model_copy(update=drawn)
