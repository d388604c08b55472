"""One-to-one matching of picks and particles within a radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

Float = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """Pairs of indices of picks and particles, with their distances in the unit of the positions."""

    predicted: Index
    truth: Index
    distance: Float

    def __len__(self) -> int:
        return len(self.predicted)


def pairs_within(predicted: Float, truth: Float, radius: ArrayLike) -> Matching:
    """All pairs that are at most a radius apart; a pick may belong to several pairs.

    Parameters
    ----------
    predicted : (n, 3)
        Positions of the picks.
    truth : (m, 3)
        Positions of the particles.
    radius : float or (m,)
        Maximum distance, for all particles or for each.
    """
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(truth))
    if not len(predicted) or not len(truth):
        return Matching(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0))
    neighbors = KDTree(predicted).query_ball_point(truth, radii)
    i = np.array([i for indices in neighbors for i in indices], dtype=np.intp)
    j = np.repeat(np.arange(len(truth)), [len(indices) for indices in neighbors])
    return Matching(i, j, np.linalg.norm(predicted[i] - truth[j], axis=1))


def greedy(predicted: Float, truth: Float, radius: ArrayLike, scores: NDArray[Any] | None = None) -> Matching:
    """Match picks in the order of their scores, each to the nearest particle that is still free.

    Among picks of equal score the closest pair is matched first, so the order of the list does not matter.
    Adding picks with lower scores never changes the matches of the others.

    Parameters
    ----------
    predicted, truth, radius
        As for :func:`pairs_within`.
    scores : (n,)
        Scores, higher is better; all equal where None.
    """
    pairs = pairs_within(predicted, truth, radius)
    rank = np.zeros(len(predicted)) if scores is None else -np.asarray(scores, dtype=np.float64)
    order = np.lexsort((pairs.truth, pairs.predicted, pairs.distance, rank[pairs.predicted]))
    matched_picks, matched_particles, kept = set(), set(), []
    for k, i, j in zip(
        order.tolist(), pairs.predicted[order].tolist(), pairs.truth[order].tolist(), strict=True
    ):
        if i not in matched_picks and j not in matched_particles:
            matched_picks.add(i)
            matched_particles.add(j)
            kept.append(k)
    return _take(pairs, np.array(kept, dtype=np.intp))


def optimal(predicted: Float, truth: Float, radius: ArrayLike) -> Matching:
    """Match as many pairs as possible with the minimum total distance.

    Parameters
    ----------
    predicted, truth, radius
        As for :func:`pairs_within`.
    """
    pairs = pairs_within(predicted, truth, radius)
    if not len(pairs):
        return pairs
    n = len(predicted) + len(truth)
    edges = (np.ones(len(pairs), bool), (pairs.predicted, len(predicted) + pairs.truth))
    component = connected_components(coo_array(edges, shape=(n, n)), directed=False)[1][pairs.predicted]
    order = np.argsort(component, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(component[order]) != 0])
    kept = [_assign(pairs, group) for group in np.split(order, starts[1:])]
    return _take(pairs, np.sort(np.concatenate(kept)))


def _assign(pairs: Matching, group: Index) -> Index:
    """Optimal one-to-one assignment among the pairs of one connected group."""
    if len(group) == 1:
        return group
    rows, row = np.unique(pairs.predicted[group], return_inverse=True)
    columns, column = np.unique(pairs.truth[group], return_inverse=True)
    distance = pairs.distance[group]
    # a missing pair costs more than all others together
    missing = (float(distance.max()) + 1.0) * (min(len(rows), len(columns)) + 1)
    cost = np.full((len(rows), len(columns)), missing)
    cost[row, column] = distance
    pair = np.full(cost.shape, -1, np.intp)
    pair[row, column] = group
    assigned = pair[linear_sum_assignment(cost)]
    return np.asarray(assigned[assigned >= 0])


def _take(pairs: Matching, which: Index) -> Matching:
    return Matching(pairs.predicted[which], pairs.truth[which], pairs.distance[which])
