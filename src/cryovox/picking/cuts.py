"""Expected precision and recall of picks at each cut, and cuts for a purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryovox.picking.config import Purpose

Float = NDArray[np.float64]

PRECISION = 0.95
"""Expected precision of picks for averaging."""
BETA: Mapping[Purpose, float] = {"counting": 1.0, "czii": 4.0}
"""Weight of recall relative to precision in the F score that a purpose maximizes."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Expected outcome of keeping the picks of one species from a score upward.

    Attributes
    ----------
    score
        Minimum score; infinite where no pick is kept.
    picks
        Number of picks.
    hits
        Expected number of picks that are particles.
    particles
        Expected number of particles in the searched region, also of those without a pick.
    """

    score: float
    picks: int
    hits: float
    particles: float

    @property
    def precision(self) -> float:
        """Expected fraction of the picks that are particles; 1 without picks."""
        return self.hits / self.picks if self.picks else 1.0

    @property
    def recall(self) -> float:
        """Expected fraction of the particles that are picked; 1 without particles."""
        return min(1.0, self.hits / self.particles) if self.particles > 0 else 1.0

    def f_beta(self, beta: float) -> float:
        """Expected F score, from the expected counts."""
        total = self.picks + beta**2 * self.particles
        return (1 + beta**2) * self.hits / total if total > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedCurve:
    """Expected hits among the best picks of one species.

    Attributes
    ----------
    scores, probabilities : (n,) float64
        Of all candidates, best first.
    ceiling
        Fraction of the particles that have a candidate.
    """

    scores: Float
    probabilities: Float
    ceiling: float = 1.0

    @classmethod
    def of(cls, scores: NDArray[np.floating], probabilities: Float, ceiling: float = 1.0) -> ExpectedCurve:
        """From candidates in any order."""
        order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
        return cls(np.asarray(scores, np.float64)[order], np.asarray(probabilities)[order], ceiling)

    @property
    def particles(self) -> float:
        """Expected number of particles."""
        return float(self.probabilities.sum()) / self.ceiling

    def at(self, score: float) -> Cut:
        """Outcome of keeping the candidates with at least this score."""
        count = int((self.scores >= score).sum())
        return Cut(score, count, float(self.probabilities[:count].sum()), self.particles)

    def best(self, purpose: Purpose) -> Cut:
        """Cut for a purpose.

        "averaging" keeps as many candidates as have an expected precision of 0.95, none where no number of
        them has; "counting" maximizes the expected F1, "czii" the expected F-beta with beta = 4.
        """
        if not len(self.scores):
            return Cut(np.inf, 0, 0.0, 0.0)
        ends = np.flatnonzero(np.r_[np.diff(self.scores) < 0, True])  # equal scores stay together
        hits = np.cumsum(self.probabilities)[ends]
        cuts = [
            Cut(float(self.scores[e]), int(e) + 1, float(h), self.particles)
            for e, h in zip(ends, hits, strict=True)
        ]
        if purpose == "averaging":
            precise = [cut for cut in cuts if cut.precision >= PRECISION]
            return precise[-1] if precise else Cut(np.inf, 0, 0.0, self.particles)
        return max(cuts, key=lambda cut: cut.f_beta(BETA[purpose]))
