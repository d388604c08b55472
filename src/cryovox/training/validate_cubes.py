"""How good a network is on subtomograms that it does not learn from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cryovox.core.volume import ScoreMap
from cryovox.data.cubes import Cubes
from cryovox.data.patches import TargetSpec
from cryovox.inference.cubes import classes, score_cubes
from cryovox.inference.stream import TilePlan
from cryovox.metrics.segmentation import confusion, dice, iou, pooled
from cryovox.training.validate import Scored, heatmap_rows, summary


def validate_cubes(network: nn.Module, cubes: Cubes, spec: TargetSpec, tiles: TilePlan) -> dict[str, float]:
    """Score held-out subtomograms, many at a time.

    Returns
    -------
    dict
        ``score`` decides which weights are kept: mean Dice over species for masks, mean recall at 1, 2
        and 4 candidates per annotated particle for heatmaps.
    """
    judge = _heatmaps if spec.kind == "heatmap" else _masks
    return summary(judge(network, cubes, spec, tiles))


def _masks(network: nn.Module, cubes: Cubes, spec: TargetSpec, tiles: TilePlan) -> dict[str, float]:
    assert cubes.labels is not None
    count = len(cubes.species) + 1
    total = np.zeros((count, count), np.int64)
    for which, scores in score_cubes(network, _Chosen(cubes), tiles):
        found, true = classes(scores), cubes.labels[cubes.chosen[which]]
        total += confusion(found.reshape(-1, *found.shape[2:]), true.reshape(-1, *true.shape[2:]), count)
    rows: dict[str, float] = {}
    for kind, value, present in zip(cubes.species, dice(total)[1:], total.sum(axis=1)[1:], strict=True):
        if present:
            rows |= {f"judge/{kind.name}": float(value), f"dice/{kind.name}": float(value)}
    together = {"dice-pooled": dice(pooled(total))[1], "iou-pooled": iou(pooled(total))[1]}
    return rows | {name: float(np.nan_to_num(value)) for name, value in together.items()}


def _heatmaps(network: nn.Module, cubes: Cubes, spec: TargetSpec, tiles: TilePlan) -> dict[str, float]:
    voxel, scored = cubes.voxel_size, []
    for which, scores in score_cubes(network, _Chosen(cubes), tiles):
        for i, own in zip(range(which.start, which.stop), scores, strict=True):
            offset = voxel * (tiles.stride - 1) / 2
            found = ScoreMap(own, voxel * tiles.stride, cubes.species, offset=offset, kind="heatmap")
            scored.append(Scored(cubes.source(i, spec), found, (0, 0, 0)))
    return heatmap_rows(scored, cubes.species)


class _Chosen:
    """The images of the chosen subtomograms, copied when they are asked for."""

    def __init__(self, cubes: Cubes) -> None:
        self.cubes, self.shape = cubes, (len(cubes), *cubes.images.shape[1:])

    def __getitem__(self, which: slice) -> NDArray[np.float16]:
        return self.cubes.images[self.cubes.chosen[which]]
