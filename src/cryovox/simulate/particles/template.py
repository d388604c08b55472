"""What a scene is filled with: the density of one particle in its reference frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Template:
    """One particle species, ready to be placed.

    Attributes
    ----------
    name
        Name of the species.
    density : (n, n, n) float32
        Electrostatic potential above the solvent in volts, (z, y, x), n odd, 0 at the faces. The
        centre of mass is the centre of voxel (n // 2, n // 2, n // 2).
    voxel_size
        Edge of a voxel in Å.
    support : (n, n, n) bool
        The molecule's envelope: what is labelled, and what others may not enter.
    radius
        Of the smallest ball around the centre that holds the support, in Å.
    mass
        kDa.
    source
        Where it comes from: "built-in", or the file.
    axis : (3,) or None
        For a membrane protein, the unit vector (x, y, z) in the reference frame that points along the
        membrane normal, from the inside of a vesicle to the outside.
    height
        ... and the distance in Å along it from the middle of the bilayer to the particle's centre.
    facts
        What else is known: assembly, chains, symmetry, resolution.
    """

    name: str
    density: NDArray[np.float32]
    voxel_size: float
    support: NDArray[np.bool_]
    radius: float
    mass: float
    source: str = "built-in"
    axis: NDArray[np.float64] | None = None
    height: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = self.density.shape[0]
        if self.density.shape != (n, n, n) or n % 2 == 0 or self.support.shape != self.density.shape:
            raise ValueError(
                f"a template is an odd cube with a support of its shape, got density {self.density.shape} "
                f"and support {self.support.shape}"
            )
