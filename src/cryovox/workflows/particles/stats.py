"""Counts and distances of particle lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.particles import Particles
from cryovox.formats import is_particles
from cryovox.formats.particles import manifest
from cryovox.formats.particles.manifest import PicksManifest
from cryovox.picking.surroundings import groups, nearest_neighbors
from cryovox.workflows.inputs import expand

COLUMNS = ("tomogram", "species", "count", "score", "nearest (Å)", "median (Å)")
"""Columns of the table: score is the median, nearest and median are distances of nearest neighbors."""


def statistics(particles: Particles, name: str) -> list[dict[str, Any]]:
    """Rows by tomogram and species, and over all tomograms where there are several.

    Parameters
    ----------
    particles
        Particles.
    name
        Tomogram of particles that name none.
    """
    distances = nearest_neighbors(particles)
    rows = []
    for index in groups(particles):
        source = name if particles.tomograms is None else str(particles.tomograms[index[0]])
        rows.append(_row(particles, distances, index, source))
    if len({row["tomogram"] for row in rows}) > 1:
        for kind in np.unique(particles.species):
            rows.append(_row(particles, distances, np.flatnonzero(particles.species == kind), "all"))
    return rows


def manifests_of(sources: Sequence[Path]) -> dict[str, PicksManifest]:
    """Manifests of lists that have one, by list."""
    files = expand(sources, is_particles).values()
    known = {str(path): manifest.read(path) for path in files}
    return {name: own for name, own in known.items() if own is not None}


def manifest_lines(manifests: Mapping[str, PicksManifest]) -> list[str]:
    """What manifests say, one line for each list."""
    lines = []
    for name, own in manifests.items():
        sizes = sorted({f"{extent.voxel_size:g} Å" for extent in own.tomograms.values()})
        voxels = f", voxels of {', '.join(sizes)}" if sizes else ""
        kind = "measured" if own.orientations == "measured" else "not measured (identity)"
        thresholds = ", ".join(f"{kind} {value:g}" for kind, value in own.origin.thresholds.items())
        source = f", by {own.origin.model}" if own.origin.model else ""
        least = f", thresholds: {thresholds}" if thresholds else ""
        lines.append(f"{name}: orientations {kind}{voxels}{source}{least}")
    return lines


def _row(particles: Particles, distances: Any, index: Any, source: str) -> dict[str, Any]:
    apart = distances[index][np.isfinite(distances[index])]
    return {
        "tomogram": source,
        "species": str(particles.species[index[0]]),
        "count": len(index),
        "score": float(np.median(particles.scores[index])),
        "nearest (Å)": float(apart.min()) if len(apart) else float("nan"),
        "median (Å)": float(np.median(apart)) if len(apart) else float("nan"),
    }
