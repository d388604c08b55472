"""What a trained model finds in tomograms, in place of annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
from torch import nn

from cryovox.core.particles import concatenate
from cryovox.data.patches import TargetSpec
from cryovox.data.regions import Bounds, Region
from cryovox.inference.stream import TilePlan
from cryovox.models.card import Card
from cryovox.picking import PickConfig
from cryovox.training.evaluation.validate import label_map, picks_inside, score_region

BLOCK = 256
"""Largest edge in voxels of a box that is scored at once, which bounds the memory."""
MIN_CROP = 128
"""Least edge in voxels, along y and x, to which a region is cut."""


def teacher_annotations(region: Region, teacher: nn.Module, card: Card) -> Region:
    """The region with the picks of a model, at its own thresholds, as complete annotations.

    Masks give a label map too. Annotations that the region has are dropped.

    Parameters
    ----------
    region
        Its bounds are searched; its species must be those of the model.
    teacher
        In eval mode, on its device.
    card
        Of the model.
    """
    spec = TargetSpec(card.kind, card.output_stride)
    tiles = TilePlan(card.patch, card.overlap, card.output_stride, card.activation)
    labels = np.zeros(region.data.shape, np.uint8) if card.kind == "mask" else None
    lists = []
    for part in blocks(region):
        scored = score_region(teacher, part, tiles, spec)
        scored = replace(scored, scores=replace(scored.scores, thresholds=card.thresholds))
        lists.append(picks_inside(scored, PickConfig(border=0.0)))
        if labels is not None:
            labels[tuple(slice(low, high) for low, high in part.bounds)] = label_map(scored)
    picks, index = concatenate(lists), {kind.name: i for i, kind in enumerate(region.species)}
    return replace(
        region,
        positions=picks.positions / region.voxel_size,
        channels=np.array([index[name] for name in picks.species], np.intp),
        labels=labels,
        annotated_mask=None,
        exhaustive=np.ones(len(region.species), bool),
    )


def blocks(region: Region) -> Iterator[Region]:
    """The region in boxes of equal edges, at most `BLOCK` long."""
    spans = []
    for low, high in region.bounds:
        ends = np.linspace(low, high, -(-(high - low) // BLOCK) + 1).astype(int).tolist()
        spans.append([*pairwise(ends)])
    for z, y, x in product(*spans):
        yield replace(region, bounds=(z, y, x))


def limit_voxels(regions: Sequence[Region], most: float) -> list[Region]:
    """Regions of at most *most* voxels in all: their middles in y and x, and of many regions some.

    A single region may hold more, since no edge is cut below `MIN_CROP`.
    """
    share = (most / max(most, sum(map(voxels, regions)))) ** 0.5
    crops = [_middle(region, share) for region in regions]
    return crops[:: max(1, int(np.ceil(sum(map(voxels, crops)) / most)))]


def voxels(region: Region) -> int:
    """Number of voxels within the bounds."""
    return int(np.prod([high - low for low, high in region.bounds]))


def _middle(region: Region, share: float) -> Region:
    """The middle of a region, with a share of its edges along y and x."""
    z, *rest = region.bounds
    y, x = ((low + (n - kept) // 2, low + (n + kept) // 2) for low, n, kept in _kept(rest, share))
    bounds: Bounds = (z, y, x)
    return replace(region, bounds=bounds)


def _kept(spans: Sequence[tuple[int, int]], share: float) -> list[tuple[int, int, int]]:
    """Start, length and kept length of each span."""
    lengths = [(low, high - low) for low, high in spans]
    return [(low, n, min(n, max(MIN_CROP, int(share * n)))) for low, n in lengths]
