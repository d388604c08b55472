"""Masks of the region to search: which file belongs to a tomogram, and whether it fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.formats import check_exists, is_volume, read_header, read_mask, stem

OPTION = "--mask"


def mask_file(mask: Path, name: str) -> Path:
    """The mask of a tomogram: the file itself, or the volume of that name in a folder of masks."""
    check_exists(mask)
    if is_volume(mask) or not mask.is_dir():
        return mask
    for path in sorted(mask.iterdir()):
        if is_volume(path) and stem(path) == name:
            return path
    raise RequestError(
        OPTION,
        f"the folder {mask} holds no mask of {name!r}",
        "name each mask after its tomogram, or name one mask file for all",
    )


def mask_of(mask: Path | None, name: str, shape: tuple[int, int, int]) -> NDArray[np.bool_] | None:
    """The mask of a tomogram, true inside; refused unless it has its shape and an inside."""
    if mask is None:
        return None
    path = mask_file(mask, name)
    if read_header(path).shape != shape:
        raise RequestError(
            OPTION,
            f"{path} has shape {read_header(path).shape} (z, y, x), the tomogram has {shape}",
            "give a mask of that shape; `cryovox doctor TOMOGRAM --write-masks DIR` writes one",
        )
    inside = read_mask(path)
    if not inside.any():
        raise RequestError(OPTION, f"{path} is 0 everywhere", "give a mask that is not 0 in the sample")
    return inside


def masked(dataset: Dataset, mask: Path | None) -> Dataset:
    """The same dataset with the masks of `--mask` in place of those of its entries."""
    if mask is None:
        return dataset
    entries = tuple(e.model_copy(update={"mask": mask_file(mask, stem(e.tomogram))}) for e in dataset.entries)
    for entry in entries:
        mask_of(entry.mask, entry.name, read_header(entry.tomogram).shape)
    return dataset.model_copy(update={"entries": entries})
