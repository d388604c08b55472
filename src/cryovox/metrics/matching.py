"""Which pick belongs to which particle, one to one, within a radius."""

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
    """Pairs as indices into the two lists, with their distances in the unit of the positions."""

    found: Index
    truth: Index
    distance: Float

    def __len__(self) -> int:
        return len(self.found)


def pairs_within(found: Float, truth: Float, radius: ArrayLike) -> Matching:
    """All pairs that are at most a radius apart; one pick may stand in many.

    Parameters
    ----------
    found : (n, 3)
        Positions of the picks.
    truth : (m, 3)
        Positions of the particles.
    radius : float or (m,)
        Largest distance, for all particles or for each.
    """
    reach = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(truth))
    if not len(found) or not len(truth):
        return Matching(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0))
    near = KDTree(found).query_ball_point(truth, reach)
    i = np.array([i for some in near for i in some], dtype=np.intp)
    j = np.repeat(np.arange(len(truth)), [len(some) for some in near])
    return Matching(i, j, np.linalg.norm(found[i] - truth[j], axis=1))


def greedy(found: Float, truth: Float, radius: ArrayLike, scores: NDArray[Any] | None = None) -> Matching:
    """Let the best pick choose first: it takes the nearest particle that is still free.

    Among picks of equal score the closest pair goes first, so the order of the list plays no part.
    Adding worse picks never changes what the better ones got.

    Parameters
    ----------
    found, truth, radius
        As for :func:`pairs_within`.
    scores : (n,)
        Higher is better; all equal where None.
    """
    pairs = pairs_within(found, truth, radius)
    rank = np.zeros(len(found)) if scores is None else -np.asarray(scores, dtype=np.float64)
    order = np.lexsort((pairs.truth, pairs.found, pairs.distance, rank[pairs.found]))
    busy, taken, kept = set(), set(), []
    for k, i, j in zip(order.tolist(), pairs.found[order].tolist(), pairs.truth[order].tolist(), strict=True):
        if i not in busy and j not in taken:
            busy.add(i)
            taken.add(j)
            kept.append(k)
    return _take(pairs, np.array(kept, dtype=np.intp))


def optimal(found: Float, truth: Float, radius: ArrayLike) -> Matching:
    """Match as many pairs as possible and, among such matchings, at the least total distance.

    Parameters
    ----------
    found, truth, radius
        As for :func:`pairs_within`.
    """
    pairs = pairs_within(found, truth, radius)
    if not len(pairs):
        return pairs
    n = len(found) + len(truth)
    links = (np.ones(len(pairs), bool), (pairs.found, len(found) + pairs.truth))
    group = connected_components(coo_array(links, shape=(n, n)), directed=False)[1][pairs.found]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) != 0])
    kept = [_assign(pairs, some) for some in np.split(order, starts[1:])]
    return _take(pairs, np.sort(np.concatenate(kept)))


def _assign(pairs: Matching, some: Index) -> Index:
    """Best one-to-one choice among the pairs of one connected group."""
    if len(some) == 1:
        return some
    rows, row = np.unique(pairs.found[some], return_inverse=True)
    columns, column = np.unique(pairs.truth[some], return_inverse=True)
    distance = pairs.distance[some]
    # a missing pair costs more than all others together
    missing = (float(distance.max()) + 1.0) * (min(len(rows), len(columns)) + 1)
    cost = np.full((len(rows), len(columns)), missing)
    cost[row, column] = distance
    which = np.full(cost.shape, -1, np.intp)
    which[row, column] = some
    chosen = which[linear_sum_assignment(cost)]
    return np.asarray(chosen[chosen >= 0])


def _take(pairs: Matching, which: Index) -> Matching:
    return Matching(pairs.found[which], pairs.truth[which], pairs.distance[which])
