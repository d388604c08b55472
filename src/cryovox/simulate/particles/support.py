"""Support, radius and low-pass filter of templates from atoms and from maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from cryovox.simulate.particles.template import Template

PROTEIN_VOLUME = 1.21
"""Å³ per Da: partial specific volume 0.73 mL/g (Harpaz, Gerstein & Chothia, Structure 2 (1994) 641)."""

_MIN_PIECE = 0.02
"""Minimum size of a connected piece of a support, relative to the largest."""
_CUTOFF_START = 0.9
"""Fraction of the Nyquist frequency at which the cosine edge begins."""


@dataclass(frozen=True)
class Molecule:
    """Global properties of a molecule.

    Attributes
    ----------
    mass
        kDa.
    volume
        Volume in Å³, without solvent.
    integral
        Integral of its potential above the solvent, in V·Å³.
    """

    mass: float
    volume: float
    integral: float


def low_pass(s: NDArray[np.float32], resolution: float, voxel_size: float) -> NDArray[np.float32]:
    """Low-pass filter at spatial frequencies *s* in 1/Å.

    A Gaussian that falls to 1/e at 1/*resolution* (none if it is 0), and a cosine edge that ends at the
    Nyquist frequency of *voxel_size*, against aliasing.
    """
    position = np.clip((2 * voxel_size * s - _CUTOFF_START) / (1 - _CUTOFF_START), 0, 1)
    return (np.exp(-((resolution * s) ** 2)) * (0.5 + 0.5 * np.cos(np.pi * position))).astype(np.float32)


def finish_template(
    name: str, density: NDArray[np.float32], voxel_size: float, molecule: Molecule, facts: dict[str, Any]
) -> Template:
    """Template of a centered density, with cleared faces and the integral of the molecule.

    The support consists of the densest voxels with the volume of the molecule, without small pieces.
    """
    for axis in range(3):
        faces = np.moveaxis(density, axis, 0)
        faces[0], faces[-1] = 0.0, 0.0
    density *= np.float32(molecule.integral / (density.sum(dtype=np.float64) * voxel_size**3))
    support = _densest(density, max(1, round(molecule.volume / voxel_size**3)))
    radius = support_radius(support) * voxel_size
    return Template(name, density, voxel_size, support, radius, molecule.mass, facts=facts)


def _densest(density: NDArray[np.float32], count: int) -> NDArray[np.bool_]:
    inside = density[1:-1, 1:-1, 1:-1]
    count = min(count, inside.size)
    level = np.partition(inside.ravel(), inside.size - count)[inside.size - count]
    mask = np.zeros(density.shape, bool)
    mask[1:-1, 1:-1, 1:-1] = (inside >= level) & (inside > 0)
    pieces = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept: NDArray[np.bool_] = (sizes >= _MIN_PIECE * sizes.max()) & (sizes > 0)
    return kept[pieces]


def support_radius(support: NDArray[np.bool_]) -> float:
    """Radius from the central voxel to the far edge of the outermost voxel, in voxels."""
    at = np.argwhere(support) - support.shape[0] // 2
    return float(np.sqrt((at**2).sum(1).max())) + 0.5
