"""Agreement of picks with the candidates of two half tomograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryovox.core.particles import Particles, Species

Float = NDArray[np.float64]

HALVES, HALF_SCORE = "cryovoxHalves", "cryovoxHalfScore"
"""Columns of particle lists: number of halves with the pick, and the lower of its two scores."""
CHANCE = 0.05
"""Maximum fraction of random places with a candidate in a half."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of picks with two halves.

    Attributes
    ----------
    halves : (n,) int
        Number of halves, 0 to 2, in which each pick has a candidate.
    score : (n,)
        The lower of the scores of the best candidates in both halves; 0 where one has none.
    """

    halves: NDArray[np.intp]
    score: Float

    def count(self, halves: int) -> int:
        """Number of picks that are in so many halves."""
        return int((self.halves == halves).sum())


def agreement(
    picks: Particles,
    halves: Sequence[Particles],
    species: Sequence[Species],
    volume: float,
    voxel_size: float,
) -> Agreement:
    """Look for each pick in the candidates of both halves.

    A candidate counts within half a radius of the pick (at least 1.5 voxels), and if its score is high enough
    that at most one in 20 random places has a candidate.

    Parameters
    ----------
    picks
        Picks of the tomogram.
    halves
        Candidates of the even and of the odd half.
    species
        With their radii.
    volume
        Searched volume in Å³.
    voxel_size
        Of the score map in Å.
    """
    count, lowest = np.zeros(len(picks), np.intp), np.zeros(len(picks))
    for kind in species:
        own = np.flatnonzero(picks.species == kind.name)
        reach = max(kind.radius / 2, 1.5 * voxel_size)
        scores = [_best(picks.positions[own], half.named(kind.name), reach, volume) for half in halves]
        count[own] = np.sum([values > 0 for values in scores], axis=0)
        lowest[own] = np.min(scores, axis=0)
    return Agreement(count, lowest)


def _best(positions: Float, candidates: Particles, reach: float, volume: float) -> Float:
    """Score of the best candidate near each position; 0 without one."""
    allowed = int(CHANCE * volume / (4 / 3 * np.pi * reach**3))
    best = candidates.sorted().take(np.arange(min(allowed, len(candidates))))
    values = np.zeros(len(positions))
    if not len(best):
        return values
    for i, near in enumerate(KDTree(best.positions).query_ball_point(positions, reach)):
        if near:
            values[i] = float(best.scores[near].max())
    return values


def columns(found: Agreement) -> dict[str, NDArray[Any]]:
    """Columns of the particle list."""
    return {
        HALVES: found.halves.astype(np.str_),
        HALF_SCORE: np.array([f"{value:.4f}" for value in found.score], np.str_),
    }
