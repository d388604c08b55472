"""Overlap of label maps, from confusion counts that are gathered slab by slab.

Conventions: a class that neither map holds has no Dice and no IoU (NaN) and is left out of means; a
class that only one of them holds has 0. Class 0 is background and never part of a mean or a pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryovox.core.errors import RequestError
from cryovox.core.volume import LabelMap
from cryovox.metrics.table import ANY, MEAN, POOLED, Row, rows

Float = NDArray[np.float64]
Counts = NDArray[np.int64]

LABELS = 256
"""Labels that a label map can hold."""
SLAB = 1 << 22
"""Voxels that are compared at once."""
FOREGROUND = "foreground"
"""Stands for the species in rows over the pooled counts of all species."""


def confusion(
    found: NDArray[Any], truth: NDArray[Any], classes: int, mask: NDArray[Any] | None = None
) -> Counts:
    """Count voxels by true and found class.

    Parameters
    ----------
    found, truth : (z, y, x) integer
        Classes from 0 to `classes` - 1; memory maps are read a slab at a time.
    classes : int
    mask : (z, y, x)
        Not 0 where voxels count.

    Returns
    -------
    counts : (classes, classes) int64
        Rows are true, columns found.
    """
    if found.shape != truth.shape:
        raise ValueError(f"maps have one shape, got {found.shape} and {truth.shape}")
    total = np.zeros(classes * classes, np.int64)
    planes = max(1, SLAB // max(1, int(np.prod(truth.shape[1:]))))
    for start in range(0, truth.shape[0], planes):
        part = slice(start, start + planes)
        true, claimed = np.asarray(truth[part]), np.asarray(found[part])
        if claimed.size and not 0 <= claimed.min() <= claimed.max() < classes:
            raise ValueError(f"classes are 0 to {classes - 1}, found {claimed.min()} to {claimed.max()}")
        pairs = true.astype(np.intp) * classes + claimed
        chosen = pairs.ravel() if mask is None else pairs[np.asarray(mask[part]) != 0]
        total += np.bincount(chosen, minlength=classes * classes)
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
    """Pool true, false and missed voxels over the foreground classes.

    Returns
    -------
    counts : (2, 2)
        To be given to :func:`dice` and :func:`iou`, whose value of class 1 is the pooled one. A voxel
        of one species that is found as another is both false and missed.
    """
    right = np.diag(counts)[1:].sum()
    false, missed = counts[:, 1:].sum() - right, counts[1:, :].sum() - right
    return np.array([[counts[0, 0], false], [missed, right]], dtype=np.int64)


def binary(counts: Counts) -> Counts:
    """Forget the species: background against anything else, (2, 2)."""
    rest = counts[1:]
    return np.array(
        [[counts[0, 0], counts[0, 1:].sum()], [rest[:, 0].sum(), rest[:, 1:].sum()]], dtype=np.int64
    )


def macro(values: Float) -> float:
    """Mean over the foreground classes that at least one map holds; NaN if there is none."""
    known = values[1:][~np.isnan(values[1:])]
    return float(known.mean()) if len(known) else float("nan")


def mean_iou_per_sample(found: ArrayLike, truth: ArrayLike) -> float:
    """Mean IoU of subtomogram segmentation as in Liu et al. 2018.

    Half the sum of two means over the samples: background TN / (V - TP) and foreground
    TP / (V - TN), V the voxels of a sample. A sample in which both maps are empty, or both full,
    has 1 for the class that is nowhere.

    Parameters
    ----------
    found, truth : (n, ...) bool
        Foreground of each sample.
    """
    a, b = (np.asarray(some, dtype=bool) for some in (found, truth))
    if a.shape != b.shape or a.ndim < 2 or not len(a):
        raise ValueError(f"samples of one shape are compared, got {a.shape} and {b.shape}")
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    voxels = a.shape[1]
    both = (a & b).sum(axis=1)
    none = (~a & ~b).sum(axis=1)
    background = np.where(voxels > both, none / np.maximum(voxels - both, 1), 1.0)
    foreground = np.where(voxels > none, both / np.maximum(voxels - none, 1), 1.0)
    return float((background.mean() + foreground.mean()) / 2)


def evaluate_labels(
    found: LabelMap | Mapping[str, LabelMap],
    truth: LabelMap | Mapping[str, LabelMap],
    mask: NDArray[Any] | Mapping[str, NDArray[Any]] | None = None,
) -> list[Row]:
    """Compare label maps: Dice and IoU per species, pooled, regardless of species, and their mean.

    Parameters
    ----------
    found, truth
        One map each, or maps by the name of their tomogram. Species are matched by name where both
        maps have names, labels by number otherwise.
    mask : (z, y, x), or one by tomogram
        Not 0 where voxels count.

    Returns
    -------
    list of rows
        "dice", "iou", "voxels_true" and "voxels_found" by species. Species "foreground" is pooled over
        the species, "any" takes no notice of them, "mean" averages over them. Rows of tomogram "all"
        come from the summed counts.
    """
    if isinstance(found, LabelMap) or isinstance(truth, LabelMap):
        if not (isinstance(found, LabelMap) and isinstance(truth, LabelMap)):
            raise ValueError("found and truth are both one map, or both maps by tomogram")
        return evaluate_labels({POOLED: found}, {POOLED: truth}, mask)
    names = _names(truth) or _names(found)
    table: list[Row] = []
    total = np.zeros((LABELS, LABELS), np.int64)
    for tomogram, wanted in truth.items():
        region = mask.get(tomogram) if isinstance(mask, Mapping) else mask
        counts = _compare(tomogram, found.get(tomogram), wanted, region)
        total += counts
        if tomogram != POOLED:
            table += _rows(tomogram, counts, names)
    return table + _rows(POOLED, total, names)


def _names(maps: Mapping[str, LabelMap]) -> dict[int, str]:
    return {species.label: species.name for labels in maps.values() for species in labels.species}


def _compare(tomogram: str, found: LabelMap | None, truth: LabelMap, mask: NDArray[Any] | None) -> Counts:
    """Counts of one tomogram, the found labels translated into those of the truth."""
    if found is None:
        raise RequestError(tomogram, "has no label map to compare", "segment it, or leave it out")
    if found.data.shape != truth.data.shape:
        told = f"the found map has shape {found.data.shape}, the truth {truth.data.shape}"
        raise RequestError(tomogram, told, "compare maps of one sampling")
    counts = confusion(found.data, truth.data, LABELS, mask)
    translated = np.zeros_like(counts)
    np.add.at(translated.T, _translation(found, truth), counts.T)
    return translated


def _translation(found: LabelMap, truth: LabelMap) -> NDArray[np.intp]:
    """From labels of one map to those of the other, by name; strangers go to labels that are free."""
    table = np.arange(LABELS)
    if not found.species or not truth.species:
        return table
    known = {species.name: species.label for species in truth.species}
    free = (label for label in range(LABELS - 1, 0, -1) if label not in known.values())
    for species in found.species:
        table[species.label] = known[species.name] if species.name in known else next(free)
    return table


def _rows(tomogram: str, counts: Counts, names: Mapping[int, str]) -> list[Row]:
    overlap, union = dice(counts), iou(counts)
    seen, claimed = counts.sum(axis=1), counts.sum(axis=0)
    table: list[Row] = []
    for label in range(1, LABELS):
        if label in names or seen[label] or claimed[label]:
            values = {"dice": overlap[label], "iou": union[label]}
            values |= {"voxels_true": seen[label], "voxels_found": claimed[label]}
            table += rows(tomogram, names.get(label, str(label)), values)
    for species, pair in ((FOREGROUND, pooled(counts)), (ANY, binary(counts))):
        table += rows(tomogram, species, {"dice": dice(pair)[1], "iou": iou(pair)[1]})
    return table + rows(tomogram, MEAN, {"dice": macro(overlap), "iou": macro(union)})


def _ratio(above: Float, below: NDArray[Any]) -> Float:
    whole = np.asarray(below, dtype=np.float64)
    return np.where(whole > 0, above / np.where(whole > 0, whole, 1.0), np.nan)
