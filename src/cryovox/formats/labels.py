"""Conversion of volumes of any format to label maps and masks."""

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
    """Convert a volume to a label map; its values are integers and, if there are species, their labels."""
    background = _background(volume)
    is_bytes = volume.data.dtype in (np.int8, np.uint8) and not background
    labels = np.asarray(volume.data).view(np.uint8) if is_bytes else np.empty(volume.shape, np.uint8)
    z = 0
    for slab in slabs(volume.data):
        values = slab if is_bytes else slab.astype(np.float64) - background
        _check_values(np.unique(values), [s.label for s in species], where)
        if not is_bytes:
            labels[z : z + len(slab)] = values
        z += len(slab)
    return LabelMap(labels, volume.voxel_size, species, volume.origin, volume.nstart)


def as_mask(volume: Volume, where: Path) -> NDArray[np.bool_]:
    """Convert a volume to a mask (z, y, x): true where it is not 0."""
    mask = np.zeros(volume.shape, bool)
    background, z = _background(volume), 0
    for slab in slabs(volume.data):
        if slab.dtype.kind == "f" and np.isnan(slab).any():
            raise RequestError(where, "holds NaN; a mask is 0 outside and not 0 inside", "write it again")
        mask[z : z + len(slab)] = slab != background
        z += len(slab)
    return mask


def _check_values(values: NDArray[Any], allowed: Sequence[int], where: Path) -> None:
    for value in values:
        if not (np.isfinite(value) and value == int(value) and 0 <= value <= 255):
            message = f"holds the value {value}; labels are integers from 0 to 255"
            raise RequestError(where, message, "is this a tomogram rather than a label map?")
    unknown = sorted({int(v) for v in values} - {0, *allowed}) if allowed else []
    if unknown:
        message = f"holds label {unknown[0]}, which no species has"
        raise RequestError(where, message, f"labels of the species: {', '.join(map(str, sorted(allowed)))}")


def _background(volume: Volume) -> int:
    """Stored value of 0: IMOD writes the bytes 0 to 255 as -128 to 127.

    Labels and masks are not negative and contain 0, so signed bytes with -128 and without 0 are shifted.
    """
    if volume.data.dtype != np.int8:
        return 0
    low = 0
    for slab in slabs(volume.data):
        if not slab.all():
            return 0
        low = min(low, int(slab.min()))
    return -128 if low == -128 else 0
