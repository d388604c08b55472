"""Particles that are the same: duplicates within a list, and the consensus of several lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.spatial import cKDTree

from cryovox.core.particles import Particles, concatenate
from cryovox.picking.surroundings import groups

AGREEMENT = "agreement"
"""Column with the number of lists that hold a particle."""
HAS_POSE = "has_pose"
"""Column that is 0 for particles whose orientation is not known, in lists where it is for others."""
BLOCK = 10
"""Particles of similar score over which the rate of agreement is averaged."""


def duplicates(particles: Particles, distance: float, by_species: bool = True) -> NDArray[np.bool_]:
    """Particles within a distance in Å of one with a higher score that is kept.

    Parameters
    ----------
    particles
        Compared within each tomogram; of equal scores, the first in the list is kept.
    distance
        In Å.
    by_species
        Compare only particles of the same species.
    """
    dropped = np.zeros(len(particles), dtype=bool)
    for rows in groups(particles, by_species):
        ordered = rows[np.argsort(-particles.scores[rows], kind="stable")]
        near = cKDTree(particles.positions[ordered]).query_ball_point(particles.positions[ordered], distance)
        for i, others in enumerate(near):
            if not dropped[ordered[i]]:
                dropped[ordered[[j for j in others if j > i]]] = True
    return dropped


def merge(lists: Sequence[Particles], distance: float, min_agreement: int = 1) -> Particles:
    """Consensus of several lists.

    The best-scored particle that is not used yet takes the nearest one within the distance from each other
    list, of the same tomogram and species. Their mean position, weighted by the scores, and their mean score
    become one particle, with the orientation of the best-scored one that has one.

    Parameters
    ----------
    lists
        Lists with scores that can be compared.
    distance
        In Å.
    min_agreement
        Minimum number of lists that hold a particle.

    Returns
    -------
    Particles
        In the order of agreement, then score, with the column `agreement`. Where some particles have an
        orientation, the others have rotation 0, and the column `has_pose` says which. Other columns are left
        out.
    """
    rotations, has_pose = _poses(lists)
    joined = concatenate(replace(picks, extra={}, metadata={}, rotations=None) for picks in lists)
    source = np.repeat(np.arange(len(lists)), [len(picks) for picks in lists])
    clusters = [cluster for rows in groups(joined) for cluster in _clusters(joined, source, rows, distance)]
    clusters = [cluster for cluster in clusters if len(cluster) >= min_agreement]
    counts = np.array([len(cluster) for cluster in clusters], dtype=np.intp)
    picks = joined.take(np.array([cluster[0] for cluster in clusters], dtype=np.intp))
    places = [_center(joined, cluster) for cluster in clusters]
    scores = [joined.scores[cluster].mean() for cluster in clusters]
    posed = np.array([_posed(joined, cluster, has_pose) for cluster in clusters], dtype=np.intp)
    merged = replace(
        picks,
        positions=np.array(places, dtype=np.float64).reshape(-1, 3),
        scores=np.array(scores, dtype=np.float32),
        rotations=rotations[posed] if has_pose.any() else None,
        extra={AGREEMENT: counts}
        | ({} if has_pose.all() or not has_pose.any() else {HAS_POSE: has_pose[posed].astype(int)}),
    )
    return merged.take(np.lexsort((-merged.scores, -counts)))


def calibrated(lists: Sequence[Particles], distance: float) -> list[Particles]:
    """Lists whose scores are rates of agreement, so that scores of different programs can be compared.

    The rate at a score is the share of the particles of similar score, of the same list and species, that
    another list holds within the distance. It rises with the score (isotonic regression of the means of
    `BLOCK` particles). It is the precision where all lists miss few particles and err at different places.

    Parameters
    ----------
    lists, distance
        As for :func:`merge`.
    """
    joined = concatenate(replace(picks, extra={}, metadata={}) for picks in lists)
    source = np.repeat(np.arange(len(lists)), [len(picks) for picks in lists])
    scores = np.zeros(len(joined), np.float32)
    is_held = np.zeros(len(joined), dtype=bool)
    for rows in groups(joined):
        for cluster in _clusters(joined, source, rows, distance):
            is_held[cluster] = len(cluster) > 1
    for number in range(len(lists)):
        for name in set(joined.species[source == number].tolist()):
            rows = np.flatnonzero((source == number) & (joined.species == name))
            scores[rows] = _rates(joined.scores[rows], is_held[rows])
    ends = np.cumsum([len(picks) for picks in lists])[:-1]
    parts = np.split(scores, ends)
    return [replace(picks, scores=part) for picks, part in zip(lists, parts, strict=True)]


def _rates(scores: NDArray[np.floating], is_held: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the particles of similar score that another list holds, rising with the score."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    blocks = np.array_split(order, max(1, len(order) // BLOCK))
    means = isotonic_regression([is_held[b].mean() for b in blocks], weights=[len(b) for b in blocks]).x
    rates = np.interp(ranks, [ranks[block].mean() for block in blocks], means)
    same = np.unique(scores, return_inverse=True)[1]
    return (np.bincount(same, rates) / np.bincount(same))[same]


def _clusters(
    joined: Particles, source: NDArray[np.intp], rows: NDArray[np.intp], distance: float
) -> list[NDArray[np.intp]]:
    """Indices of the particles that are one, the best first."""
    ordered = rows[np.argsort(-joined.scores[rows], kind="stable")]
    places, lists = joined.positions[ordered], source[ordered]
    near = cKDTree(places).query_ball_point(places, distance)
    free = np.ones(len(ordered), dtype=bool)
    clusters = []
    for i, others in enumerate(near):
        if not free[i]:
            continue
        usable = [j for j in others if free[j] and lists[j] != lists[i]]
        usable.sort(key=lambda j: float(np.linalg.norm(places[j] - places[i])))
        nearest: dict[int, int] = {}
        for j in usable:
            nearest.setdefault(int(lists[j]), j)
        members = np.array([i, *nearest.values()], dtype=np.intp)
        free[members] = False
        clusters.append(ordered[members])
    return clusters


def _poses(lists: Sequence[Particles]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Rotations (n, 3, 3) of all particles, none for those without, and which have one."""
    rotations = [
        np.tile(np.eye(3), (len(picks), 1, 1)) if picks.rotations is None else picks.rotations
        for picks in lists
    ]
    has_pose = np.repeat([picks.rotations is not None for picks in lists], [len(picks) for picks in lists])
    return np.concatenate(rotations), has_pose


def _posed(joined: Particles, cluster: NDArray[np.intp], has_pose: NDArray[np.bool_]) -> np.intp:
    """The best-scored particle with a pose; without one, the best-scored particle."""
    members = cluster[has_pose[cluster]] if has_pose[cluster].any() else cluster
    return np.intp(members[joined.scores[members].argmax()])


def _center(joined: Particles, cluster: NDArray[np.intp]) -> NDArray[np.float64]:
    weights = np.clip(joined.scores[cluster], 0, None).astype(np.float64)
    return np.average(joined.positions[cluster], axis=0, weights=weights if weights.any() else None)
