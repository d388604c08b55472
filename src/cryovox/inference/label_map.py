"""From a score map on disk to a label map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import LabelMap, ScoreMap, Volume
from cryovox.data.targets import ball_labels
from cryovox.formats import mrc, write_labels
from cryovox.picking import PickConfig, pick


def write_label_map(
    score_map: ScoreMap,
    volume: Volume,
    path: Path,
    picks: Particles | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> None:
    """Write the species of every voxel: the likeliest for masks, balls around picks for heatmaps.

    Where the scores have another voxel size, a voxel has the label of the nearest voxel of the scores.

    Parameters
    ----------
    picks
        Of a heatmap; by default what it gives with the default settings.
    mask : (z, y, x)
        0 where there is to be no label.
    """
    if score_map.kind == "heatmap":
        picks = pick(score_map, PickConfig(border=0.0), mask) if picks is None else picks
        balls = paint_balls(picks, score_map.species, volume.voxel_size, volume.shape)
        if mask is not None:
            balls[~mask] = 0
        write_labels(
            path, LabelMap(balls, volume.voxel_size, score_map.species, volume.origin, volume.nstart)
        )
        return
    values = np.array([0, *(s.label for s in score_map.species)], dtype=np.uint8)
    frame = volume.shape, label_dtype(score_map.species), volume.voxel_size, volume.origin
    near_z, near_y, near_x = _nearest(score_map, volume)
    with mrc.create(path, *frame, volume.nstart) as labels:
        for z in range(0, volume.shape[0], 32):
            rows = near_z[z : z + 32]
            block: NDArray[Any] = np.asarray(score_map.data[:, rows[0] : rows[-1] + 1])
            background = 1 - block.sum(axis=0, keepdims=True)
            likeliest = values[np.concatenate([background, block]).argmax(axis=0)]
            labels[z : z + 32] = likeliest[np.ix_(rows - rows[0], near_y, near_x)]
            if mask is not None:
                labels[z : z + 32][~mask[z : z + 32]] = 0


def _nearest(score_map: ScoreMap, volume: Volume) -> list[NDArray[np.intp]]:
    """Index of the voxel of a score map that is nearest to each voxel of a volume, along z, y and x."""
    return [
        np.clip(
            np.rint((np.arange(n) * volume.voxel_size - score_map.offset) / score_map.voxel_size), 0, m - 1
        ).astype(np.intp)
        for n, m in zip(volume.shape, score_map.data.shape[1:], strict=True)
    ]


def label_dtype(species: tuple[Species, ...]) -> str:
    """Smallest type of MRC that holds all labels."""
    return "int8" if max(s.label for s in species) <= 127 else "uint16"


def paint_balls(
    picks: Particles, species: tuple[Species, ...], voxel_size: float, shape: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Paint a ball with the radius and the label of its species around every pick."""
    of = {s.name: s for s in species}
    kinds = [of[name] for name in picks.species]
    radii = [s.radius / voxel_size for s in kinds]
    return ball_labels(picks.positions / voxel_size, [s.label for s in kinds], radii, shape)
