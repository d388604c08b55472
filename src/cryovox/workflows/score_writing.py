"""From a tomogram to its score map on disk, at once or part by part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Volume
from cryovox.formats import scores
from cryovox.formats.unfinished_scores import UnfinishedScores
from cryovox.inference.tiling import plan
from cryovox.models.card import Card
from cryovox.workflows.inputs import Prepared
from cryovox.workflows.model_grid import mask_on_grid

if TYPE_CHECKING:
    from torch import nn

    from cryovox.inference.stream import SearchMask, TilePlan

Mask = NDArray[np.bool_]


def write_scores(
    network: nn.Module,
    tomogram: Prepared,
    card: Card,
    tiles: TilePlan,
    path: Path,
    on_progress: ProgressCallback = no_progress,
    mask: Mask | None = None,
) -> None:
    """Stream a tomogram through a network into a score map on disk; what lies far outside a mask scores 0.

    A resampled tomogram has scores on the grid of the model, and a mask on its own grid.
    """
    from cryovox.inference.stream import stream

    volume, original = tomogram.volume, tomogram.original
    region = search_region(mask, original, volume, card, tiles)
    with scores.create(
        path, (len(card.species), *output_shape(tomogram, tiles)), **_frame(tomogram, card, tiles)
    ) as writer:
        stream(network, volume.data, tomogram.normalize, tiles, writer.write, on_progress, region)


def begin_scores(
    unfinished: UnfinishedScores, identity: dict[str, Any], tomogram: Prepared, card: Card, tiles: TilePlan
) -> None:
    """Prepare a score map that is written part by part."""
    shape = (len(card.species), *output_shape(tomogram, tiles))
    unfinished.begin(identity, shape, **_frame(tomogram, card, tiles))


def continue_scores(
    unfinished: UnfinishedScores,
    part: tuple[int, int],
    network: nn.Module,
    tomogram: Prepared,
    card: Card,
    tiles: TilePlan,
    on_progress: ProgressCallback = no_progress,
    mask: Mask | None = None,
) -> None:
    """Compute the planes of a part that are not complete; arguments else as of :func:`write_scores`."""
    from cryovox.inference.stream import stream

    volume, gaps = tomogram.volume, unfinished.missing(part)
    region = search_region(mask, tomogram.original, volume, card, tiles) if gaps else None
    for gap in gaps:
        with unfinished.writer(gap[0]) as write:
            stream(network, volume.data, tomogram.normalize, tiles, write, on_progress, region, gap)
        unfinished.note(gap)


def output_shape(tomogram: Prepared, tiles: TilePlan) -> tuple[int, int, int]:
    """Voxels (z, y, x) of the scores of a tomogram."""
    z, y, x = (plan(n, tiles.tile, tiles.overlap, tiles.stride).out_size for n in tomogram.volume.shape)
    return z, y, x


def _frame(tomogram: Prepared, card: Card, tiles: TilePlan) -> dict[str, Any]:
    """What a score map says besides its values."""
    volume, original = tomogram.volume, tomogram.original
    return {
        "voxel_size": volume.voxel_size * tiles.stride,
        "species": card.species,
        "offset": volume.voxel_size * (tiles.stride - 1) / 2,
        "kind": card.kind,
        "thresholds": card.thresholds,
        "origin": original.origin,
        "nstart": original.nstart,
        "tomogram": (original.shape, original.voxel_size),
        "calibration": card.calibration,
    }


def search_region(
    mask: Mask | None, original: Volume, volume: Volume, card: Card, tiles: TilePlan
) -> SearchMask | None:
    """Region of the volume that has to be scored for a mask of the original; a mask moves no pick, because
    particles that it cuts are scored whole.
    """
    from cryovox.inference.stream import SearchMask

    if mask is None:
        return None
    largest = max(s.radius for s in card.species) / volume.voxel_size
    margin = int(np.ceil(2 * largest)) + 2 * tiles.stride
    return SearchMask(mask_on_grid(mask, original, volume), margin)
