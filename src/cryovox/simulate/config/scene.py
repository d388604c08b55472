"""What a scene holds, and how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from cryovox.core.config import Config

if TYPE_CHECKING:
    import numpy as np

Range = tuple[float, float]
"""Lowest and highest value of a uniform draw."""


class VesicleConfig(Config):
    """Closed bilayers."""

    count: int = Field(0, ge=0)
    """How many, as far as they find room."""
    most: int | None = Field(None, ge=0)
    """Where it is given, the number is drawn between `count` and this."""
    radius: Range = (250.0, 500.0)
    """Mean radius in Å, to the middle of the bilayer."""
    thickness: float = Field(40.0, gt=0)
    """From head groups to head groups in Å."""
    protein: float = Field(0.0, ge=0)
    """Mass of membrane proteins that are not drawn one by one, over that of the lipids; about 1 in cells.
    They are spread evenly over the bilayer and its surroundings."""
    bulge: float = Field(0.08, ge=0, le=0.2)
    """Deviation from a sphere over the radius: spherical harmonics of order 2 (an ellipsoid) and 3."""
    embedded: float | None = Field(None, ge=0)
    """Membrane proteins per µm²; none: as in sheets, `membrane_proteins` of the scene."""
    cut: bool = True
    """They may cross the faces of the volume in x and y, the centre being inside."""


class SheetConfig(Config):
    """Open bilayers that cross the slab from top to bottom."""

    count: int = Field(0, ge=0)
    """How many, as far as they find room."""
    curvature: Range = (0.0, 5e-4)
    """1 / radius in 1/Å; 0 is flat."""
    inclination: float = Field(35.0, ge=0, le=90)
    """Largest angle in degrees between the sheet's normal and the plane of the slab."""
    thickness: float = Field(40.0, gt=0)
    """From head groups to head groups in Å."""
    protein: float = Field(0.0, ge=0)
    """Mass of membrane proteins that are not drawn one by one, over that of the lipids; about 1 in cells.
    They are spread evenly over the bilayer and its surroundings."""


class FilamentConfig(Config):
    """Microtubules or thin filaments, lying in the plane of the slab."""

    count: int = Field(0, ge=0)
    """How many, as far as they find room."""
    kind: Literal["microtubule", "actin"] = "microtubule"
    """A tube of 13 protofilaments, 250 Å outside and 150 Å inside; or a double helix 70 Å thick."""
    length: Range = (3000.0, 10000.0)
    """Contour length in Å; what lies outside of the volume is not drawn."""
    persistence: float | None = Field(None, gt=0)
    """Persistence length in Å; none: 5.2 mm for microtubules and 17.7 µm for actin."""
    inclination: float = Field(5.0, ge=0, le=90)
    """Largest angle in degrees out of the plane of the slab."""
    potential: float = 3.0
    """Above ice, in volts."""


class FiducialConfig(Config):
    """Gold beads."""

    count: int = Field(0, ge=0)
    """How many, as far as they find room."""
    most: int | None = Field(None, ge=0)
    """Where it is given, the number is drawn between `count` and this."""
    diameter: Range = (80.0, 120.0)
    """In Å."""
    potential: float = 20.0
    """Above ice, in volts. The mean inner potential of gold is 25-30 V and that of ice about 4 V."""
    surface: bool = False
    """They touch the faces of the slab from within; else they lie anywhere in it."""


class IceConfig(Config):
    """Crystals of ice on the faces of the slab."""

    count: int = Field(0, ge=0)
    """How many."""
    radius: Range = (200.0, 500.0)
    """In Å."""
    potential: float = 4.5
    """Above the vacuum around the slab, in volts."""


class CarbonConfig(Config):
    """A film of carbon with the edge of a round hole in the field of view."""

    present: bool = False
    """Whether there is one."""
    thickness: Range = (120.0, 200.0)
    """In Å."""
    hole: Range = (6000.0, 10000.0)
    """Radius of the hole in Å."""
    cover: Range = (0.1, 0.3)
    """Part of the field that carbon covers."""
    potential: float = 5.0
    """Above ice, in volts."""
    texture: float = Field(1.0, ge=0)
    """Standard deviation from voxel to voxel, in volts."""


class SceneConfig(Config):
    """What a scene looks like, before any microscope."""

    shape: tuple[int, int, int] = (64, 128, 128)
    """Size in voxels (z, y, x)."""
    voxel_size: float = Field(10.0, gt=0)
    """Edge of a voxel in Å."""
    slab: float | None = Field(None, gt=0)
    """Thickness of the sample in Å; particles lie inside; none: the whole volume."""
    slab_centre: float | None = None
    """z of its middle in Å, 0 being the centre of the first voxel; none: the middle of the volume."""
    slab_tilt: tuple[float, float] = (0.0, 0.0)
    """Tilt of the sample in degrees, about x and then about y."""
    counts: dict[str, int] | None = None
    """Particles of each species, as far as they find room."""
    occupancy: float | None = Field(None, ge=0, lt=0.6)
    """Part of the slab that particles fill; reached with `species`, after `counts`."""
    species: dict[str, float] | None = None
    """How often each species is drawn, in numbers, for `occupancy` and `membrane_proteins`; none: alike."""
    gap: int = Field(1, ge=0, le=8)
    """Voxels that stay free around a particle."""
    cut: bool = False
    """Particles may cross the faces of the volume in x and y, their centres being inside."""
    vesicles: VesicleConfig = VesicleConfig()
    """Closed bilayers."""
    sheets: SheetConfig = SheetConfig()
    """Open bilayers."""
    membrane_proteins: float = Field(0.0, ge=0)
    """Per µm² of bilayer; drawn from the species that have a membrane axis."""
    filaments: FilamentConfig = FilamentConfig()
    """Microtubules or thin filaments."""
    fiducials: FiducialConfig = FiducialConfig()
    """Gold beads."""
    ice: IceConfig = IceConfig()
    """Crystalline contamination."""
    carbon: CarbonConfig = CarbonConfig()
    """Film at the edge of a hole."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if min(self.shape) < 1:
            raise ValueError(f"shape is at least one voxel along each axis, found {self.shape}")
        if any(part.most is not None and part.most < part.count for part in (self.vesicles, self.fiducials)):
            raise ValueError("most is not below count")
        if self.slab is None and any(self.slab_tilt):
            raise ValueError("slab_tilt needs a slab")
        if any(n < 0 for n in (self.counts or {}).values()):
            raise ValueError("counts are not negative")
        if any(weight < 0 for weight in (self.species or {}).values()):
            raise ValueError("weights of species are not negative")
        return self

    def settled(self, rng: np.random.Generator) -> SceneConfig:
        """The same with numbers in place of ranges of numbers."""
        drawn = {
            name: part.model_copy(
                update={"count": int(rng.integers(part.count, part.most + 1)), "most": None}
            )
            for name, part in (("vesicles", self.vesicles), ("fiducials", self.fiducials))
            if part.most is not None
        }
        return self.model_copy(update=drawn)
