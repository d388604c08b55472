"""Pick the connected regions of masks and label maps, split into touching particles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.volume import LabelMap, ScoreMap
from cryovox.picking.bounds import Bounds
from cryovox.picking.components import (
    SCORE_STEPS,
    Regions,
    connected_components,
    mean_score,
    measure,
    slabs,
)
from cryovox.picking.config import PickConfig, threshold_of
from cryovox.picking.mean_shift import clusters
from cryovox.picking.peaks import separate
from cryovox.picking.touching import split_region

LARGE = 1.3
"""Regions above this multiple of the usual volume may hold several particles."""


def pick_regions(labels: LabelMap, config: PickConfig, bounds: Bounds) -> tuple[Particles, int]:
    """Pick the regions of a label map.

    Returns
    -------
    picks : Particles
        Best first.
    near_edge : int
        Number of picks that were dropped near the edges of the volume.
    """
    return _pick(labels, None, 0.0, config, bounds)


def pick_masks(scores: ScoreMap, config: PickConfig, bounds: Bounds) -> tuple[Particles, int]:
    """Pick the regions of score maps: each voxel goes to its best species, if that reaches its threshold.

    Returns
    -------
    picks : Particles
        Best first.
    near_edge : int
        Number of picks that were dropped near the edges of the volume.
    """
    shape = scores.data.shape[1:]
    best = np.zeros(shape, np.uint16)
    winner = np.zeros(shape, np.uint8)
    thresholds = [threshold_of(scores, species.name, config) for species in scores.species]
    for start, stop in slabs(shape):
        _assign(scores, thresholds, start, stop, winner[start:stop], best[start:stop])
    numbered = tuple(s.model_copy(update={"label": i}) for i, s in enumerate(scores.species, start=1))
    labels = LabelMap(winner, scores.voxel_size, numbered)
    return _pick(labels, best, scores.offset, config, bounds)


def _assign(
    scores: ScoreMap,
    thresholds: list[float],
    start: int,
    stop: int,
    winner: NDArray[np.uint8],
    best: NDArray[np.uint16],
) -> None:
    """Fill in the best species, counted from 1, and its score; of equals the first wins."""
    top = np.full(winner.shape, -np.inf, np.float32)
    for channel, threshold in enumerate(thresholds):
        score = np.asarray(scores.data[channel, start:stop], dtype=np.float32)
        better = score > top
        np.copyto(top, score, where=better)
        # a species that wins without reaching its threshold leaves the voxel to the background
        winner[better] = 0
        winner[better & (score >= threshold)] = channel + 1
    np.copyto(best, np.rint(np.clip(top, 0, 1) * SCORE_STEPS).astype(np.uint16), where=winner > 0)


def _pick(
    labels: LabelMap, best: NDArray[np.uint16] | None, offset: float, config: PickConfig, bounds: Bounds
) -> tuple[Particles, int]:
    """Regions of sufficient size inside the bounds, split where particles touch; best first."""
    labels = _without_extended(labels)
    if config.method == "mean-shift":
        split, regions = False, clusters(labels, best)
    else:
        ids, count = connected_components(labels.data)
        split, regions = config.split_touching, measure(labels.data, ids, count, best)
        boxes = ndimage.find_objects(ids) if split and count else []
    picks, near_edge = [], 0
    for species, usual_size in _species_sizes(labels, regions):
        min_size = config.min_size * usual_size
        number = np.flatnonzero((regions.label == species.label) & (regions.size >= min_size))
        if not len(number):
            continue
        selected = regions.take(number)
        if split:
            large = selected.size > LARGE * min(usual_size, float(np.median(selected.size)))
            pieces = [_split(ids, i, boxes[i], best, usual_size) for i in number[large]]
            selected = _join([selected.take(~large), *pieces], species.label)
            selected = selected.take(selected.size >= min_size)
        positions = offset + selected.center * labels.voxel_size
        keep = np.flatnonzero(bounds.contain(positions))
        outer = bounds.near_edge(positions[keep], species.radius)
        near_edge += int(outer.sum())
        keep = keep[~outer]
        distance = config.distance or 0.0
        keep = keep[separate(positions[keep], selected.score[keep], distance, config.max_count)]
        picks.append(Particles.of(positions[keep], species.name, selected.score[keep]))
    return concatenate(picks), near_edge


def _without_extended(labels: LabelMap) -> LabelMap:
    """The labels of particles; membranes and other extended structures become background."""
    extended = [species.label for species in labels.species if species.extended]
    if not extended:
        return labels
    data = np.asarray(labels.data)
    species = tuple(kind for kind in labels.species if not kind.extended)
    return replace(labels, data=np.where(np.isin(data, extended), 0, data), species=species)


def _species_sizes(labels: LabelMap, regions: Regions) -> Iterator[tuple[Species, float]]:
    """Species of a label map, each with the volume in voxels of a sphere of its radius.

    Labels without a species are named by their number, and measured by the median of their regions.
    """
    named = {species.label for species in labels.species}
    for species in labels.species:
        yield species, _sphere_volume(species.radius / labels.voxel_size)
    for label in sorted(set(regions.label.tolist()) - named):
        usual = float(np.median(regions.size[regions.label == label]))
        radius = float(np.cbrt(0.75 * usual / np.pi)) * labels.voxel_size
        yield Species(name=str(label), label=label, radius=radius), usual


def _sphere_volume(radius: float) -> float:
    return 4 / 3 * np.pi * radius**3


def _split(
    ids: NDArray[np.integer],
    region: int,
    box: tuple[slice, slice, slice],
    best: NDArray[np.uint16] | None,
    usual_size: float,
) -> Regions:
    """Pieces of one region (counted from 0) as regions without a label."""
    voxels, body = split_region(ids[box] == region + 1, float(np.cbrt(0.75 * usual_size / np.pi)))
    voxels = voxels + [axis.start for axis in box]
    size = np.bincount(body).astype(np.float64)
    center = np.stack([np.bincount(body, weights=voxels[:, a]) / size for a in range(3)], axis=1)
    weights = None if best is None else best[tuple(voxels.T)]
    total = np.bincount(body, weights=weights).astype(np.float64)
    return Regions(np.zeros(len(size), np.intp), size, center, mean_score(best, total, size))


def _join(parts: list[Regions], label: int) -> Regions:
    size = np.concatenate([part.size for part in parts])
    center = np.concatenate([part.center for part in parts])
    score = np.concatenate([part.score for part in parts])
    return Regions(np.full(len(size), label), size, center, score)
