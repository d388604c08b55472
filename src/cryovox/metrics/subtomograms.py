"""Evaluation of masks of subtomograms, as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.particles import Species
from cryovox.core.volume import LabelMap
from cryovox.metrics.segmentation import evaluate_labels, mean_iou_per_sample
from cryovox.metrics.table import ANY, POOLED, Row, rows


def evaluate_masks(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    predicted_species: Sequence[Species] = (),
    truth_species: Sequence[Species] = (),
) -> list[Row]:
    """Compare masks of subtomograms.

    Parameters
    ----------
    predicted, truth : (n, z, y, x)
        Labels, 0 is background.
    predicted_species, truth_species
        Species of the labels. They are matched by name if both are set, labels by number otherwise.

    Returns
    -------
    list of rows
        Those of :func:`evaluate_labels` over the voxels of all subtomograms together, without surfaces, and
        for "any" species ``mean_iou_per_sample``, the protocol of Liu et al. 2018.
    """
    if predicted.shape != truth.shape or predicted.ndim != 4:
        raise ValueError(f"masks are (n, z, y, x) and of one shape, got {predicted.shape} and {truth.shape}")
    predicted_map, true_map = (
        LabelMap(masks.reshape(-1, *masks.shape[2:]), 1.0, tuple(species))
        for masks, species in ((predicted, predicted_species), (truth, truth_species))
    )
    per_sample = {
        "mean_iou_per_sample": mean_iou_per_sample(np.asarray(predicted) > 0, np.asarray(truth) > 0)
    }
    return evaluate_labels(predicted_map, true_map, surfaces=False) + rows(POOLED, ANY, per_sample)
