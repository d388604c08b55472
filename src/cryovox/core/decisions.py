"""Decisions of a person on picks: the column `keep` of a particle list."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles

COLUMNS = ("keep", "cryovoxkeep")
"""Names of the column, in lower case."""
KEPT = frozenset({"1", "1.0", "yes", "y", "true", "keep", "kept"})
REJECTED = frozenset({"0", "0.0", "no", "n", "false", "reject", "rejected"})
UNDECIDED = frozenset({"", "-", "?", "<na>", "na", "nan", "none"})
REJECTED_SPECIES = "rejected"
"""Species of a dataset to which the rejected picks of a list belong."""


def has_decisions(particles: Particles) -> bool:
    """Whether a list has the column `keep`."""
    return _column(particles) is not None


def decisions_of(particles: Particles, where: object) -> NDArray[np.float64]:
    """Decision on each particle: 1 kept, 0 rejected, NaN where there is none.

    Parameters
    ----------
    where
        The file, for messages.
    """
    name = _column(particles)
    if name is None:
        remedy = "add a column `keep`: 1 or yes at picks to keep, 0 or no at picks to reject"
        raise RequestError(where, "has no column `keep`", remedy)
    return np.array([_decision(str(cell), name, where) for cell in particles.extra[name]], np.float64)


def _column(particles: Particles) -> str | None:
    return next((name for name in particles.extra if name.lower() in COLUMNS), None)


def _decision(cell: str, name: str, where: object) -> float:
    text = cell.strip().lower()
    if text in KEPT:
        return 1.0
    if text in REJECTED:
        return 0.0
    if text in UNDECIDED:
        return float("nan")
    message = f"column {name} holds {cell!r}"
    raise RequestError(where, message, "write 1 or yes, 0 or no, or leave the cell empty")
