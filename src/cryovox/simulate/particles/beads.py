"""Bead models of particles: spheres of protein, copied by a point group.

The density is the union of the spheres, blurred to the resolution and scaled to the integral of the mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryovox.simulate.particles.support import PROTEIN_VOLUME, support_radius
from cryovox.simulate.particles.template import Template

Bead = tuple[float, float, float, float]
"""x, y, z of the center, and radius, in Å."""

PROTEIN_CONTRAST = 3.37
"""Volts above vitreous ice within compact protein at low resolution: 4.08 V·Å³ per Da from
`density.from_atoms`, divided by the volume. Bead models and structures are then on the same scale."""
RNA_VOLUME = 0.91
"""Å³ per Da: partial specific volume 0.55 mL/g (Voss & Gerstein, J. Mol. Biol. 346 (2005) 477)."""
RNA_CONTRAST = 4.6
"""Volts above vitreous ice: 8.55 V·Å³ per Da by the same scattering factors for a mean nucleotide, less the
displaced ice."""

_MAX_STEP = 2.5
"""Maximum step in Å of the grid for the union of the spheres."""
_MAX_OVERSAMPLING = 6
"""Maximum number of steps per voxel."""


@dataclass(frozen=True)
class BeadModel:
    """Bead model of a species.

    Attributes
    ----------
    mass
        kDa.
    dimensions
        Published dimensions in Å along x, y and z of the reference frame.
    group
        Point group: "C3", "D2", "T", "O", "I"; the main axis is z.
    beads
        All beads, including copies by symmetry (see `symmetry_copies`).
    source
        Reference of mass and dimensions.
    aliases
        Identifiers and other names.
    rna
        Fraction of the mass that is RNA.
    membrane
        Membrane protein: the middle of the bilayer is z = 0 of the bead frame, the outside is z > 0.
    traits
        Any of "hollow", "concave", "asymmetric" (few or no symmetries).
    """

    mass: float
    dimensions: tuple[float, float, float]
    group: str
    beads: tuple[Bead, ...]
    source: str
    aliases: tuple[str, ...] = ()
    rna: float = 0.0
    membrane: bool = False
    traits: frozenset[str] = frozenset()

    @property
    def volume(self) -> float:
        """Volume of the molecule without solvent, in Å³."""
        return 1e3 * self.mass * ((1 - self.rna) * PROTEIN_VOLUME + self.rna * RNA_VOLUME)

    @property
    def integral(self) -> float:
        """Integral of the potential above ice, in V·Å³."""
        protein = (1 - self.rna) * PROTEIN_VOLUME * PROTEIN_CONTRAST
        return 1e3 * self.mass * (protein + self.rna * RNA_VOLUME * RNA_CONTRAST)


@cache
def point_group(name: str) -> NDArray[np.float64]:
    """Rotations of a point group, identity included: (k, 3, 3), acting on (x, y, z)."""
    rotations = np.asarray(Rotation.create_group(name).as_matrix(), np.float64)
    rotations.setflags(write=False)
    return rotations


def symmetry_copies(group: str, *beads: Bead) -> tuple[Bead, ...]:
    """Copies of the beads under a point group, without duplicates."""
    bead_array = np.array(
        [[*(rotation @ bead[:3]), bead[3]] for bead in beads for rotation in point_group(group)]
    )
    _, first = np.unique(bead_array.round(3), axis=0, return_index=True)
    return tuple((float(x), float(y), float(z), float(r)) for x, y, z, r in bead_array[np.sort(first)])


def helix_copies(count: int, rise: float, *beads: Bead) -> tuple[Bead, ...]:
    """Copies on one turn of a right-handed helix about z, each *rise* Å above the last."""
    copies: list[Bead] = []
    for step in range(count):
        c, s = np.cos(2 * np.pi * step / count), np.sin(2 * np.pi * step / count)
        up = rise * (step - (count - 1) / 2)
        copies += [(float(c * x - s * y), float(s * x + c * y), z + up, r) for x, y, z, r in beads]
    return tuple(copies)


def rasterize(name: str, model: BeadModel, voxel_size: float, resolution: float | None = None) -> Template:
    """Sample a bead model on a grid.

    Parameters
    ----------
    voxel_size
        Voxel size in Å.
    resolution
        Resolution in Å at which the Gaussian low-pass filter falls to 1/e; by default two voxels.

    Returns
    -------
    Template
        Centered on its center of mass to 1e-3 voxels.
    """
    resolution = 2 * voxel_size if resolution is None else resolution
    sigma = resolution / (np.pi * np.sqrt(2))
    oversampling = min(_MAX_OVERSAMPLING, int(np.ceil(voxel_size / _MAX_STEP)))
    n = _box_size(model.beads, voxel_size, sigma)
    body, center = _centered_union(np.array(model.beads), n, oversampling, voxel_size)
    fraction_filled = _bin(body, oversampling)
    smooth = ndimage.gaussian_filter(body, sigma * oversampling / voxel_size, truncate=3.0)
    blurred = _bin(smooth, oversampling)
    density = blurred * (model.integral / (float(blurred.sum()) * voxel_size**3))
    support = fraction_filled >= 0.5 * min(1.0, float(fraction_filled.max()))
    return Template(
        name=name,
        density=density.astype(np.float32),
        voxel_size=voxel_size,
        support=support,
        radius=support_radius(support) * voxel_size,
        mass=model.mass,
        axis=np.array([0.0, 0.0, 1.0]) if model.membrane else None,
        height=float(center[2]) if model.membrane else 0.0,
        facts={"symmetry": model.group, "resolution": resolution, "source": model.source},
    )


def _box_size(beads: tuple[Bead, ...], voxel_size: float, sigma: float) -> int:
    """Odd box size in voxels that contains the blurred beads."""
    at = np.array(beads)
    middle = (at[:, :3] * at[:, 3:] ** 3).sum(0) / (at[:, 3] ** 3).sum()
    reach = np.abs(at[:, :3] - middle).max(1) + at[:, 3]
    return 2 * int(np.ceil((reach.max() + 3 * sigma) / voxel_size + 2)) + 1


def _centered_union(
    beads: NDArray[np.float64], n: int, oversampling: int, voxel_size: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Union of the spheres around its center of mass, and that center (x, y, z) in the bead frame."""
    center = np.zeros(3)
    weight = beads[:, 3:] ** 3
    step = (beads[:, :3] * weight).sum(0) / weight.sum()
    for _ in range(8):
        center += step
        body = _union(beads - [*center, 0.0], n * oversampling, voxel_size / oversampling)
        step = _mass_center(body) * voxel_size / oversampling
        if np.abs(step).max() < 5e-4 * voxel_size:
            break
    return body, center


def _union(beads: NDArray[np.float64], n: int, edge: float) -> NDArray[np.float32]:
    """Fraction of each voxel within a sphere; the origin is the middle of the cube."""
    body = np.zeros((n, n, n), np.float32)
    axis = (np.arange(n) - (n - 1) / 2) * edge
    for x, y, z, radius in beads:
        cut = [slice(*np.searchsorted(axis, (c - radius - edge, c + radius + edge))) for c in (z, y, x)]
        dz, dy, dx = np.ix_(*(axis[s] - c for s, c in zip(cut, (z, y, x), strict=True)))
        depth = radius - np.sqrt(dz**2 + dy**2 + dx**2)
        inside = np.clip(0.5 + depth / edge, 0, 1).astype(np.float32)
        window = body[tuple(cut)]
        np.maximum(window, inside, out=window)
    return body


def _mass_center(body: NDArray[np.float32]) -> NDArray[np.float64]:
    """Center of mass (x, y, z) in voxels from the middle of the cube."""
    axis = np.arange(body.shape[0]) - (body.shape[0] - 1) / 2
    sums = [body.sum(axis=drop, dtype=np.float64) for drop in ((0, 1), (0, 2), (1, 2))]
    return np.array([(line * axis).sum() / line.sum() for line in sums])


def _bin(body: NDArray[np.float32], oversampling: int) -> NDArray[np.float64]:
    n = body.shape[0] // oversampling
    blocks = body.reshape(n, oversampling, n, oversampling, n, oversampling)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float64)
