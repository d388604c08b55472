"""Mean-shift clustering of the voxels of a label map: how DeepFinder gets from voxels to particles.

Moebel et al. 2021 cluster all voxels that are not background at once, whatever their class, with one
bandwidth of about the radius of a particle; a cluster has the class that most of its voxels have, and small
ones are dropped by thresholds for each class. How seeds are laid out and when a walk ends is our
reconstruction: a seed for every cell of a grid as wide as the bandwidth that holds a voxel, until no walk
moves by more than a thousandth of the bandwidth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryovox.core.errors import RequestError
from cryovox.core.volume import LabelMap
from cryovox.picking.peaks import separate
from cryovox.picking.regions import STEPS, Regions

Float = NDArray[np.float64]

STEPS_OF_A_WALK = 300
AT_ONCE = 2000
"""Seeds whose neighbours are in memory at a time."""


def clusters(labels: LabelMap, best: NDArray[np.uint16] | None = None) -> Regions:
    """Cluster the voxels of a label map, with the mean radius of its species as the bandwidth.

    Parameters
    ----------
    labels
        With at least one species, whose radii are needed.
    best : (z, y, x)
        Score of every voxel, in steps of 1 / `STEPS`; 1 where None.

    Returns
    -------
    Regions
        The label of a cluster is that of most of its voxels, of equals the lowest; its centre is the
        end of the walk, where the voxels are densest.
    """
    if not labels.species:
        told = "mean shift walks by the radii of the particles, and this label map comes without"
        raise RequestError("--method", told, "name a dataset.yaml with radii by --dataset, or leave it out")
    bandwidth = float(np.mean([species.radius for species in labels.species])) / labels.voxel_size
    voxels = np.argwhere(labels.data)
    centre, cluster = mean_shift(voxels.astype(np.float64), bandwidth)
    at = tuple(voxels.T)
    kinds, kind = np.unique(labels.data[at], return_inverse=True)
    votes = np.zeros((len(centre), len(kinds)), np.intp)
    np.add.at(votes, (cluster, kind), 1)
    size = votes.sum(axis=1).astype(np.float64)
    score = np.ones(len(size))
    if best is not None:
        score = np.bincount(cluster, weights=best[at], minlength=len(size)) / (STEPS * np.maximum(size, 1))
    label = kinds[votes.argmax(axis=1)] if len(kinds) else np.zeros(0, np.intp)
    return Regions(label, size, centre, score)


def mean_shift(points: Float, bandwidth: float) -> tuple[Float, NDArray[np.intp]]:
    """Cluster points: walk from seeds to the mean of what lies within a bandwidth, until nothing moves.

    Flat kernel (Comaniciu and Meer 2002). Of ends that are closer than a bandwidth the one with the most
    points about it stays; a point belongs to the nearest end.

    Parameters
    ----------
    points : (n, 3)
    bandwidth : float
        In the same unit.

    Returns
    -------
    centres : (m, 3)
        Most points first.
    cluster : (n,) int
        Index of the centre of each point.
    """
    if not len(points):
        return np.zeros((0, 3)), np.zeros(0, np.intp)
    tree = KDTree(points)
    ends = np.unique(np.rint(points / bandwidth), axis=0) * bandwidth
    count = np.zeros(len(ends))
    walking = np.arange(len(ends))
    for _ in range(STEPS_OF_A_WALK):
        means, count[walking] = _means(tree, ends[walking], bandwidth)
        moved = np.linalg.norm(means - ends[walking], axis=1)
        ends[walking] = means
        walking = walking[moved > 1e-3 * bandwidth]
        if not len(walking):
            break
    centres = ends[separate(ends, count, bandwidth)]
    return centres, KDTree(centres).query(points)[1]


def _means(tree: KDTree, seeds: Float, bandwidth: float) -> tuple[Float, Float]:
    """Mean (n, 3) and number (n,) of the points within a bandwidth of each seed; each has some."""
    means, counts = np.empty_like(seeds), np.empty(len(seeds))
    for start in range(0, len(seeds), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        near = tree.query_ball_point(seeds[part], bandwidth, return_sorted=False)
        counts[part] = [len(some) for some in near]
        first = np.concatenate([[0], np.cumsum(counts[part])[:-1]]).astype(np.intp)
        sums = np.add.reduceat(tree.data[np.concatenate(near).astype(np.intp)], first, axis=0)
        means[part] = sums / counts[part, None]
    return means, counts
