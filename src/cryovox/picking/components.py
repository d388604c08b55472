"""Connected components of label maps, and their sizes, centroids and mean scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.picking.peaks import SLAB

Float = NDArray[np.float64]

SCORE_STEPS = 65535
"""Steps in which the score of a voxel is kept until its region is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Regions of all labels: label (n,), voxels (n,), centroid in voxels (n, 3), mean score (n,)."""

    label: NDArray[np.integer[Any]]
    size: Float
    center: Float
    score: Float

    def take(self, which: NDArray[Any]) -> Regions:
        return Regions(self.label[which], self.size[which], self.center[which], self.score[which])


def connected_components(data: NDArray[np.integer[Any]]) -> tuple[NDArray[np.integer[Any]], int]:
    """Number the 26-connected regions of equal label from 1; label 0 is background.

    Returns
    -------
    ids : (z, y, x) integer
    count : int
    """
    import cc3d

    # cc3d requires writable memory, although it does not write to it
    writable = np.require(data, requirements=["C", "W"])
    ids, count = cc3d.connected_components(writable, connectivity=26, return_N=True)
    return ids, int(count)


def measure(
    data: NDArray[np.integer[Any]],
    ids: NDArray[np.integer[Any]],
    count: int,
    best: NDArray[np.uint16] | None = None,
) -> Regions:
    """Measure every region, slab by slab.

    Parameters
    ----------
    data : (z, y, x)
        Labels.
    ids : (z, y, x)
        Numbers of the regions, from 1.
    count
        Number of regions.
    best : (z, y, x)
        Score of every voxel, in steps of 1 / `SCORE_STEPS`; 1 where None.
    """
    label = np.zeros(count, np.intp)
    sums = np.zeros((5, count))
    for start, stop in slabs(ids.shape):
        flat = ids[start:stop].ravel()
        voxel = np.flatnonzero(flat)
        region = flat[voxel].astype(np.intp) - 1
        label[region] = data[start:stop].ravel()[voxel]
        z, y, x = np.unravel_index(voxel, (stop - start, *ids.shape[1:]))
        score = None if best is None else best[start:stop].ravel()[voxel]
        for total, weights in zip(sums, (None, z + start, y, x, score), strict=True):
            total += np.bincount(region, weights=weights, minlength=count)
    center = (sums[1:4] / np.maximum(sums[0], 1)).T
    return Regions(label, sums[0], center, mean_score(best, sums[4], sums[0]))


def mean_score(best: NDArray[np.uint16] | None, total: Float, size: Float) -> Float:
    """Mean score of regions from the sum over their voxels; 1 where there are no scores."""
    return np.ones(len(size)) if best is None else total / (SCORE_STEPS * np.maximum(size, 1))


def slabs(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """First and last planes of slabs of bounded size."""
    planes = max(1, SLAB // 4 // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        yield start, min(start + planes, shape[0])
