"""Label the voxels of subtomogram sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryovox.core.config import Contrast
from cryovox.core.intensity import MIN_CERTAINTY
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import ScoreMap
from cryovox.formats.subtomograms import Subtomograms
from cryovox.inference.label_map import paint_balls
from cryovox.models.card import Card
from cryovox.picking import PickConfig, pick
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.score_tiles import tile_plan

if TYPE_CHECKING:
    from torch import nn


def label_set(
    model: Path | tuple[nn.Module, Card],
    subvolumes: Subtomograms,
    device: Device = "auto",
    config: SegmentConfig | None = None,
    *,
    on_progress: ProgressCallback = no_progress,
) -> NDArray[np.uint8]:
    """Label the voxels of a subtomogram set.

    Parameters
    ----------
    model
        Model file, or network and card.
    subvolumes
        The set; its masks are ignored.
    config
        Contrast and orientations to average; every subtomogram is normalized by itself.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.

    Returns
    -------
    (n, z, y, x) uint8
        Labels of the model's species: the most probable one for masks, balls around picks for heatmaps.
    """
    from cryovox.models.checkpoint import load_model

    network, card = load_model(model) if isinstance(model, Path) else model
    config = config or SegmentConfig()
    contrast = resolve_contrast(subvolumes, card, config.contrast)
    return label(network.to(choose_device(device)), card, subvolumes, contrast, config, on_progress)


def label(
    network: nn.Module,
    card: Card,
    subvolumes: Subtomograms,
    contrast: Contrast,
    config: SegmentConfig,
    on_progress: ProgressCallback,
) -> NDArray[np.uint8]:
    """As :func:`label_set`, with a network on its device and a known contrast."""
    from cryovox.inference.cubes import argmax_labels, score_cubes

    labels = np.zeros((len(subvolumes), *subvolumes.shape), np.uint8)
    values = np.array([0, *(s.label for s in card.species)], np.uint8)
    images, count = _NormalizedImages(subvolumes, contrast), len(subvolumes)
    for batch, score_batch in score_cubes(network.eval(), images, tile_plan(card, config)):
        if card.kind == "mask":
            labels[batch] = values[argmax_labels(score_batch)]
        else:
            labels[batch] = [_balls(own, subvolumes, card) for own in score_batch]
        on_progress("subtomograms", batch.stop / count, f"{batch.stop} of {count} subtomograms")
    return labels


class _NormalizedImages:
    """The images of a set as the network takes them, read on access."""

    def __init__(self, subvolumes: Subtomograms, contrast: Contrast) -> None:
        self.images, self.contrast = subvolumes.images, contrast
        self.shape = (len(subvolumes), *subvolumes.shape)

    def __getitem__(self, which: slice) -> NDArray[np.float32]:
        from cryovox.data.cubes import standardize

        assert self.images is not None
        return standardize(self.images[which], self.contrast)


def _balls(values: NDArray[np.float32], subvolumes: Subtomograms, card: Card) -> NDArray[np.uint8]:
    stride, voxel_size = card.output_stride, subvolumes.voxel_size
    offset = voxel_size * (stride - 1) / 2
    score_map = ScoreMap(values, voxel_size * stride, card.species, offset, "heatmap", card.thresholds)
    picks = pick(score_map, PickConfig(border=0.0))
    return paint_balls(picks, card.species, voxel_size, subvolumes.shape)


def resolve_contrast(subvolumes: Subtomograms, card: Card, option: Contrast) -> Contrast:
    """What the user says; else what the set says or clearly shows; else what the model was trained on."""
    from cryovox.data.cubes import detect_set_contrast

    if option != "auto":
        return option
    detected, certainty = detect_set_contrast(replace(subvolumes, masks=None))
    return detected if certainty >= MIN_CERTAINTY else card.contrast
