"""Mean-shift clustering of the voxels of a label map, as in DeepFinder.

Moebel et al. 2021 cluster all voxels that are not background at once, whatever their class, with one
bandwidth of about the radius of a particle. A cluster has the class of most of its voxels, and small
clusters are dropped by a threshold for each class. The seeds and the stopping rule are our reconstruction:
there is a seed for every occupied cell of a grid as wide as the bandwidth, and the iterations stop when no
seed moves by more than a thousandth of the bandwidth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryovox.core.errors import RequestError
from cryovox.core.volume import LabelMap
from cryovox.picking.components import Regions, mean_score
from cryovox.picking.peaks import separate

Float = NDArray[np.float64]

MAX_ITERATIONS = 300
SEED_BATCH = 2000
"""Seeds whose neighbors are in memory at a time."""


def clusters(labels: LabelMap, best: NDArray[np.uint16] | None = None) -> Regions:
    """Cluster the voxels of a label map, with the mean radius of its species as the bandwidth.

    Parameters
    ----------
    labels
        With at least one species, whose radii are needed.
    best : (z, y, x)
        Score of every voxel, in steps of 1 / `SCORE_STEPS`; 1 where None.

    Returns
    -------
    Regions
        The label of a cluster is that of most of its voxels, of equals the lowest; its center is the
        point of convergence, where the voxels are densest.
    """
    if not labels.species:
        message = "mean-shift needs the radii of the particles, and this label map has none"
        raise RequestError(
            "--method", message, "name a dataset.yaml with radii by --dataset, or leave it out"
        )
    bandwidth = float(np.mean([species.radius for species in labels.species])) / labels.voxel_size
    voxels = np.argwhere(labels.data)
    center, cluster = mean_shift(voxels.astype(np.float64), bandwidth)
    index = tuple(voxels.T)
    values, value = np.unique(labels.data[index], return_inverse=True)
    votes = np.zeros((len(center), len(values)), np.intp)
    np.add.at(votes, (cluster, value), 1)
    size = votes.sum(axis=1).astype(np.float64)
    weights = None if best is None else best[index]
    total = np.bincount(cluster, weights=weights, minlength=len(size)).astype(np.float64)
    label = values[votes.argmax(axis=1)] if len(values) else np.zeros(0, np.intp)
    return Regions(label, size, center, mean_score(best, total, size))


def mean_shift(points: Float, bandwidth: float) -> tuple[Float, NDArray[np.intp]]:
    """Cluster points by mean shift with a flat kernel (Comaniciu and Meer 2002).

    Each seed moves to the mean of the points within a bandwidth until it converges. Of points of convergence
    that are closer than a bandwidth the one with the most neighbors stays; a point belongs to the nearest.

    Parameters
    ----------
    points : (n, 3)
    bandwidth : float
        In the same unit.

    Returns
    -------
    centers : (m, 3)
        Most points first.
    cluster : (n,) int
        Index of the center of each point.
    """
    if not len(points):
        return np.zeros((0, 3)), np.zeros(0, np.intp)
    tree = KDTree(points)
    modes = np.unique(np.rint(points / bandwidth), axis=0) * bandwidth
    count = np.zeros(len(modes))
    active = np.arange(len(modes))
    for _ in range(MAX_ITERATIONS):
        means, count[active] = _means(tree, modes[active], bandwidth)
        shift = np.linalg.norm(means - modes[active], axis=1)
        modes[active] = means
        active = active[shift > 1e-3 * bandwidth]
        if not len(active):
            break
    centers = modes[separate(modes, count, bandwidth)]
    return centers, KDTree(centers).query(points)[1]


def _means(tree: KDTree, seeds: Float, bandwidth: float) -> tuple[Float, Float]:
    """Mean (n, 3) and number (n,) of the points within a bandwidth of each seed; every seed has some."""
    means, counts = np.empty_like(seeds), np.empty(len(seeds))
    for start in range(0, len(seeds), SEED_BATCH):
        batch = slice(start, start + SEED_BATCH)
        neighbors = tree.query_ball_point(seeds[batch], bandwidth, return_sorted=False)
        counts[batch] = [len(indices) for indices in neighbors]
        first = np.concatenate([[0], np.cumsum(counts[batch])[:-1]]).astype(np.intp)
        sums = np.add.reduceat(tree.data[np.concatenate(neighbors).astype(np.intp)], first, axis=0)
        means[batch] = sums / counts[batch, None]
    return means, counts
