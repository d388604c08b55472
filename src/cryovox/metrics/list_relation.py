"""How the positions of one particle list follow from those of another: order of axes, flips, scale, offset.

Differences between particles do not depend on the origin, and their absolute components do not depend on
flips and, once sorted, on the order of the axes. Pairs of particles whose sorted components are proportional
give candidates; the candidate that matches the most particles is refined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Float = NDArray[np.float64]
Index = NDArray[np.intp]

PAIRS = 150
"""Number of pairs of the first list that are compared."""
MAX_PARTICLES = 300
"""Maximum number of particles of each list that pairs are drawn from."""
TOLERANCE = 0.02
"""Maximum deviation of a pair, as a fraction of its length."""
CANDIDATES = 200
MIN_MATCHED = 4
MIN_FRACTION = 0.6
"""Minimum fraction of the shorter list that is matched."""


@dataclass(frozen=True)
class Relation:
    """Map from the first list to the second, b[k] = scale * signs[k] * a[axes[k]] + offset[k].

    Attributes
    ----------
    axes, signs
        For each axis (z, y, x) of the second list, the axis of the first and its direction.
    scale : float
        Unit of the first list in those of the second.
    offset : (3,)
        In the unit of the second list.
    matched : int
        Particles that agree.
    spread : float
        Root mean square distance of the matched particles.
    """

    axes: tuple[int, int, int]
    signs: tuple[int, int, int]
    scale: float
    offset: tuple[float, float, float]
    matched: int
    spread: float

    def apply(self, positions: Float) -> Float:
        """Positions (n, 3) of the first list as the second would have them."""
        return self.scale * positions[:, list(self.axes)] * np.array(self.signs) + np.array(self.offset)


def relation(first: Float, second: Float, seed: int = 0) -> Relation | None:
    """Map between two lists of the same particles.

    Parameters
    ----------
    first, second : (n, 3), (m, 3)
        Positions as (z, y, x), in any units; each list may hold particles that the other lacks.
    seed
        Of the selection of pairs.

    Returns
    -------
    Relation or None
        None if no map matches `MIN_FRACTION` of the shorter list.
    """
    least = max(MIN_MATCHED, int(np.ceil(MIN_FRACTION * min(len(first), len(second)))))
    if min(len(first), len(second)) < MIN_MATCHED:
        return None
    tree, extent = KDTree(second), float(np.ptp(second, axis=0).max())
    best: Relation | None = None
    for candidate in _candidates(first, second, np.random.default_rng(seed)):
        refined = _refined(candidate, first, second, tree, TOLERANCE * extent / 2)
        if refined is not None and (best is None or _rank(refined) > _rank(best)):
            best = refined
        if best is not None and best.matched == min(len(first), len(second)):
            break
    return best if best is not None and best.matched >= least else None


def _rank(one: Relation) -> tuple[int, float, int]:
    """Particles matched, then the closest, then the one with the fewest changes."""
    changes = sum(s < 0 for s in one.signs) + sum(a != k for k, a in enumerate(one.axes))
    return one.matched, -round(one.spread, 6), -changes


def _candidates(first: Float, second: Float, rng: np.random.Generator) -> list[Relation]:
    """Maps by which a pair of the first list becomes one of the second, the closest first."""
    if len(first) == len(second):  # perhaps in the same order: pairs of the same rows come first
        rows = rng.choice(len(first), min(len(first), MAX_PARTICLES), replace=False)
        some, others = first[rows], second[rows]
    else:
        some, others = _some(first, rng), _some(second, rng)
    i, j = np.nonzero(~np.eye(len(others), dtype=bool))
    theirs = others[j] - others[i]
    their_sizes = np.linalg.norm(theirs, axis=1)
    their_sorted = np.sort(np.abs(theirs), axis=1)
    scored: list[tuple[float, Relation]] = []
    for k, m in _pairs(len(some), rng):
        ours = some[m] - some[k]
        size = float(np.linalg.norm(ours))
        if not size > 0:
            continue
        scales = their_sizes / size
        error = np.abs(their_sorted - scales[:, None] * np.sort(np.abs(ours))).max(axis=1)
        relative = error / np.maximum(their_sizes, 1e-12)
        near = np.flatnonzero(relative < TOLERANCE)
        for row in near[np.argsort(relative[near])[:20]].tolist():
            made = _of_pair(ours, theirs[row], float(scales[row]), some[k], others[i[row]])
            scored.append((float(relative[row]), made))
    scored.sort(key=lambda pair: pair[0])
    return [made for _, made in scored[: 10 * CANDIDATES]]


def _some(positions: Float, rng: np.random.Generator) -> Float:
    if len(positions) <= MAX_PARTICLES:
        return positions
    return positions[rng.choice(len(positions), MAX_PARTICLES, replace=False)]


def _pairs(count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    first = rng.integers(0, count, 2 * PAIRS)
    second = rng.integers(0, count, 2 * PAIRS)
    return [(int(a), int(b)) for a, b in zip(first, second, strict=True) if a != b][:PAIRS]


def _of_pair(ours: Float, theirs: Float, scale: float, here: Float, there: Float) -> Relation:
    """The map that turns one difference of positions into another, and one position into another."""
    axes = np.empty(3, np.intp)
    axes[np.argsort(np.abs(theirs))] = np.argsort(np.abs(ours))
    turned = ours[axes]
    signs = np.where(turned * theirs < 0, -1, 1)
    offset = there - scale * signs * here[axes]
    return _relation(axes, signs, scale, offset, 0, np.inf)


def _relation(
    axes: Index, signs: NDArray[np.intp], scale: float, offset: Float, count: int, spread: float
) -> Relation:
    a, b, c = (int(v) for v in axes)
    u, v, w = (int(s) for s in signs)
    z, y, x = (float(o) for o in offset)
    return Relation((a, b, c), (u, v, w), float(scale), (z, y, x), count, spread)


def _refined(start: Relation, first: Float, second: Float, tree: KDTree, radius: float) -> Relation | None:
    """Least squares of scale and offset over the particles that agree, within shrinking distances."""
    axes, signs = np.array(start.axes), np.array(start.signs)
    turned = first[:, axes] * signs
    current = start
    for _ in range(4):
        distance, nearest = tree.query(current.apply(first), distance_upper_bound=radius)
        rows = _one_to_one(distance, nearest)
        if len(rows) < MIN_MATCHED:
            return None
        ours, theirs = turned[rows], second[nearest[rows]]
        centered = ours - ours.mean(axis=0)
        power = float(np.square(centered).sum())
        if not power > 0:
            return None
        scale = float((centered * (theirs - theirs.mean(axis=0))).sum()) / power
        if not scale > 0:
            return None
        offset = theirs.mean(axis=0) - scale * ours.mean(axis=0)
        spread = float(np.sqrt(np.square(scale * ours + offset - theirs).sum(axis=1).mean()))
        current = _relation(axes, signs, scale, offset, len(rows), spread)
        radius = max(min(radius, 4 * spread), 1e-6 * float(np.ptp(second)))
    return current


def _one_to_one(distance: Float, nearest: Index) -> Index:
    """Rows of the first list that are the closest to their nearest particle of the second."""
    inside = np.flatnonzero(np.isfinite(distance))
    order = inside[np.argsort(distance[inside], kind="stable")]
    _, kept = np.unique(nearest[order], return_index=True)
    return np.asarray(np.sort(order[kept]))
