"""Counts, precision, recall and average precision of picks.

Lists that name their tomograms are matched within each and pooled. A pick is a hit if its distance to
the particle is at most the radius; each pick and each particle stands in one pair at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.metrics.matching import Matching, greedy, optimal

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detection:
    """Outcome of a comparison of picks with the truth.

    Where nothing was found, precision is 0, and where nothing is there, recall is 0; both, and F, are
    1 where nothing was found and nothing is there.
    """

    hits: int
    false_picks: int
    misses: int
    distance: float = 0.0
    """Sum over the hits of the distance to the particle, in Å."""

    def __add__(self, other: Detection) -> Detection:
        return Detection(
            self.hits + other.hits,
            self.false_picks + other.false_picks,
            self.misses + other.misses,
            self.distance + other.distance,
        )

    @property
    def precision(self) -> float:
        """Share of the picks that are hits."""
        return _share(self.hits, self.hits + self.false_picks, nothing=self.misses == 0)

    @property
    def recall(self) -> float:
        """Share of the particles that were hit."""
        return _share(self.hits, self.hits + self.misses, nothing=self.false_picks == 0)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self.f_beta(1.0)

    def f_beta(self, beta: float) -> float:
        """F score in which recall weighs beta times as much as precision."""
        return f_beta(self.precision, self.recall, beta)

    @property
    def mean_distance(self) -> float:
        """Mean distance in Å of the hits to their particles; NaN without hits."""
        return self.distance / self.hits if self.hits else float("nan")


def _share(part: int, whole: int, nothing: bool) -> float:
    return part / whole if whole else float(nothing)


def f_beta(precision: float, recall: float, beta: float) -> float:
    """F score; 0 where precision and recall are 0."""
    below = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / below if below > 0 else 0.0


def detection(
    found: Particles, truth: Particles, radius: ArrayLike, *, best_matching: bool = False
) -> Detection:
    """Match picks to particles one to one, whatever their species, and count the outcome.

    The best-scored pick chooses first and takes the nearest particle that is still free, so a second
    pick on the same particle is a false pick.

    Parameters
    ----------
    found, truth
        Of one species, or to be compared regardless of it.
    radius : float or (len(truth),)
        Largest distance of a hit in Å.
    best_matching
        Match as many as possible instead, which takes no notice of the scores.

    Examples
    --------
    >>> at = lambda *z: Particles.of([[v, 0, 0] for v in z], "ribosome")
    >>> outcome = detection(at(0.0, 2.0, 90.0), at(1.5, 50.0), radius=10)
    >>> outcome.hits, outcome.false_picks, outcome.misses, outcome.mean_distance
    (1, 2, 1, 0.5)
    """
    total = Detection(0, 0, 0)
    for mine, theirs, reach in per_tomogram(found, truth, radius):
        if best_matching:
            match = optimal(mine.positions, theirs.positions, reach)
        else:
            match = greedy(mine.positions, theirs.positions, reach, mine.scores)
        total += _count(match, len(mine), len(theirs))
    return total


def _count(match: Matching, found: int, truth: int) -> Detection:
    hits = len(match)
    return Detection(hits, found - hits, truth - hits, float(match.distance.sum()))


def tomograms_of(*lists: Particles) -> list[str]:
    """Names of all tomograms in the lists, sorted; one empty name where no list has any."""
    names = {str(name) for some in lists if some.tomograms is not None for name in some.tomograms}
    return sorted(names) or [""]


def scored_tomograms(found: Particles, truth: Particles) -> Particles:
    """Leave out picks in tomograms that the truth does not name."""
    if found.tomograms is None or truth.tomograms is None:
        return found
    return found.take(np.isin(found.tomograms, truth.tomograms))


def check_tomograms(found: Particles, truth: Particles) -> None:
    """Refuse to compare a list that names several tomograms with one that names none."""
    names = tomograms_of(found, truth)
    for what, some in (("picks", found), ("truth", truth)):
        if len(names) > 1 and some.tomograms is None and len(some):
            message = f"names no tomograms, the other list names {len(names)}"
            raise RequestError(what, message, "name the tomogram of each particle in both lists")


def per_tomogram(
    found: Particles, truth: Particles, radius: ArrayLike
) -> Iterator[tuple[Particles, Particles, Float]]:
    """Picks, particles and radii of each tomogram in turn."""
    check_tomograms(found, truth)
    reach = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(truth))
    for name in tomograms_of(found, truth):
        here = np.ones(len(truth), bool) if truth.tomograms is None else truth.tomograms == name
        yield found.within(name), truth.take(here), reach[here]


def outcomes(found: Particles, truth: Particles, radius: ArrayLike) -> tuple[Float, NDArray[np.bool_]]:
    """Score of each pick and whether it is a hit, best first."""
    scores, hits = [np.zeros(0)], [np.zeros(0, bool)]
    for mine, theirs, reach in per_tomogram(found, truth, radius):
        hit = np.zeros(len(mine), bool)
        hit[greedy(mine.positions, theirs.positions, reach, mine.scores).found] = True
        scores.append(mine.scores.astype(np.float64))
        hits.append(hit)
    score, right = np.concatenate(scores), np.concatenate(hits)
    order = np.argsort(-score, kind="stable")
    return score[order], right[order]


def precision_recall(found: Particles, truth: Particles, radius: ArrayLike) -> tuple[Float, Float, Float]:
    """Precision and recall of the picks above each score that occurs, from the highest score down.

    Returns
    -------
    precision, recall, threshold : (k,) float64
        One point per distinct score.
    """
    score, hit = outcomes(found, truth, radius)
    last = np.flatnonzero(np.r_[np.diff(score) != 0, np.ones(min(1, len(score)), bool)])
    hits = np.cumsum(hit)[last]
    recall = hits / len(truth) if len(truth) else np.zeros(len(last))
    return hits / (last + 1), recall, score[last]


def precision_recall_curve(
    found: Particles, truth: Particles, radius: ArrayLike, points: int = 200
) -> dict[str, list[float]]:
    """Points of the precision-recall curve as columns: precision, recall, threshold and picks.

    Parameters
    ----------
    found, truth, radius
        As for :func:`detection`.
    points
        At most as many, evenly spread over the scores that occur; the last is always there.
    """
    precision, recall, threshold = precision_recall(found, truth, radius)
    scores = np.sort(found.scores.astype(np.float64))
    picks = len(scores) - np.searchsorted(scores, threshold)
    kept = np.unique(np.linspace(0, len(threshold) - 1, min(points, len(threshold))).round().astype(int))
    columns = {"precision": precision, "recall": recall, "threshold": threshold, "picks": picks}
    return {name: [round(float(v), 6) for v in column[kept]] for name, column in columns.items()}


def average_precision(found: Particles, truth: Particles, radius: ArrayLike) -> float:
    """Area under the precision-recall curve, interpolated at all points.

    At each recall the precision is the best at this or a higher recall, as in PASCAL VOC 2010 and
    later. Without particles it is 1 if nothing was picked and else 0.
    """
    if not len(truth):
        return float(len(found) == 0)
    precision, recall, _ = precision_recall(found, truth, radius)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def recall_at_budget(
    found: Particles, truth: Particles, radius: ArrayLike, budgets: Sequence[float] = (1, 2, 4)
) -> dict[float, float]:
    """Recall of the best picks when so many are allowed; for truth that is known to be incomplete.

    Parameters
    ----------
    found, truth, radius
        As for :func:`detection`.
    budgets
        Numbers of picks in units of the number of particles, over all tomograms; equal scores keep the
        order of the list.

    Returns
    -------
    dict
        Budget to recall; recall does not fall with the budget unless scores are equal.
    """
    ranked = found.sorted()
    recall: dict[float, Any] = {}
    for budget in budgets:
        best = ranked.take(np.arange(min(len(ranked), round(budget * len(truth)))))
        recall[budget] = detection(best, truth, radius).recall
    return recall
