"""Side lobes: weak peaks of a score map beside one that is much stronger."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

REACH = 1.5
"""Distance within which a peak may be a side lobe, over the radius of the particles."""
RATIO = 2.0
"""Lowest ratio of the stronger to the weaker score. Particles that touch score alike."""


def side_lobes(
    positions: NDArray[np.float64], scores: NDArray[np.floating], radius: float
) -> NDArray[np.bool_]:
    """Which peaks lie beside one whose score is at least `RATIO` times as high.

    A template that is shifted by about a radius still covers half of the particle, or its wedge artifacts.

    Parameters
    ----------
    positions : (n, 3)
        In any unit.
    radius
        Of the particles, in that unit.
    """
    weaker = np.zeros(len(scores), bool)
    if len(scores) < 2:
        return weaker
    pairs = KDTree(positions).query_pairs(REACH * radius, output_type="ndarray")
    for one, other in (pairs.T, pairs.T[::-1]):
        weaker[one[scores[other] >= RATIO * scores[one]]] = True
    return weaker
