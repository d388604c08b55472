"""Counts, precision, recall and average precision of picks.

Lists that name their tomograms are matched within each tomogram and pooled. A pick is a hit if its distance
to the particle is at most the radius; each pick and each particle belongs to at most one pair.
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
    """Counts of a comparison of picks with the truth.

    Without picks precision is 0, and without particles recall is 0. Without both, precision, recall and F
    are 1.
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
        """Fraction of the picks that are hits."""
        return _ratio(self.hits, self.hits + self.false_picks, empty=float(self.misses == 0))

    @property
    def recall(self) -> float:
        """Fraction of the particles that were hit."""
        return _ratio(self.hits, self.hits + self.misses, empty=float(self.false_picks == 0))

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self.f_beta(1.0)

    def f_beta(self, beta: float) -> float:
        """F score that weights recall beta times as much as precision."""
        return f_beta(self.precision, self.recall, beta)

    @property
    def mean_distance(self) -> float:
        """Mean distance in Å of the hits to their particles; NaN without hits."""
        return self.distance / self.hits if self.hits else float("nan")


def _ratio(part: int, whole: int, empty: float) -> float:
    return part / whole if whole else empty


def f_beta(precision: float, recall: float, beta: float) -> float:
    """F score; 0 where precision and recall are 0."""
    denominator = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / denominator if denominator > 0 else 0.0


def detection(
    predicted: Particles, truth: Particles, radius: ArrayLike, *, best_matching: bool = False
) -> Detection:
    """Match picks to particles one to one, regardless of species, and count the outcome.

    In the order of their scores, each pick is matched to the nearest particle that is still free, so a
    second pick on the same particle is a false pick.

    Parameters
    ----------
    predicted, truth
        Picks and particles of one species, or to be compared regardless of it.
    radius : float or (len(truth),)
        Maximum distance of a hit in Å.
    best_matching
        Match as many as possible instead, regardless of the scores.

    Examples
    --------
    >>> at = lambda *z: Particles.of([[v, 0, 0] for v in z], "ribosome")
    >>> counts = detection(at(0.0, 2.0, 90.0), at(1.5, 50.0), radius=10)
    >>> counts.hits, counts.false_picks, counts.misses, counts.mean_distance
    (1, 2, 1, 0.5)
    """
    total = Detection(0, 0, 0)
    for picks, particles, radii in per_tomogram(predicted, truth, radius):
        if best_matching:
            matches = optimal(picks.positions, particles.positions, radii)
        else:
            matches = greedy(picks.positions, particles.positions, radii, picks.scores)
        total += _count(matches, len(picks), len(particles))
    return total


def _count(matches: Matching, picks: int, particles: int) -> Detection:
    hits = len(matches)
    return Detection(hits, picks - hits, particles - hits, float(matches.distance.sum()))


def tomograms_of(*lists: Particles) -> list[str]:
    """Names of all tomograms in the lists, sorted; one empty name where no list has any."""
    names = {str(name) for items in lists if items.tomograms is not None for name in items.tomograms}
    return sorted(names) or [""]


def scored_tomograms(predicted: Particles, truth: Particles) -> Particles:
    """Leave out picks in tomograms that the truth does not name."""
    if predicted.tomograms is None or truth.tomograms is None:
        return predicted
    return predicted.take(np.isin(predicted.tomograms, truth.tomograms))


def check_tomograms(predicted: Particles, truth: Particles) -> None:
    """Refuse to compare a list that names several tomograms with one that names none."""
    names = tomograms_of(predicted, truth)
    for which, particles in (("picks", predicted), ("truth", truth)):
        if len(names) > 1 and particles.tomograms is None and len(particles):
            message = f"names no tomograms, the other list names {len(names)}"
            raise RequestError(which, message, "name the tomogram of each particle in both lists")


def per_tomogram(
    predicted: Particles, truth: Particles, radius: ArrayLike
) -> Iterator[tuple[Particles, Particles, Float]]:
    """Picks, particles and radii of each tomogram in turn."""
    check_tomograms(predicted, truth)
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(truth))
    for name in tomograms_of(predicted, truth):
        inside = np.ones(len(truth), bool) if truth.tomograms is None else truth.tomograms == name
        yield predicted.within(name), truth.take(inside), radii[inside]


def scored_hits(predicted: Particles, truth: Particles, radius: ArrayLike) -> tuple[Float, NDArray[np.bool_]]:
    """Score of each pick and whether it is a hit, best first."""
    scores, hits = [np.zeros(0)], [np.zeros(0, bool)]
    for picks, particles, radii in per_tomogram(predicted, truth, radius):
        hit = np.zeros(len(picks), bool)
        hit[greedy(picks.positions, particles.positions, radii, picks.scores).predicted] = True
        scores.append(picks.scores.astype(np.float64))
        hits.append(hit)
    score, is_hit = np.concatenate(scores), np.concatenate(hits)
    order = np.argsort(-score, kind="stable")
    return score[order], is_hit[order]


def precision_recall(predicted: Particles, truth: Particles, radius: ArrayLike) -> tuple[Float, Float, Float]:
    """Precision and recall of the picks at or above each distinct score, from the highest score down.

    Returns
    -------
    precision, recall, threshold : (k,) float64
        One point per distinct score.
    """
    score, hit = scored_hits(predicted, truth, radius)
    last = np.flatnonzero(np.r_[np.diff(score) != 0, np.ones(min(1, len(score)), bool)])
    hits = np.cumsum(hit)[last]
    recall = hits / len(truth) if len(truth) else np.zeros(len(last))
    return hits / (last + 1), recall, score[last]


def precision_recall_curve(
    predicted: Particles, truth: Particles, radius: ArrayLike, points: int = 200
) -> dict[str, list[float]]:
    """Points of the precision-recall curve as columns: precision, recall, threshold and picks.

    Parameters
    ----------
    predicted, truth, radius
        As for :func:`detection`.
    points
        Maximum number of points, evenly spread over the distinct scores; the last is always included.
    """
    precision, recall, threshold = precision_recall(predicted, truth, radius)
    scores = np.sort(predicted.scores.astype(np.float64))
    picks = len(scores) - np.searchsorted(scores, threshold)
    kept = np.unique(np.linspace(0, len(threshold) - 1, min(points, len(threshold))).round().astype(int))
    columns = {"precision": precision, "recall": recall, "threshold": threshold, "picks": picks}
    return {name: [round(float(v), 6) for v in column[kept]] for name, column in columns.items()}


def average_precision(predicted: Particles, truth: Particles, radius: ArrayLike) -> float:
    """Area under the precision-recall curve, interpolated at all points.

    The precision at each recall is the maximum at this or a higher recall, as in PASCAL VOC 2010 and
    later. Without particles the average precision is 1 if there are no picks and else 0.
    """
    if not len(truth):
        return float(len(predicted) == 0)
    precision, recall, _ = precision_recall(predicted, truth, radius)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def recall_at_budget(
    predicted: Particles, truth: Particles, radius: ArrayLike, budgets: Sequence[float] = (1, 2, 4)
) -> dict[float, float]:
    """Recall of a limited number of best picks; useful where the truth is incomplete.

    Parameters
    ----------
    predicted, truth, radius
        As for :func:`detection`.
    budgets
        Numbers of picks as multiples of the number of particles, over all tomograms; equal scores keep
        the order of the list.

    Returns
    -------
    dict
        Recall by budget; it does not decrease with the budget unless scores are equal.
    """
    ranked = predicted.sorted()
    recall: dict[float, Any] = {}
    for budget in budgets:
        best = ranked.take(np.arange(min(len(ranked), round(budget * len(truth)))))
        recall[budget] = detection(best, truth, radius).recall
    return recall
