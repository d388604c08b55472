"""Tomograms and masks at the voxel size of a model.

Positions are in Å from the center of voxel (0, 0, 0), which resampling does not move.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats.resample import resampled_on_access
from cryovox.models.card import COARSEST, FINEST, SAME_VOXEL_SIZE, Card

if TYPE_CHECKING:
    from cryovox.filters.whitening import WhitenedVoxels

NOTED = 0.02
"""Relative difference of voxel sizes above which there is a note."""


def has_model_voxel_size(voxel_size: float, card: Card) -> bool:
    """Whether a tomogram is used as it is."""
    return abs(voxel_size / card.voxel_size - 1) <= SAME_VOXEL_SIZE


def is_resampled(voxel_size: float, card: Card) -> bool:
    """Whether a tomogram is used, as it is or resampled."""
    return FINEST <= voxel_size / card.voxel_size <= COARSEST


def on_model_grid(path: Path, volume: Volume, card: Card) -> tuple[Volume, list[str]]:
    """A tomogram at the voxel size of a model, and notes for the user; resampled on access.

    Voxel sizes within 10 % of that of the model are kept. An error if the voxels are more than 8 times finer
    or 3 times coarser.
    """
    size, own = volume.voxel_size, card.voxel_size
    if has_model_voxel_size(size, card):
        return volume, [f"voxels of {size:g} Å, model trained at {own:g} Å"] if _differs(size, own) else []
    if not is_resampled(size, card):
        message = f"has voxels of {size:g} Å, the model was trained at {own:g} Å"
        limits = f"{own * FINEST:.3g} to {own * COARSEST:.3g} Å are resampled"
        raise RequestError(path, message, f"{limits}: check the voxel size, or train a model for this one")
    note = f"resampled from {size:g} to {own:g} Å, at which the model was trained"
    if size > own:
        note += f"; details between {2 * own:g} and {2 * size:g} Å, which it was trained with, are missing"
    return resampled_on_access(volume, own), [note]


def whitened(path: Path, volume: Volume, original: Volume) -> tuple[Volume, WhitenedVoxels]:
    """A tomogram on the grid of a model, whitened on access to what the original resolves, and its voxels."""
    from cryovox.filters.whitening import WhitenedVoxels, measured, resolution_of

    size = volume.voxel_size
    try:
        whitening = measured(volume.data, size, resolution_of(original.voxel_size, size))
    except ValueError:
        message = "is constant nearly everywhere, so it has no spectrum to divide by"
        raise RequestError(path, message, "check it with `cryovox doctor`") from None
    voxels = WhitenedVoxels(volume.data, size, whitening)
    return volume.with_data(voxels), voxels


def mask_on_grid(mask: NDArray[np.bool_], original: Volume, volume: Volume) -> NDArray[np.bool_]:
    """A mask of the original tomogram on the grid of the resampled one, by the nearest voxel."""
    return mask if volume is original else mask[nearest_index(original, volume)]


def nearest_index(original: Volume, volume: Volume) -> tuple[NDArray[np.intp], ...]:
    """Index of the voxels of the original tomogram that are nearest to those of the resampled one."""
    step = volume.voxel_size / original.voxel_size
    nearest = [
        np.minimum(np.rint(np.arange(n) * step).astype(np.intp), m - 1)
        for n, m in zip(volume.shape, original.shape, strict=True)
    ]
    return np.ix_(*nearest)


def _differs(size: float, own: float) -> bool:
    return abs(size / own - 1) > NOTED
