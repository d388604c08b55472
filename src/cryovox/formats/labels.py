"""Label maps and masks, from volumes of any format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.intensity import slabs
from cryovox.core.particles import Species
from cryovox.core.volume import LabelMap, Volume


def as_labels(volume: Volume, species: tuple[Species, ...], where: Path) -> LabelMap:
    """Take a volume as a label map: whole numbers, and only those that species have."""
    counts_from = _background(volume)
    whole = volume.data.dtype in (np.int8, np.uint8) and not counts_from
    labels = np.asarray(volume.data).view(np.uint8) if whole else np.empty(volume.shape, np.uint8)
    z = 0
    for slab in slabs(volume.data):
        values = slab if whole else slab.astype(np.float64) - counts_from
        _check_values(np.unique(values), [s.label for s in species], where)
        if not whole:
            labels[z : z + len(slab)] = values
        z += len(slab)
    return LabelMap(labels, volume.voxel_size, species, volume.origin, volume.nstart)


def as_mask(volume: Volume, where: Path) -> NDArray[np.bool_]:
    """(z, y, x), true where a volume is not 0."""
    mask = np.zeros(volume.shape, bool)
    counts_from, z = _background(volume), 0
    for slab in slabs(volume.data):
        if slab.dtype.kind == "f" and np.isnan(slab).any():
            raise RequestError(where, "holds NaN; a mask is 0 outside and not 0 inside", "write it again")
        mask[z : z + len(slab)] = slab != counts_from
        z += len(slab)
    return mask


def _check_values(values: NDArray[Any], known: Sequence[int], where: Path) -> None:
    for value in values:
        if not (np.isfinite(value) and value == int(value) and 0 <= value <= 255):
            told = f"holds the value {value}; labels are whole numbers from 0 to 255"
            raise RequestError(where, told, "is this a tomogram rather than a label map?")
    unknown = sorted({int(v) for v in values} - {0, *known}) if known else []
    if unknown:
        told = f"holds label {unknown[0]}, which no species has"
        raise RequestError(where, told, f"labels of the species: {', '.join(map(str, sorted(known)))}")


def _background(volume: Volume) -> int:
    """What 0 is stored as: IMOD writes the bytes 0 to 255 as -128 to 127.

    Labels and masks are never below 0 and hold 0 somewhere: signed bytes that reach down to -128 and
    never hold 0 are such.
    """
    if volume.data.dtype != np.int8:
        return 0
    low = 0
    for slab in slabs(volume.data):
        if not slab.all():
            return 0
        low = min(low, int(slab.min()))
    return -128 if low == -128 else 0
