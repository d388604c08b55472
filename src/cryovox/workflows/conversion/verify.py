"""Verification of a converted particle list: against the file that was written, and against the density."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryovox.core.errors import RequestError
from cryovox.core.on_density import MIN_PARTICLES, Placement, placement
from cryovox.core.particles import Particles
from cryovox.formats import ending, read_volume
from cryovox.formats.tomogram_names import plain_name
from cryovox.workflows.inputs import expand

TOLERANCE, ANGLE_TOLERANCE = 2e-3, 2e-3
"""Largest difference in Å and in degrees of a particle that is read back, for formats in single precision."""


def difference(particles: Particles, stored: Particles, target: Path) -> str:
    """Largest difference in position and angle from the list that was written, as text.

    Particles are compared in order, or with the nearest one, since some formats sort them by species. A list
    that is not the same is an error.
    """
    problem = RequestError(target, "does not read back as it was written", "report this, with both files")
    if len(particles) != len(stored):
        raise problem
    if not len(particles):
        return "none, as there are no particles"
    distances = np.linalg.norm(particles.positions - stored.positions, axis=1)
    nearest: NDArray[np.intp] = np.arange(len(particles))
    if not (distances < TOLERANCE).all():
        distances, nearest = cKDTree(stored.positions).query(particles.positions)
    if not (distances < TOLERANCE).all():
        raise problem
    if not (stored.species[nearest] == particles.species).all():
        message = "reads back with other species, which this format does not store"
        remedy = "write one per species: `cryovox particles filter LIST --species NAME --out NAME.json`"
        raise RequestError(target, message, remedy)
    text = f"{distances.max():.1e} Å"
    if particles.rotations is None:
        return text
    if stored.rotations is None:
        return f"{text}; angles are not stored"
    turned = Rotation.from_matrix(stored.rotations[nearest] @ np.swapaxes(particles.rotations, 1, 2))
    angle = float(np.degrees(turned.magnitude()).max())
    if angle > ANGLE_TOLERANCE:
        raise problem
    return f"{text}, {angle:.1e} degrees"


def density_lines(particles: Particles, tomogram: Path | None) -> list[str]:
    """Whether particles lie on density, one line or two for each tomogram."""
    if tomogram is None or ending(tomogram) == ".star":
        return []
    tomograms = expand([tomogram])
    if len(tomograms) == 1:
        (name, path), *_ = tomograms.items()
        return _lines(name, placement(particles.positions, read_volume(path)))
    lines = []
    sources = [] if particles.tomograms is None else particles.tomograms.tolist()
    names = np.array([plain_name(source) for source in sources])
    for name, path in tomograms.items():
        rows = np.flatnonzero(names == plain_name(name))
        if len(rows):
            lines += _lines(name, placement(particles.positions[rows], read_volume(path)))
    return lines


def _lines(name: str, result: Placement | None) -> list[str]:
    if result is None:
        return [f"density of {name}: not compared, fewer than {MIN_PARTICLES} particles lie inside"]
    kind = "on density" if result.is_significant else "not on density"
    sign = "dark" if result.z < 0 else "bright"
    lines = [
        f"density of {name}: {result.count} particles are {kind} (z = {abs(result.z):.1f} against shuffled "
        f"positions{f', {sign}' if result.is_significant else ''})"
    ]
    if result.alternative is None:
        lines.append("    no flip, shift, center, binning or order of axes fits significantly better")
    else:
        other = result.alternative
        remedy = f": try {other.remedy}" if other.remedy else ""
        lines.append(
            f"    {other.name} would put them on more density (z = {abs(result.alternative_z):.1f}, "
            f"paired t = {result.t:.1f}){remedy}"
        )
    return lines
