"""From a set of beads and a point group to the density of a particle.

A bead is a ball of protein. Balls that overlap melt into one body of even density (their union), which
is blurred to the resolution asked for and scaled so that its integral is that of its mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryovox.simulate.particles.template import Template

Bead = tuple[float, float, float, float]
"""x, y, z of its centre and its radius, in Å."""

PROTEIN_VOLUME = 1.21
"""Å³ per Da: partial specific volume 0.73 mL/g (Harpaz, Gerstein & Chothia, Structure 2 (1994) 641)."""
PROTEIN_CONTRAST = 3.37
"""Volts above vitreous ice inside compact protein at low resolution: what `density.from_atoms` gives for
proteins, 4.08 V·Å³ per Da, over their volume. Stand-ins and structures then go together in a scene."""
RNA_VOLUME = 0.91
"""Å³ per Da: partial specific volume 0.55 mL/g (Voss & Gerstein, J. Mol. Biol. 346 (2005) 477)."""
RNA_CONTRAST = 4.6
"""Volts above vitreous ice: 8.55 V·Å³ per Da by the same scattering factors for a mean nucleotide, less the
ice that it displaces."""

_FINE = 2.5
"""Largest edge in Å of the grid on which the union of the balls is drawn, while it has no more than..."""
_PARTS = 6
"""... so many parts along an edge of a voxel."""


@dataclass(frozen=True)
class BeadModel:
    """How to build one species.

    Attributes
    ----------
    mass
        kDa.
    dimensions
        Published extent in Å along x, y and z of the reference frame.
    group
        Point group of the whole: "C3", "D2", "T", "O", "I"; the main axis is z.
    beads
        All beads of the particle, copies by symmetry included (see `symmetry_copies`).
    source
        Where mass and dimensions come from.
    aliases
        Identifiers and other names that mean this species.
    rna
        Share of the mass that is RNA.
    membrane
        It sits in a bilayer whose middle is z = 0 of the bead frame and whose outside is at z > 0.
    traits
        Of "hollow", "concave", "asymmetric" (few or no symmetries) those that apply.
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
        """Of the molecule without solvent, in Å³."""
        return 1e3 * self.mass * ((1 - self.rna) * PROTEIN_VOLUME + self.rna * RNA_VOLUME)

    @property
    def integral(self) -> float:
        """Of the potential above ice, in V·Å³."""
        protein = (1 - self.rna) * PROTEIN_VOLUME * PROTEIN_CONTRAST
        return 1e3 * self.mass * (protein + self.rna * RNA_VOLUME * RNA_CONTRAST)


@cache
def point_group(name: str) -> NDArray[np.float64]:
    """Rotations of a point group, identity included: (k, 3, 3), acting on (x, y, z)."""
    turns = np.asarray(Rotation.create_group(name).as_matrix(), np.float64)
    turns.setflags(write=False)
    return turns


def symmetry_copies(group: str, *beads: Bead) -> tuple[Bead, ...]:
    """All copies of the beads under a point group."""
    made = np.array([[*(rotation @ bead[:3]), bead[3]] for bead in beads for rotation in point_group(group)])
    _, first = np.unique(made.round(3), axis=0, return_index=True)
    return tuple((float(x), float(y), float(z), float(r)) for x, y, z, r in made[np.sort(first)])


def helix_copies(count: int, rise: float, *beads: Bead) -> tuple[Bead, ...]:
    """Copies on one turn of a right-handed helix about z that climb by *rise* Å each."""
    made: list[Bead] = []
    for step in range(count):
        c, s = np.cos(2 * np.pi * step / count), np.sin(2 * np.pi * step / count)
        up = rise * (step - (count - 1) / 2)
        made += [(float(c * x - s * y), float(s * x + c * y), z + up, r) for x, y, z, r in beads]
    return tuple(made)


def rasterise(
    name: str, blueprint: BeadModel, voxel_size: float, resolution: float | None = None
) -> Template:
    """Draw a blueprint on a grid.

    Parameters
    ----------
    voxel_size
        Å.
    resolution
        In Å, where the Gaussian low-pass has fallen to 1/e; two voxels by default.

    Returns
    -------
    Template
        Its centre of mass is the central voxel's centre to 1e-3 voxels.
    """
    resolution = 2 * voxel_size if resolution is None else resolution
    sigma = resolution / (np.pi * np.sqrt(2))
    parts = min(_PARTS, int(np.ceil(voxel_size / _FINE)))
    n = _odd_box(blueprint.beads, voxel_size, sigma)
    body, centre = _centred(np.array(blueprint.beads), n, parts, voxel_size)
    filled = _bin(body, parts)
    soft = _bin(ndimage.gaussian_filter(body, sigma * parts / voxel_size, truncate=3.0), parts)
    density = soft * (blueprint.integral / (float(soft.sum()) * voxel_size**3))
    support = filled >= 0.5 * min(1.0, float(filled.max()))
    return Template(
        name=name,
        density=density.astype(np.float32),
        voxel_size=voxel_size,
        support=support,
        radius=_radius(support) * voxel_size,
        mass=blueprint.mass,
        axis=np.array([0.0, 0.0, 1.0]) if blueprint.membrane else None,
        height=float(centre[2]) if blueprint.membrane else 0.0,
        facts={"symmetry": blueprint.group, "resolution": resolution, "source": blueprint.source},
    )


def _odd_box(beads: tuple[Bead, ...], voxel_size: float, sigma: float) -> int:
    """Edge in voxels that keeps the blurred beads off the faces, wherever their common centre lies."""
    at = np.array(beads)
    middle = (at[:, :3] * at[:, 3:] ** 3).sum(0) / (at[:, 3] ** 3).sum()
    reach = np.abs(at[:, :3] - middle).max(1) + at[:, 3]
    return 2 * int(np.ceil((reach.max() + 3 * sigma) / voxel_size + 2)) + 1


def _centred(
    beads: NDArray[np.float64], n: int, parts: int, voxel_size: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The union of the balls about its centre of mass, and where that lies in the bead frame (x, y, z)."""
    centre = np.zeros(3)
    weight = beads[:, 3:] ** 3
    step = (beads[:, :3] * weight).sum(0) / weight.sum()
    for _ in range(8):
        centre += step
        body = _union(beads - [*centre, 0.0], n * parts, voxel_size / parts)
        step = _mass_centre(body) * voxel_size / parts
        if np.abs(step).max() < 5e-4 * voxel_size:
            break
    return body, centre


def _union(beads: NDArray[np.float64], n: int, edge: float) -> NDArray[np.float32]:
    """Which share of each voxel is inside a ball; the origin is the middle of the cube."""
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


def _mass_centre(body: NDArray[np.float32]) -> NDArray[np.float64]:
    """In voxels from the middle of the cube, (x, y, z)."""
    axis = np.arange(body.shape[0]) - (body.shape[0] - 1) / 2
    sums = [body.sum(axis=drop, dtype=np.float64) for drop in ((0, 1), (0, 2), (1, 2))]
    return np.array([(line * axis).sum() / line.sum() for line in sums])


def _bin(body: NDArray[np.float32], parts: int) -> NDArray[np.float64]:
    n = body.shape[0] // parts
    return body.reshape(n, parts, n, parts, n, parts).mean(axis=(1, 3, 5), dtype=np.float64)


def _radius(support: NDArray[np.bool_]) -> float:
    """From the central voxel to the far edge of the last one, in voxels."""
    at = np.argwhere(support) - support.shape[0] // 2
    return float(np.sqrt((at**2).sum(1).max())) + 0.5
