"""Particles of any size from the score maps of a detector with one channel for each range of diameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryovox.core.particles import Particles
from cryovox.core.volume import ScoreMap
from cryovox.picking.bounds import Bounds
from cryovox.picking.config import PickConfig, threshold_of
from cryovox.picking.peaks import local_maxima

Float = NDArray[np.float64]


def pick_sizes(scores: ScoreMap, config: PickConfig, bounds: Bounds) -> tuple[Particles, int]:
    """Pick the peaks of the sum of all channels; the map is read slab by slab.

    A particle near the limit of two ranges scores in both channels, so their sum, at most 1, is its score. A
    pick has the name of the strongest channel, whose threshold it must reach. Weaker picks within its radius,
    or within `config.distance`, are dropped.

    Returns
    -------
    picks : Particles
        Best first.
    near_edge : int
        Number of picks that were dropped near the edges of the volume.
    """

    def read(start: int, stop: int) -> NDArray[np.floating]:
        slab = np.asarray(scores.data[:, start:stop], np.float32)
        return np.minimum(slab.sum(axis=0), 1.0)

    thresholds = np.array([threshold_of(scores, kind.name, config) for kind in scores.species])
    index, values = local_maxima(read, scores.data.shape[1:], float(thresholds.min()))
    classes = _strongest(scores, index)
    positions = scores.offset + index * scores.voxel_size
    kept = np.flatnonzero(bounds.contain(positions) & (values >= thresholds[classes]))
    kept = kept[np.lexsort((*positions[kept].T[::-1], -values[kept]))]
    radii = np.array([kind.radius for kind in scores.species])
    distances = radii[classes] if config.distance is None else np.full(len(classes), config.distance)
    kept = kept[_apart(positions[kept], distances[kept])]
    names = np.array([kind.name for kind in scores.species])[classes]
    outer = bounds.near_edge(positions[kept], float(radii.min()))
    near_edge, kept = int(outer.sum()), kept[~outer]
    kept = kept[_first(names[kept], config.max_count)]
    return Particles.of(positions[kept], names[kept].tolist(), values[kept]), near_edge


def _strongest(scores: ScoreMap, index: Float) -> NDArray[np.intp]:
    """Channel with the highest score at positions (n, 3) in voxels of the map."""
    z, y, x = np.clip(np.rint(index).astype(np.intp), 0, np.array(scores.data.shape[1:]) - 1).T
    strongest = np.zeros(len(index), np.intp)
    for plane in np.unique(z):
        at = z == plane
        strongest[at] = np.asarray(scores.data[:, plane])[:, y[at], x[at]].argmax(axis=0)
    return strongest


def _first(names: NDArray[np.str_], count: int | None) -> NDArray[np.bool_]:
    """Which elements are among the first *count* of their name; all where None."""
    kept = np.ones(len(names), bool)
    for name in np.unique(names) if count is not None else ():
        kept[np.flatnonzero(names == name)[count:]] = False
    return kept


def _apart(positions: Float, distances: Float) -> NDArray[np.bool_]:
    """Which points to keep, in their order, so that none is nearer to an earlier one than its distance."""
    kept = np.ones(len(positions), bool)
    if not len(positions):
        return kept
    tree = KDTree(positions)
    for i, (position, distance) in enumerate(zip(positions, distances, strict=True)):
        if kept[i]:
            near = np.array(tree.query_ball_point(position, distance))
            kept[near[near > i]] = False
    return kept
