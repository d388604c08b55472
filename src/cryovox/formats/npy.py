"""Volumes of NumPy (.npy): an array with axes z, y, x, without a voxel size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.intensity import slabs
from cryovox.core.reading import check_readable
from cryovox.core.volume import Volume, VolumeHeader
from cryovox.formats import usable_voxel_size
from cryovox.formats.file_volume import FileVolume
from cryovox.formats.stored import check_unpacked, header_of, reason_of, spatial_axes

PROBLEM = "does not say its voxel size, which the format does not store"


def header(path: Path) -> VolumeHeader:
    """Read shape and data type."""
    return header_of(_mapped(path), problem=PROBLEM)


def read(path: Path, voxel_size: float | None = None) -> Volume:
    """Map the array; voxels are read on access. The voxel size in Å is needed."""
    data = _mapped(path)
    return Volume(data, usable_voxel_size(path, header_of(data, problem=PROBLEM), voxel_size))


def write(path: Path, volume: Volume) -> None:
    """Write the values with their data type, slab by slab; voxel size and origin are not stored."""
    check_unpacked(path)
    with replacing(path) as temporary:
        dtype = np.dtype(volume.data.dtype)
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=volume.shape)
        z = 0
        for slab in slabs(volume.data):
            out[z : z + len(slab)] = slab
            z += len(slab)
        out.flush()


def _mapped(path: Path) -> Any:
    """The array (z, y, x), without running code that a pickle may hold."""
    check_unpacked(path)
    check_readable(path)
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        remedy = "check that this is the file you meant"
        raise RequestError(path, f"is no array of NumPy ({reason_of(error)})", remedy) from None
    if not isinstance(array, np.ndarray):  # .npz under another name
        raise RequestError(path, "holds several arrays", "write one volume with numpy.save")
    axes = spatial_axes(path, array.shape, array.dtype)
    z, y, x = (array.shape[axis] for axis in axes)
    if not array.flags.c_contiguous:  # Fortran order
        return array.reshape(z, y, x)
    mapped: Any = array
    return FileVolume.open(path, array.dtype, mapped.offset, (z, y, x))
