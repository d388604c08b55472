"""Connected regions of masks and label maps: one particle each, or several that touch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.volume import LabelMap, ScoreMap
from cryovox.picking.config import PickConfig, threshold_of
from cryovox.picking.exclude import Allowed, NearFaces
from cryovox.picking.peaks import SLAB, separate
from cryovox.picking.touching import pieces

Float = NDArray[np.float64]

LARGE = 1.3
"""Regions above this multiple of the usual volume may hold several particles."""
STEPS = 65535
"""Steps in which the score of a voxel is kept while its region is not known yet."""


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Regions of all labels: label (n,), voxels (n,), centroid in voxels (n, 3), mean score (n,)."""

    label: NDArray[np.integer[Any]]
    size: Float
    centre: Float
    score: Float

    def take(self, which: NDArray[Any]) -> Regions:
        return Regions(self.label[which], self.size[which], self.centre[which], self.score[which])


def pick_regions(
    labels: LabelMap, config: PickConfig, allowed: Allowed, near_faces: NearFaces
) -> tuple[Particles, int]:
    """Pick the regions of a label map; also how many were left out at the faces of the volume."""
    return _pick(labels, None, 0.0, config, (allowed, near_faces))


def pick_masks(
    scores: ScoreMap, config: PickConfig, allowed: Allowed, near_faces: NearFaces
) -> tuple[Particles, int]:
    """Pick the regions of score maps: each voxel goes to its best species, if that is good enough."""
    shape = scores.data.shape[1:]
    best = np.zeros(shape, np.uint16)
    winner = np.zeros(shape, np.uint8)
    low = [threshold_of(scores, species.name, config) for species in scores.species]
    for start, stop in _slabs(shape):
        _contest(scores, low, start, stop, winner[start:stop], best[start:stop])
    numbered = tuple(s.model_copy(update={"label": i}) for i, s in enumerate(scores.species, start=1))
    labels = LabelMap(winner, scores.voxel_size, numbered)
    return _pick(labels, best, scores.offset, config, (allowed, near_faces))


def _contest(
    scores: ScoreMap,
    low: list[float],
    start: int,
    stop: int,
    winner: NDArray[np.uint8],
    best: NDArray[np.uint16],
) -> None:
    """Fill in the best species, counted from 1, and its score; of equals the first wins."""
    top = np.full(winner.shape, -np.inf, np.float32)
    for channel, least in enumerate(low):
        score = np.asarray(scores.data[channel, start:stop], dtype=np.float32)
        better = score > top
        np.copyto(top, score, where=better)
        # a species that wins without reaching its threshold leaves the voxel to nobody
        winner[better] = 0
        winner[better & (score >= least)] = channel + 1
    np.copyto(best, np.rint(np.clip(top, 0, 1) * STEPS).astype(np.uint16), where=winner > 0)


def _pick(
    labels: LabelMap,
    best: NDArray[np.uint16] | None,
    offset: float,
    config: PickConfig,
    limits: tuple[Allowed, NearFaces],
) -> tuple[Particles, int]:
    """Regions, of fair size, cut where they touch, where they are allowed; best first."""
    if config.method == "mean-shift":
        from cryovox.picking.mean_shift import clusters

        split, regions = False, clusters(labels, best)
    else:
        ids, count = connected(labels.data)
        split, regions = config.split_touching, measure(labels.data, ids, count, best)
        boxes = ndimage.find_objects(ids) if split and count else []
    lists, at_faces = [], 0
    allowed, near_faces = limits
    for species, ball in _kinds(labels, regions):
        number = np.flatnonzero((regions.label == species.label) & (regions.size >= config.min_size * ball))
        if not len(number):
            continue
        found = regions.take(number)
        if split:
            large = found.size > LARGE * min(ball, float(np.median(found.size)))
            cut = [_cut(ids, i, boxes[i], best, ball) for i in number[large]]
            found = _join([found.take(~large), *cut], species.label)
            found = found.take(found.size >= config.min_size * ball)
        positions = offset + found.centre * labels.voxel_size
        keep = np.flatnonzero(allowed(positions))
        outer = near_faces(positions[keep], species.radius)
        at_faces += int(outer.sum())
        keep = keep[~outer]
        keep = keep[separate(positions[keep], found.score[keep], config.distance or 0.0, config.max_count)]
        lists.append(Particles.of(positions[keep], species.name, found.score[keep]))
    return concatenate(lists), at_faces


def _kinds(labels: LabelMap, regions: Regions) -> Iterator[tuple[Species, float]]:
    """Species of a label map, each with the volume of its ball in voxels."""
    claimed = {species.label for species in labels.species}
    for species in labels.species:
        yield species, _ball(species.radius / labels.voxel_size)
    for label in sorted(set(regions.label.tolist()) - claimed):
        usual = float(np.median(regions.size[regions.label == label]))
        radius = float(np.cbrt(0.75 * usual / np.pi)) * labels.voxel_size
        yield Species(name=str(label), label=label, radius=radius), usual


def _ball(radius: float) -> float:
    return 4 / 3 * np.pi * radius**3


def connected(data: NDArray[np.integer[Any]]) -> tuple[NDArray[np.integer[Any]], int]:
    """Number the 26-connected regions of equal label from 1; label 0 is nothing.

    Returns
    -------
    ids : (z, y, x) integer
    count : int
    """
    try:
        import cc3d
    except ImportError:
        return _connected_by_label(data)
    # cc3d asks for memory that it may write to, though it does not
    held = np.require(data, requirements=["C", "W"])
    ids, count = cc3d.connected_components(held, connectivity=26, return_N=True)
    return ids, int(count)


def _connected_by_label(data: NDArray[np.integer[Any]]) -> tuple[NDArray[np.integer[Any]], int]:
    ids = np.zeros(data.shape, np.int32)
    count = 0
    for value in np.unique(data):
        if value != 0:
            mine = data == value
            part, more = ndimage.label(mine, structure=np.ones((3, 3, 3), bool))
            np.copyto(ids, part + count, where=mine)
            count += more
    return ids, count


def measure(
    data: NDArray[np.integer[Any]],
    ids: NDArray[np.integer[Any]],
    count: int,
    best: NDArray[np.uint16] | None = None,
) -> Regions:
    """Label, size, centroid and mean score of every region, slab by slab."""
    label = np.zeros(count, np.intp)
    sums = np.zeros((5, count))
    for start, stop in _slabs(ids.shape):
        flat = ids[start:stop].ravel()
        voxel = np.flatnonzero(flat)
        region = flat[voxel].astype(np.intp) - 1
        label[region] = data[start:stop].ravel()[voxel]
        z, y, x = np.unravel_index(voxel, (stop - start, *ids.shape[1:]))
        score = None if best is None else best[start:stop].ravel()[voxel]
        for total, weights in zip(sums, (None, z + start, y, x, score), strict=True):
            total += np.bincount(region, weights=weights, minlength=count)
    return Regions(label, sums[0], (sums[1:4] / np.maximum(sums[0], 1)).T, _mean(best, sums[4], sums[0]))


def _mean(best: NDArray[np.uint16] | None, total: Float, size: Float) -> Float:
    return np.ones(len(size)) if best is None else total / (STEPS * np.maximum(size, 1))


def _cut(
    ids: NDArray[np.integer[Any]],
    region: int,
    box: tuple[slice, slice, slice],
    best: NDArray[np.uint16] | None,
    ball: float,
) -> Regions:
    """Pieces of one region (counted from 0) as regions without a label."""
    voxels, body = pieces(ids[box] == region + 1, float(np.cbrt(0.75 * ball / np.pi)))
    voxels = voxels + [side.start for side in box]
    size = np.bincount(body).astype(np.float64)
    centre = np.stack([np.bincount(body, weights=voxels[:, a]) / size for a in range(3)], axis=1)
    weights = None if best is None else best[tuple(voxels.T)]
    total = np.bincount(body, weights=weights).astype(np.float64)
    return Regions(np.zeros(len(size), np.intp), size, centre, _mean(best, total, size))


def _join(parts: list[Regions], label: int) -> Regions:
    size = np.concatenate([part.size for part in parts])
    centre = np.concatenate([part.centre for part in parts])
    score = np.concatenate([part.score for part in parts])
    return Regions(np.full(len(size), label), size, centre, score)


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """First and last planes of pieces of bounded size."""
    planes = max(1, SLAB // 4 // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        yield start, min(start + planes, shape[0])
