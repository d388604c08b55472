"""Masks of subtomograms against the truth, as one tidy table."""

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
    found: NDArray[Any],
    truth: NDArray[Any],
    found_species: Sequence[Species] = (),
    true_species: Sequence[Species] = (),
) -> list[Row]:
    """Compare masks of subtomograms.

    Parameters
    ----------
    found, truth : (n, z, y, x)
        Labels, 0 is nothing.
    found_species, true_species
        What they mean. Species are matched by name where both are given, labels by number otherwise.

    Returns
    -------
    list of rows
        Those of :func:`evaluate_labels` over the voxels of all subtomograms together, and for "any"
        species ``mean_iou_per_sample``, the protocol of Liu et al. 2018.
    """
    if found.shape != truth.shape or found.ndim != 4:
        raise ValueError(f"masks are (n, z, y, x) and alike, got {found.shape} and {truth.shape}")
    claimed, true = (
        LabelMap(masks.reshape(-1, *masks.shape[2:]), 1.0, tuple(species))
        for masks, species in ((found, found_species), (truth, true_species))
    )
    each = {"mean_iou_per_sample": mean_iou_per_sample(np.asarray(found) > 0, np.asarray(truth) > 0)}
    return evaluate_labels(claimed, true) + rows(POOLED, ANY, each)
