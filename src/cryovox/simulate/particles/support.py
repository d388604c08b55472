"""What templates from atoms and from maps have in common: support, radius, low-pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from cryovox.simulate.particles.template import Template

PROTEIN_VOLUME = 1.21
"""Å³ per Da: partial specific volume 0.73 mL/g (Harpaz, Gerstein & Chothia, Structure 2 (1994) 641)."""

_DUST = 0.02
"""A piece of a support below this share of its largest is no part of it."""
_EDGE = 0.9
"""Share of the Nyquist frequency from which on the cut to nothing begins."""


@dataclass(frozen=True)
class Molecule:
    """What is known of a molecule as a whole.

    Attributes
    ----------
    mass
        kDa.
    volume
        Å³, without solvent.
    integral
        Of its potential above the solvent, in V·Å³.
    """

    mass: float
    volume: float
    integral: float


def low_pass(s: NDArray[np.float32], resolution: float, voxel_size: float) -> NDArray[np.float32]:
    """Amplitude at spatial frequencies *s* in 1/Å.

    A Gaussian that has fallen to 1/e at 1/*resolution* (none where it is 0), and a soft cut that is 0
    from half of the sampling rate of *voxel_size* on, so that nothing is aliased.
    """
    reach = np.clip((2 * voxel_size * s - _EDGE) / (1 - _EDGE), 0, 1)
    return (np.exp(-((resolution * s) ** 2)) * (0.5 + 0.5 * np.cos(np.pi * reach))).astype(np.float32)


def finish_template(
    name: str, density: NDArray[np.float32], voxel_size: float, whole: Molecule, facts: dict[str, Any]
) -> Template:
    """Template of a centred density: the faces are cleared, the integral is set and the support is drawn.

    The support is the densest part whose volume is that of the molecule, less what is not connected.
    """
    for axis in range(3):
        faces = np.moveaxis(density, axis, 0)
        faces[0], faces[-1] = 0.0, 0.0
    density *= np.float32(whole.integral / (density.sum(dtype=np.float64) * voxel_size**3))
    support = _densest(density, max(1, round(whole.volume / voxel_size**3)))
    at = np.argwhere(support) - density.shape[0] // 2
    radius = float(np.sqrt((at**2).sum(axis=1).max())) + 0.5
    return Template(name, density, voxel_size, support, radius * voxel_size, whole.mass, facts=facts)


def _densest(density: NDArray[np.float32], count: int) -> NDArray[np.bool_]:
    inside = density[1:-1, 1:-1, 1:-1]
    count = min(count, inside.size)
    level = np.partition(inside.ravel(), inside.size - count)[inside.size - count]
    mask = np.zeros(density.shape, bool)
    mask[1:-1, 1:-1, 1:-1] = (inside >= level) & (inside > 0)
    pieces = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept: NDArray[np.bool_] = (sizes >= _DUST * sizes.max()) & (sizes > 0)
    return kept[pieces]
