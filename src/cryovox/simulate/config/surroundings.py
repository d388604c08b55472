"""Settings of what surrounds the particles of a simulated training box."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cryovox.core.config import Config
from cryovox.simulate.config.scene import Range


class SurroundingsConfig(Config):
    """Membranes, filaments, gold beads and ice crystals in training boxes; all of them are background."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    share: float = Field(0.0, ge=0, le=1)
    """Fraction of boxes with surroundings."""
    kind_share: float = Field(0.45, ge=0, le=1)
    """Probability of each of the five kinds in such a box."""
    sheets: int = Field(2, ge=0)
    """Maximum number of membranes that cross the box; at least one where they occur, as for all kinds."""
    vesicles: int = Field(3, ge=0)
    """Maximum number of vesicles."""
    filaments: int = Field(3, ge=0)
    """Maximum number of filaments, microtubules or actin."""
    beads: int = Field(5, ge=0)
    """Maximum number of gold beads."""
    crystals: int = Field(2, ge=0)
    """Maximum number of ice crystals."""
    thickness: Range = (34.0, 46.0)
    """Thickness of bilayers in Å, between the head groups."""
    protein_mass: Range = (0.0, 1.2)
    """Mass of the proteins in and on bilayers, relative to that of the lipids."""
    vesicle_radius: Range = (120.0, 240.0)
    """Radius of vesicles in Å; larger vesicles than the box holds are left out."""
    bead_diameter: Range = (40.0, 160.0)
    """Diameter of gold beads in Å."""
    bead_potential: Range = (12.0, 26.0)
    """Potential of gold above that of ice, in volts."""
    crystal_radius: Range = (80.0, 260.0)
    """Radius of ice crystals in Å."""
    crystal_potential: Range = (1.5, 4.5)
    """Potential of ice crystals above their surroundings, in volts."""
    shapes: int = Field(6, ge=1)
    """Shapes of vesicles and of crystals at each voxel size; each occurs in 24 orientations."""
    texture: Range = (0.0, 0.6)
    """Standard deviation between voxels of the potential of small molecules, in volts."""
