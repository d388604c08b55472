"""Counts and distances of particle lists."""

from __future__ import annotations

from typing import Any

import numpy as np

from cryovox.core.particles import Particles
from cryovox.picking.surroundings import groups, nearest_neighbors

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
