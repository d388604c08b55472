"""Peaks of heatmaps: strict local maxima, sub-voxel fits, and a minimum distance."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import ScoreMap
from cryovox.picking.bounds import Bounds
from cryovox.picking.config import PickConfig, threshold_of

Float = NDArray[np.float64]
Index = NDArray[np.intp]
Read = Callable[[int, int], NDArray[np.floating]]

SLAB = 1 << 24
"""Voxels read at once."""
_NEIGHBORS = np.array(list(product((-1, 0, 1), repeat=3)))
_DESIGN = np.concatenate([np.ones((27, 1)), _NEIGHBORS, _NEIGHBORS**2], axis=1)
_PRODUCTS = np.einsum("ki,kj->kij", _DESIGN, _DESIGN).reshape(27, 49)


def pick_peaks(scores: ScoreMap, config: PickConfig, bounds: Bounds) -> tuple[Particles, int]:
    """Pick the peaks of every channel of a heatmap; one channel is read at a time, slab by slab.

    Picks of a species keep a minimum distance: `config.distance`, or the radius of the species. With
    `config.exclusive`, the weaker of two picks of different species that are closer than the smaller of
    their radii is dropped if the ratio of their scores reaches `config.overlap_ratio`.

    Returns
    -------
    picks : Particles
        Best first within each species.
    near_edge : int
        Number of picks that were dropped near the edges of the volume.
    """
    picks, strengths = [], []
    near_edge = 0
    for channel, species in enumerate(scores.species):

        def read(start: int, stop: int, channel: int = channel) -> NDArray[np.floating]:
            return np.asarray(scores.data[channel, start:stop])

        threshold = threshold_of(scores, species.name, config)
        index, values = local_maxima(read, scores.data.shape[1:], threshold)
        positions = scores.offset + index * scores.voxel_size
        keep = np.flatnonzero(bounds.contain(positions))
        distance = species.radius if config.distance is None else config.distance
        outer = bounds.near_edge(positions[keep], species.radius)
        near_edge += len(separate(positions[keep[outer]], values[keep[outer]], distance))
        keep = keep[~outer]
        keep = keep[separate(positions[keep], values[keep], distance, config.max_count)]
        picks.append(Particles.of(positions[keep], species.name, values[keep]))
        strengths.append(values[keep] / max(threshold, 1e-6))
    particles = concatenate(picks)
    if not config.exclusive or len(picks) < 2:
        return particles, near_edge
    radii = {species.name: species.radius for species in scores.species}
    kept = _without_overlaps(particles, np.concatenate(strengths), radii, config.overlap_ratio)
    return particles.take(kept), near_edge


def _without_overlaps(
    particles: Particles, strengths: Float, radii: dict[str, float], ratio: float
) -> NDArray[np.bool_]:
    """Which particles to keep so that none overlaps one of another species that is *ratio* times stronger."""
    radius = np.array([radii[str(name)] for name in particles.species])
    kept = np.ones(len(particles), dtype=bool)
    if len(particles) < 2:
        return kept
    pairs = KDTree(particles.positions).query_pairs(float(radius.max()), output_type="ndarray")
    gap = np.linalg.norm(particles.positions[pairs[:, 0]] - particles.positions[pairs[:, 1]], axis=1)
    differ = particles.species[pairs[:, 0]] != particles.species[pairs[:, 1]]
    pairs = pairs[differ & (gap < np.minimum(radius[pairs[:, 0]], radius[pairs[:, 1]]))]
    both = np.sort(strengths[pairs], axis=1)
    pairs = pairs[both[:, 1] >= ratio * both[:, 0]]
    strong = strengths[pairs[:, 0]] >= strengths[pairs[:, 1]]
    order = np.argsort(-np.maximum(strengths[pairs[:, 0]], strengths[pairs[:, 1]]), kind="stable")
    for winner, loser in zip(
        np.where(strong, pairs[:, 0], pairs[:, 1])[order],
        np.where(strong, pairs[:, 1], pairs[:, 0])[order],
        strict=True,
    ):
        if kept[winner]:
            kept[loser] = False
    return kept


def local_maxima(
    read: Read, shape: tuple[int, int, int], threshold: float, voxels: int = SLAB
) -> tuple[Float, NDArray[np.float32]]:
    """Find the maxima of a map over the 26 neighbors, with sub-voxel centers.

    A plateau is one maximum, at the mean of its rim. A constant map has no maximum.

    Parameters
    ----------
    read
        Returns the planes from start to stop of the map.
    shape
        Shape of the map.
    threshold
        Minimum value of a maximum.
    voxels
        Approximate number of voxels in memory; the result does not depend on it.

    Returns
    -------
    index : (n, 3) float64
        Centers (z, y, x) in voxels.
    values : (n,) float32
        Value of the highest voxel.
    """
    planes = max(1, voxels // max(1, shape[1] * shape[2]))
    parts = [_slab(read, shape, start, planes, threshold) for start in range(0, shape[0], planes)]
    if not parts:
        return np.zeros((0, 3)), np.zeros(0, np.float32)
    voxel, offset, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _merge_plateaus(voxel, offset, values)


def separate(
    positions: Float, scores: NDArray[np.floating], distance: float, count: int | None = None
) -> Index:
    """Keep the best of the points that are closer than a distance: greedy non-maximum suppression.

    Parameters
    ----------
    positions : (n, 3)
        In any unit.
    scores : (n,)
        Ties are broken by position, so the order of the list does not matter.
    distance
        Minimum distance between two points that are kept, in the same unit.
    count
        Maximum number of points to keep.

    Returns
    -------
    kept : (m,) int
        Best first.
    """
    order = np.lexsort((*positions.T[::-1], -scores))
    if distance <= 0 or len(order) < 2:
        return order[:count]
    kept: Index = order[:0]
    for start in range(0, len(order), 20_000):
        fresh = order[start : start + 20_000]
        if len(kept):
            gap = KDTree(positions[kept]).query(positions[fresh], distance_upper_bound=distance)[0]
            fresh = fresh[gap >= distance]
        kept = np.concatenate([kept, fresh[_greedy(positions[fresh], distance)]])
        if count is not None and len(kept) >= count:
            break
    return kept[:count]


def _greedy(points: Float, distance: float) -> NDArray[np.bool_]:
    """Which points remain when each, in order, removes all later ones that are too close."""
    free = np.ones(len(points), dtype=bool)
    kept = np.zeros(len(points), dtype=bool)
    if len(points) < 2:
        return free
    # the tree includes its radius; the rule does not
    pairs = KDTree(points).query_pairs(np.nextafter(distance, 0), output_type="ndarray")
    while len(pairs):
        blocked = np.zeros(len(points), dtype=bool)
        blocked[pairs[:, 1]] = True
        best = free & ~blocked
        kept |= best
        free &= ~best
        free[pairs[best[pairs[:, 0]], 1]] = False
        pairs = pairs[free[pairs].all(axis=1)]
    return kept | free


def _slab(
    read: Read, shape: tuple[int, int, int], start: int, planes: int, threshold: float
) -> tuple[Index, Float, NDArray[np.float32]]:
    """Voxels, sub-voxel offsets and values of the maxima of some planes."""
    stop = min(start + planes, shape[0])
    low, high = max(0, start - 1), min(shape[0], stop + 1)
    sides = (stop - start + 2, shape[1] + 2, shape[2] + 2)
    block = np.full(sides, -np.inf, dtype=np.float32)
    first = low - start + 1
    block[first : first + high - low, 1:-1, 1:-1] = read(low, high)
    flat, plane = block.ravel(), sides[1] * sides[2]
    steps = _NEIGHBORS @ np.array([plane, sides[2], 1])
    least = max(float(threshold), float(np.finfo(np.float32).min))
    keep = plane + np.flatnonzero(flat[plane:-plane] >= least)
    for step in np.delete(steps, 13):
        keep = keep[flat[keep] >= flat[keep + step]]
    around = flat[keep[:, None] + steps]
    strict = ((around < around[:, 13:14]) & np.isfinite(around)).any(axis=1)
    keep, around = keep[strict], around[strict]
    voxel = np.stack(np.unravel_index(keep, sides), axis=1) - 1
    voxel[:, 0] += start
    return voxel, fit(around.astype(np.float64)), around[:, 13]


def fit(around: Float) -> Float:
    """Center of a Gaussian fitted to the 27 voxels around a maximum.

    The logarithm of a Gaussian is a parabola along each axis. It is fitted by least squares with the
    squared values as weights, which compensates the effect of the logarithm on the noise. Values that are
    not positive, or lie outside the map, have no weight. Along an axis without values on both sides the
    center stays at the voxel.

    Parameters
    ----------
    around : (n, 27)
        Values in the order (z, y, x) of the neighborhood, the maximum in the middle.

    Returns
    -------
    offset : (n, 3)
        (z, y, x) in voxels, within half a voxel.
    """
    peak = around[:, 13:14]
    used = np.isfinite(around) & (around > 0) & (peak > 0)
    ratio = np.where(used, around, 1.0) / np.where(used, peak, 1.0)
    weights = np.where(used, np.square(ratio), 0.0)
    normal = (weights @ _PRODUCTS).reshape(-1, 7, 7) + 1e-9 * np.eye(7)
    right = (weights * np.log(ratio)) @ _DESIGN
    solution = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    slope, curvature = solution[:, 1:4], -2 * solution[:, 4:]
    both_sides = [
        used[:, _NEIGHBORS[:, a] < 0].any(axis=1) & used[:, _NEIGHBORS[:, a] > 0].any(axis=1)
        for a in range(3)
    ]
    valid = np.stack(both_sides, axis=1) & (curvature > 1e-6)
    offset = np.where(valid, slope / np.where(valid, curvature, 1.0), 0.0)
    # rounded, so that the result does not depend on the number of peaks fitted at once
    return np.round(np.clip(offset, -0.5, 0.5), 6)


def _merge_plateaus(
    voxel: Index, offset: Float, values: NDArray[np.float32]
) -> tuple[Float, NDArray[np.float32]]:
    """Merge neighboring maxima: they are equal, so they are the rim of one plateau."""
    center = voxel + offset
    if len(voxel) < 2:
        return center, values
    pairs = KDTree(voxel).query_pairs(1.8, output_type="ndarray")
    if not len(pairs):
        return center, values
    n = len(voxel)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    groups, group = connected_components(graph, directed=False)
    sizes = np.bincount(group, minlength=groups)
    means = [np.bincount(group, weights=center[:, a], minlength=groups) / sizes for a in range(3)]
    top = np.zeros(groups, np.float32)
    top[group] = values
    return np.stack(means, axis=1), top
