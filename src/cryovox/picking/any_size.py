"""Particles of any size from the heatmaps of a detector with one channel for each class of sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap
from cryovox.picking import PickConfig, pick


def pick_any_size(scores: ScoreMap, threshold: float, border: float | None = None) -> Particles:
    """Pick the peaks of the sum of all channels.

    A particle near the limit of two classes scores in both channels, so their sum is its score. A pick gets
    the class of the strongest channel; weaker picks within the radius of that class are dropped.

    Parameters
    ----------
    scores
        Heatmaps whose species are classes of sizes.
    threshold
        Minimum score of a pick.
    border
        Exclude picks within this distance of the volume edge, in Å; by default half the smallest radius.

    Returns
    -------
    Particles
        Best first.
    """
    data = np.asarray(scores.data[:], np.float32)
    total = np.minimum(data.sum(axis=0, keepdims=True), 1.0)
    smallest = min(kind.radius for kind in scores.species)
    any_kind = (Species(name="particle", label=1, radius=smallest),)
    peaks = pick(
        replace(scores, data=total, species=any_kind, thresholds={}),
        PickConfig(threshold=threshold, border=border),
    ).sorted()
    at = np.rint((peaks.positions - scores.offset) / scores.voxel_size).astype(np.intp)
    z, y, x = np.clip(at, 0, np.array(data.shape[1:]) - 1).T
    classes = data[:, z, y, x].argmax(axis=0)
    radii = np.array([kind.radius for kind in scores.species])[classes]
    names = np.array([kind.name for kind in scores.species])[classes]
    kept = _apart(peaks.positions, radii)
    return Particles.of(peaks.positions[kept], names[kept].tolist(), peaks.scores[kept])


def _apart(positions: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points to keep, in their order, so that none lies within the radius of an earlier one."""
    kept = np.ones(len(positions), bool)
    if not len(positions):
        return kept
    tree = KDTree(positions)
    for i, (position, radius) in enumerate(zip(positions, radii, strict=True)):
        if kept[i]:
            near = np.array(tree.query_ball_point(position, radius))
            kept[near[near > i]] = False
    return kept
