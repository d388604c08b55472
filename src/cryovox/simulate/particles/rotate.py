"""Rotate, shift and resample a template; add boxes to a larger array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from cryovox.simulate.particles.template import Template

MAX_VOXEL_RATIO = 1.3
"""Maximum ratio of the new to the old voxel size, to avoid aliasing."""

SlicePair = tuple[tuple[slice, slice, slice], tuple[slice, slice, slice]]


def rotate(
    template: Template,
    rotation: NDArray[np.float64],
    shift: ArrayLike = (0.0, 0.0, 0.0),
    voxel_size: float | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rotate a template about its center of mass, then shift it by a fraction of a voxel.

    Parameters
    ----------
    rotation : (3, 3)
        Active, reference to tomogram, acting on (x, y, z) columns.
    shift : (3,)
        Shift (z, y, x) of the center from that of the middle voxel, in new voxels.
    voxel_size
        New voxel size in Å; that of the template by default.

    Returns
    -------
    density : (m, m, m) float32
        Volts, by cubic splines; m is odd and just large enough for the support.
    support : (m, m, m) bool
    """
    ratio = 1.0 if voxel_size is None else voxel_size / template.voxel_size
    if ratio > MAX_VOXEL_RATIO:
        raise ValueError(
            f"a template of {template.voxel_size} Å is not resolved with voxels of {voxel_size} Å"
        )
    reach = int(np.ceil(template.radius / (template.voxel_size * ratio) + 1.5))
    size = (2 * reach + 1,) * 3
    # an output voxel p (z, y, x from the middle) shows the reference at R^T (p - shift)
    back = np.asarray(rotation, dtype=float)[::-1, ::-1].T * ratio
    middle = np.full(3, template.density.shape[0] // 2, dtype=float)
    offset = middle - back @ (reach + np.asarray(shift, dtype=float))
    density = ndimage.affine_transform(template.density, back, offset, size, np.float32, order=3)
    inside = ndimage.affine_transform(template.support.astype(np.float32), back, offset, size, order=1)
    return density, _threshold_to_volume(inside, template.support.sum() / ratio**3)


def _threshold_to_volume(inside: NDArray[np.float32], volume: float) -> NDArray[np.bool_]:
    """Threshold an interpolated mask at constant volume; a threshold of 0.5 would erode thin parts."""
    count = min(max(round(volume), 1), inside.size)
    level = np.partition(inside.ravel(), inside.size - count)[inside.size - count]
    return inside >= np.clip(level, 0.25, 0.75)


def overlap_slices(corner: ArrayLike, size: ArrayLike, shape: ArrayLike) -> SlicePair | None:
    """Overlap of a box of *size* at *corner* with an array of *shape*: slices of the array and of the box.

    None if they do not overlap.
    """
    first, extent, whole = (np.asarray(a, dtype=int) for a in (corner, size, shape))
    low, high = np.maximum(first, 0), np.minimum(first + extent, whole)
    if (low >= high).any():
        return None
    array_part = [slice(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    box_part = [slice(int(a), int(b)) for a, b in zip(low - first, high - first, strict=True)]
    return (array_part[0], array_part[1], array_part[2]), (box_part[0], box_part[1], box_part[2])


def add_box(array: NDArray[Any], box: NDArray[Any], corner: ArrayLike) -> None:
    """Add a box to an array in place, cropped to the array."""
    overlap = overlap_slices(corner, box.shape, array.shape)
    if overlap is not None:
        array[overlap[0]] += box[overlap[1]]
