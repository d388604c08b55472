"""Peaks of heatmaps: strict local maxima, a fit between the voxels, and a least distance."""

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
from cryovox.picking.config import PickConfig, threshold_of
from cryovox.picking.exclude import Allowed, NearFaces

Float = NDArray[np.float64]
Index = NDArray[np.intp]
Read = Callable[[int, int], NDArray[np.floating]]

SLAB = 1 << 24
"""Voxels that are read at once."""
_AROUND = np.array(list(product((-1, 0, 1), repeat=3)))
_DESIGN = np.concatenate([np.ones((27, 1)), _AROUND, _AROUND**2], axis=1)
_PRODUCTS = np.einsum("ki,kj->kij", _DESIGN, _DESIGN).reshape(27, 49)


def pick_peaks(
    scores: ScoreMap, config: PickConfig, allowed: Allowed, near_faces: NearFaces
) -> tuple[Particles, int]:
    """Pick the peaks of every channel of a heatmap; one channel is read at a time, slab by slab.

    Two particles of a species keep their distance: `config.distance`, or the radius of the species.
    Of two species closer than the smaller of their radii the one that is clearly outvoted is dropped, if
    `config.exclusive`.

    Returns
    -------
    particles
    at_faces : int
        How many were left out since they lie too close to a face of the volume.
    """
    found = []
    at_faces = 0
    claims = []
    for channel, species in enumerate(scores.species):

        def read(start: int, stop: int, channel: int = channel) -> NDArray[np.floating]:
            return np.asarray(scores.data[channel, start:stop])

        low = threshold_of(scores, species.name, config)
        index, values = local_maxima(read, scores.data.shape[1:], low)
        positions = scores.offset + index * scores.voxel_size
        keep = np.flatnonzero(allowed(positions))
        distance = species.radius if config.distance is None else config.distance
        cut = near_faces(positions[keep], species.radius)
        at_faces += len(separate(positions[keep[cut]], values[keep[cut]], distance))
        keep = keep[~cut]
        keep = keep[separate(positions[keep], values[keep], distance, config.max_count)]
        found.append(Particles.of(positions[keep], species.name, values[keep]))
        claims.append(values[keep] / max(low, 1e-6))
    particles = concatenate(found)
    if not config.exclusive or len(found) < 2:
        return particles, at_faces
    radii = {species.name: species.radius for species in scores.species}
    kept = _uncontested(particles, np.concatenate(claims), radii, config.outvoted)
    return particles.take(kept), at_faces


def _uncontested(
    particles: Particles, claims: Float, radii: dict[str, float], times: float
) -> NDArray[np.bool_]:
    """Which particles no claim of another species, so many times as strong, lies upon."""
    reach = np.array([radii[str(name)] for name in particles.species])
    kept = np.ones(len(particles), dtype=bool)
    if len(particles) < 2:
        return kept
    pairs = KDTree(particles.positions).query_pairs(float(reach.max()), output_type="ndarray")
    gap = np.linalg.norm(particles.positions[pairs[:, 0]] - particles.positions[pairs[:, 1]], axis=1)
    rivals = particles.species[pairs[:, 0]] != particles.species[pairs[:, 1]]
    pairs = pairs[rivals & (gap < np.minimum(reach[pairs[:, 0]], reach[pairs[:, 1]]))]
    both = np.sort(claims[pairs], axis=1)
    pairs = pairs[both[:, 1] >= times * both[:, 0]]
    strong = claims[pairs[:, 0]] >= claims[pairs[:, 1]]
    order = np.argsort(-np.maximum(claims[pairs[:, 0]], claims[pairs[:, 1]]), kind="stable")
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
    """Find the maxima of a map over the 26 neighbours, with their centres between the voxels.

    A flat top is one maximum, at the mean of its rim; a map that is flat throughout has none.

    Parameters
    ----------
    read
        Gives the planes from start to stop of the map.
    shape
        Of the map.
    threshold
        Lowest value of a maximum.
    voxels
        About as many are held at once; the result does not depend on it.

    Returns
    -------
    index : (n, 3) float64
        Centres (z, y, x) in voxels.
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
    """Keep the best of those that are closer than a distance: the greedy rule, computed in rounds.

    Parameters
    ----------
    positions : (n, 3)
        In any unit.
    scores : (n,)
        Ties are broken by position, so the order of the list plays no part.
    distance
        Least distance between two that are kept, in the same unit.
    count
        Most to keep.

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
    """Which points survive when each, in order, removes all later ones that are too close."""
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
    """Maxima of some planes as voxels, offsets from them, and values."""
    stop = min(start + planes, shape[0])
    low, high = max(0, start - 1), min(shape[0], stop + 1)
    sides = (stop - start + 2, shape[1] + 2, shape[2] + 2)
    block = np.full(sides, -np.inf, dtype=np.float32)
    first = low - start + 1
    block[first : first + high - low, 1:-1, 1:-1] = read(low, high)
    flat, plane = block.ravel(), sides[1] * sides[2]
    steps = _AROUND @ np.array([plane, sides[2], 1])
    least = max(float(threshold), float(np.finfo(np.float32).min))
    keep = plane + np.flatnonzero(flat[plane:-plane] >= least)
    for step in np.delete(steps, 13):
        keep = keep[flat[keep] >= flat[keep + step]]
    around = flat[keep[:, None] + steps]
    falls = ((around < around[:, 13:14]) & np.isfinite(around)).any(axis=1)
    keep, around = keep[falls], around[falls]
    voxel = np.stack(np.unravel_index(keep, sides), axis=1) - 1
    voxel[:, 0] += start
    return voxel, fit(around.astype(np.float64)), around[:, 13]


def fit(around: Float) -> Float:
    """Centre of the Gaussian through the 27 voxels around a maximum.

    The logarithm of a Gaussian is a parabola along each axis; it is fitted by least squares with the
    squared values as weights, which undoes what the logarithm does to the noise. Values that are not
    positive, or lie outside the map, have no weight; along an axis that is then open the centre
    stays at the voxel.

    Parameters
    ----------
    around : (n, 27)
        Values in the order (z, y, x) of the neighbourhood, the maximum in the middle.

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
    slope, bend = solution[:, 1:4], -2 * solution[:, 4:]
    closed = [
        used[:, _AROUND[:, a] < 0].any(axis=1) & used[:, _AROUND[:, a] > 0].any(axis=1) for a in range(3)
    ]
    known = np.stack(closed, axis=1) & (bend > 1e-6)
    offset = np.where(known, slope / np.where(known, bend, 1.0), 0.0)
    # rounded, lest the last bits tell how many peaks were fitted at once
    return np.round(np.clip(offset, -0.5, 0.5), 6)


def _merge_plateaus(
    voxel: Index, offset: Float, values: NDArray[np.float32]
) -> tuple[Float, NDArray[np.float32]]:
    """Neighbouring maxima are equal, so they are the rim of one flat top."""
    centre = voxel + offset
    if len(voxel) < 2:
        return centre, values
    pairs = KDTree(voxel).query_pairs(1.8, output_type="ndarray")
    if not len(pairs):
        return centre, values
    n = len(voxel)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    groups, group = connected_components(graph, directed=False)
    sizes = np.bincount(group, minlength=groups)
    means = [np.bincount(group, weights=centre[:, a], minlength=groups) / sizes for a in range(3)]
    top = np.zeros(groups, np.float32)
    top[group] = values
    return np.stack(means, axis=1), top
