"""Overlap of label maps, from confusion matrices that are accumulated slab by slab, and surface Dice.

A class that neither map contains has no Dice and no IoU (NaN) and is excluded from means; a class that only
one map contains has 0. Class 0 is background and excluded from means and pooled counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress, portion
from cryovox.core.volume import LabelMap
from cryovox.metrics.surface import surface_counts, surface_dice
from cryovox.metrics.table import ANY, MEAN, POOLED, Row, rows

Float = NDArray[np.float64]
Counts = NDArray[np.int64]

LABELS = 256
"""Number of labels in a label map."""
SLAB = 1 << 22
"""Voxels compared at once."""
COMPARING = "comparing labels"
"""Name of the progress."""
FOREGROUND = "foreground"
"""Name of the species in rows over the pooled counts of all species."""


def confusion(
    predicted: NDArray[Any], truth: NDArray[Any], classes: int, mask: NDArray[Any] | None = None
) -> Counts:
    """Count voxels by true and predicted class.

    Parameters
    ----------
    predicted, truth : (z, y, x) integer
        Classes from 0 to `classes` - 1; memory maps are read a slab at a time.
    classes : int
    mask : (z, y, x)
        Not 0 where voxels are compared.

    Returns
    -------
    counts : (classes, classes) int64
        Rows are true, columns predicted classes.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"maps have one shape, got {predicted.shape} and {truth.shape}")
    total = np.zeros(classes * classes, np.int64)
    planes = max(1, SLAB // max(1, int(np.prod(truth.shape[1:]))))
    for start in range(0, truth.shape[0], planes):
        slab = slice(start, start + planes)
        rows, columns = np.asarray(truth[slab]), np.asarray(predicted[slab])
        if columns.size and not 0 <= columns.min() <= columns.max() < classes:
            raise ValueError(f"classes are 0 to {classes - 1}, found {columns.min()} to {columns.max()}")
        pairs = rows.astype(np.intp) * classes + columns
        selected = pairs.ravel() if mask is None else pairs[np.asarray(mask[slab]) != 0]
        total += np.bincount(selected, minlength=classes * classes)
    return total.reshape(classes, classes)


def dice(counts: Counts) -> Float:
    """Dice coefficient of every class, (classes,); NaN where neither map has the class."""
    both = np.diag(counts).astype(np.float64)
    return _ratio(2 * both, counts.sum(axis=0) + counts.sum(axis=1))


def iou(counts: Counts) -> Float:
    """Intersection over union of every class, (classes,); NaN where neither map has the class."""
    both = np.diag(counts).astype(np.float64)
    return _ratio(both, counts.sum(axis=0) + counts.sum(axis=1) - both)


def pooled(counts: Counts) -> Counts:
    """Pool true positive, false positive and false negative voxels over the foreground classes.

    Returns
    -------
    counts : (2, 2)
        Input of :func:`dice` and :func:`iou`, whose value of class 1 is the pooled one. A voxel of one
        species that is predicted as another is both a false positive and a false negative.
    """
    hits = np.diag(counts)[1:].sum()
    false, missed = counts[:, 1:].sum() - hits, counts[1:, :].sum() - hits
    return np.array([[counts[0, 0], false], [missed, hits]], dtype=np.int64)


def binary(counts: Counts) -> Counts:
    """Merge all species into one: background against foreground, (2, 2)."""
    foreground = counts[1:]
    return np.array(
        [[counts[0, 0], counts[0, 1:].sum()], [foreground[:, 0].sum(), foreground[:, 1:].sum()]],
        dtype=np.int64,
    )


def macro(values: Float) -> float:
    """Mean over the foreground classes that at least one map contains; NaN if there are none."""
    valid = values[1:][~np.isnan(values[1:])]
    return float(valid.mean()) if len(valid) else float("nan")


def mean_iou_per_sample(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean IoU of subtomogram segmentation as in Liu et al. 2018.

    The mean of two means over the samples: background TN / (V - TP) and foreground TP / (V - TN), where V
    is the number of voxels of a sample. A sample in which both maps are empty, or both full, has 1 for the
    absent class.

    Parameters
    ----------
    predicted, truth : (n, ...) bool
        Foreground of each sample.
    """
    a, b = (np.asarray(masks, dtype=bool) for masks in (predicted, truth))
    if a.shape != b.shape or a.ndim < 2 or not len(a):
        raise ValueError(f"samples of one shape are compared, got {a.shape} and {b.shape}")
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    voxels = a.shape[1]
    both = (a & b).sum(axis=1)
    none = (~a & ~b).sum(axis=1)
    background = np.where(voxels > both, none / np.maximum(voxels - both, 1), 1.0)
    foreground = np.where(voxels > none, both / np.maximum(voxels - none, 1), 1.0)
    return float((background.mean() + foreground.mean()) / 2)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Voxels by true and predicted label, and surface voxels (close, all) by label."""

    counts: Counts
    surfaces: Counts

    def __add__(self, other: _Comparison) -> _Comparison:
        return _Comparison(self.counts + other.counts, self.surfaces + other.surfaces)


def evaluate_labels(
    predicted: LabelMap | Mapping[str, LabelMap],
    truth: LabelMap | Mapping[str, LabelMap],
    mask: NDArray[Any] | Mapping[str, NDArray[Any]] | None = None,
    tolerance: float | None = None,
    *,
    surfaces: bool = True,
    on_progress: ProgressCallback = no_progress,
) -> list[Row]:
    """Compare label maps: Dice, IoU and surface Dice by species, pooled, and as their mean.

    Parameters
    ----------
    predicted, truth
        One map each, or maps by the name of their tomogram. Species are matched by name where both
        maps have names, labels by number otherwise.
    mask : (z, y, x), or one by tomogram
        Not 0 where voxels are compared.
    tolerance
        Distance in Å within which surfaces agree; by default one voxel.
    surfaces
        Whether to compute surface Dice, which takes longer than the rest.

    Returns
    -------
    list of rows
        "dice", "iou", "surface_dice", "voxels_true" and "voxels_found" by species. Species
        "foreground" is pooled over the species, "any" merges them into one, "mean" averages over them. Rows
        of tomogram "all" come from the summed counts.
    """
    if isinstance(predicted, LabelMap) or isinstance(truth, LabelMap):
        if not (isinstance(predicted, LabelMap) and isinstance(truth, LabelMap)):
            raise ValueError("predicted and truth are both one map, or both maps by tomogram")
        return evaluate_labels(
            {POOLED: predicted}, {POOLED: truth}, mask, tolerance, surfaces=surfaces, on_progress=on_progress
        )
    names = _names(truth) or _names(predicted)
    table: list[Row] = []
    total = _Comparison(np.zeros((LABELS, LABELS), np.int64), np.zeros((LABELS, 2), np.int64))
    for index, (tomogram, true) in enumerate(truth.items()):
        region = mask.get(tomogram) if isinstance(mask, Mapping) else mask
        comparison = _compare(tomogram, predicted.get(tomogram), true, region)
        if surfaces:
            part = portion(on_progress, index / len(truth), (index + 1) / len(truth))
            comparison = _with_surfaces(comparison, predicted[tomogram], true, region, tolerance, part)
        on_progress(COMPARING, (index + 1) / len(truth))
        total += comparison
        if tomogram != POOLED:
            table += _rows(tomogram, comparison, names)
    return table + _rows(POOLED, total, names)


def _names(maps: Mapping[str, LabelMap]) -> dict[int, str]:
    return {species.label: species.name for labels in maps.values() for species in labels.species}


def _compare(
    tomogram: str, predicted: LabelMap | None, truth: LabelMap, mask: NDArray[Any] | None
) -> _Comparison:
    """Voxels of one tomogram, with the predicted labels translated into those of the truth."""
    if predicted is None:
        raise RequestError(tomogram, "has no label map to compare", "segment it, or leave it out")
    if predicted.data.shape != truth.data.shape:
        message = f"the prediction has shape {predicted.data.shape}, the truth {truth.data.shape}"
        raise RequestError(tomogram, message, "compare maps of one sampling")
    counts = confusion(predicted.data, truth.data, LABELS, mask)
    translated = np.zeros_like(counts)
    np.add.at(translated.T, _translation(predicted, truth), counts.T)
    return _Comparison(translated, np.zeros((LABELS, 2), np.int64))


def _with_surfaces(
    comparison: _Comparison,
    predicted: LabelMap,
    truth: LabelMap,
    mask: NDArray[Any] | None,
    tolerance: float | None,
    on_progress: ProgressCallback,
) -> _Comparison:
    counts, table = comparison.counts, _translation(predicted, truth)
    voxels = 1.0 if tolerance is None else tolerance / truth.voxel_size
    surfaces = np.zeros((LABELS, 2), np.int64)
    present = [label for label in range(1, LABELS) if counts[label].any() or counts[:, label].any()]
    for done, label in enumerate(present):
        on_progress(COMPARING, done / len(present))
        own = np.isin(predicted.data, np.flatnonzero(table == label))
        surfaces[label] = surface_counts(own, np.asarray(truth.data) == label, voxels, mask)
    return replace(comparison, surfaces=surfaces)


def _translation(predicted: LabelMap, truth: LabelMap) -> NDArray[np.intp]:
    """Labels of the prediction as labels of the truth, by name; unknown species get unused labels."""
    table = np.arange(LABELS)
    if not predicted.species or not truth.species:
        return table
    labels = {species.name: species.label for species in truth.species}
    unused = (label for label in range(LABELS - 1, 0, -1) if label not in labels.values())
    for species in predicted.species:
        table[species.label] = labels[species.name] if species.name in labels else next(unused)
    return table


def _rows(tomogram: str, comparison: _Comparison, names: Mapping[int, str]) -> list[Row]:
    counts = comparison.counts
    overlap, union, surface = dice(counts), iou(counts), surface_dice(comparison.surfaces)
    true, predicted = counts.sum(axis=1), counts.sum(axis=0)
    table: list[Row] = []
    for label in range(1, LABELS):
        if label in names or true[label] or predicted[label]:
            values = {"dice": overlap[label], "iou": union[label], "surface_dice": surface[label]}
            values |= {"voxels_true": true[label], "voxels_found": predicted[label]}
            table += rows(tomogram, names.get(label, str(label)), values)
    together = float(surface_dice(comparison.surfaces.sum(axis=0)))
    for species, pair, close in ((FOREGROUND, pooled(counts), together), (ANY, binary(counts), np.nan)):
        values = {"dice": dice(pair)[1], "iou": iou(pair)[1], "surface_dice": close}
        table += rows(tomogram, species, values)
    means = {"dice": macro(overlap), "iou": macro(union), "surface_dice": macro(surface)}
    return table + rows(tomogram, MEAN, means)


def _ratio(numerator: Float, denominator: NDArray[Any]) -> Float:
    whole = np.asarray(denominator, dtype=np.float64)
    return np.where(whole > 0, numerator / np.where(whole > 0, whole, 1.0), np.nan)
