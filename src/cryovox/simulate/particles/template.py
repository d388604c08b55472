"""The template of a particle: its density in the reference frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Template:
    """A particle species in its reference frame.

    Attributes
    ----------
    name
        Species.
    density : (n, n, n) float32
        Electrostatic potential above the solvent in volts; n is odd, and the faces are 0. The center of mass
        is the center of voxel (n // 2, n // 2, n // 2).
    voxel_size
        Å.
    support : (n, n, n) bool
        Voxels of the molecule: they are labeled and exclude other particles.
    radius
        Radius in Å of the smallest sphere around the center that contains the support.
    mass
        kDa.
    source
        "built-in", or the file.
    axis : (3,) or None
        For a membrane protein, the unit vector (x, y, z) in the reference frame that points along the
        membrane normal, from the inside of a vesicle to the outside.
    height
        Distance in Å along the axis from the middle of the bilayer to the center of the particle.
    facts
        Further metadata: assembly, chains, symmetry, resolution.
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
