"""Validation of a network on held-out subtomograms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cryovox.core.volume import ScoreMap
from cryovox.data.cubes import Cubes
from cryovox.data.patches import TargetSpec
from cryovox.data.regions import Region
from cryovox.inference.cubes import argmax_labels, score_cubes
from cryovox.inference.stream import TilePlan
from cryovox.metrics.segmentation import confusion, dice, iou, pooled
from cryovox.training.evaluation.held_out import (
    Metrics,
    blob_picker_metrics,
    detection_metrics,
    dice_metrics,
    half_dice_metrics,
    halves,
    with_score,
)
from cryovox.training.evaluation.thresholds import MIN_HEIGHT
from cryovox.training.evaluation.validate import ScoredRegion, region_picks


def validate_cubes(network: nn.Module, cubes: Cubes, spec: TargetSpec, tiles: TilePlan) -> dict[str, float]:
    """Score held-out subtomograms, many at a time.

    Returns
    -------
    dict
        ``score`` decides which weights are kept: mean Dice over species for masks, mean recall at 1, 2
        and 4 candidates per annotated particle for heatmaps.
    """
    judge = _heatmaps if spec.kind == "heatmap" else _masks
    return with_score(judge(network, cubes, spec, tiles))


def blob_picker_metrics_of_cubes(cubes: Cubes, spec: TargetSpec) -> Metrics:
    """What a DoG picker scores on the same subtomograms."""
    return blob_picker_metrics(_sources(cubes, spec), cubes.species, spec.kind)


def _sources(cubes: Cubes, spec: TargetSpec) -> list[Region]:
    return [cubes.region(i, spec) for i in range(len(cubes))]


def _masks(network: nn.Module, cubes: Cubes, spec: TargetSpec, tiles: TilePlan) -> Metrics:
    assert cubes.labels is not None
    count, sources = len(cubes.species) + 1, _sources(cubes, spec)
    parts = halves(sources, whole=True)
    half = np.zeros(len(cubes), np.intp)
    half[[i for i, _ in parts[1]]] = 1
    totals = np.zeros((2, count, count), np.int64)
    for which, scores in score_cubes(network, _Chosen(cubes), tiles):
        predicted, true = argmax_labels(scores), cubes.labels[cubes.indices[which]]
        for number in np.unique(half[which]):
            here = half[which] == number
            f, t = predicted[here], true[here]
            totals[number] += confusion(f.reshape(-1, *f.shape[2:]), t.reshape(-1, *t.shape[2:]), count)
    total = totals.sum(axis=0)
    rows = dice_metrics(_counts(total), cubes.species)
    for number, part in enumerate(parts):
        own = [region for _, region in part]
        rows |= half_dice_metrics(number + 1, _counts(totals[number]), own, cubes.species)
    together = {"dice-pooled": dice(pooled(total))[1], "iou-pooled": iou(pooled(total))[1]}
    return rows | {name: float(np.nan_to_num(value)) for name, value in together.items()}


def _counts(total: NDArray[np.int64]) -> NDArray[np.float64]:
    """Hits, false and missed voxels of each species, from a confusion matrix (true, predicted)."""
    hits = np.diag(total)
    return np.stack([hits, total.sum(axis=0) - hits, total.sum(axis=1) - hits], axis=1)[1:].astype(float)


def _heatmaps(network: nn.Module, cubes: Cubes, spec: TargetSpec, tiles: TilePlan) -> Metrics:
    voxel, scored = cubes.voxel_size, []
    for which, scores in score_cubes(network, _Chosen(cubes), tiles):
        for i, own in zip(range(which.start, which.stop), scores, strict=True):
            offset = voxel * (tiles.stride - 1) / 2
            score_map = ScoreMap(own, voxel * tiles.stride, cubes.species, offset=offset, kind="heatmap")
            scored.append(ScoredRegion(cubes.region(i, spec), score_map, (0, 0, 0)))
    return detection_metrics(region_picks(scored, MIN_HEIGHT), cubes.species)


class _Chosen:
    """The images of the selected subtomograms, copied on access."""

    def __init__(self, cubes: Cubes) -> None:
        self.cubes, self.shape = cubes, (len(cubes), *cubes.images.shape[1:])

    def __getitem__(self, which: slice) -> NDArray[np.float16]:
        return self.cubes.images[self.cubes.indices[which]]
