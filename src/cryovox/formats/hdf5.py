"""Volumes in HDF5 files, read and written with h5py (`pip install "cryovox[hdf5]"`).

HDF5 says nothing about volumes, so programs have layouts of their own. Those of EMAN2 and IMOD
(`/MDF/images/0/image` with `EMAN.apix_x`, in Å) and of Chimera (`/Chimera/image1/data_zyx` with `step`, in Å)
state the voxel size; so does the attribute `element_size_um` of ilastik and Fiji. Of any other file the only
array with three axes is read, in the order z, y, x, and its voxel size is unknown.

Sets of subtomograms (:mod:`cryovox.formats.subtomograms`) have the same extension and are no volumes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.reading import check_readable
from cryovox.core.volume import ZYX, Volume, VolumeHeader
from cryovox.formats import usable_voxel_size
from cryovox.formats.stored import UNKNOWN, StoredVolume, check_unpacked, header_of, reason_of, spatial_axes

CHUNK = 64
EMAN, EMAN_SIZES = "MDF/images", ("EMAN.apix_z", "EMAN.apix_y", "EMAN.apix_x")
ORIGIN, NSTART = "cryovox.origin", "cryovox.nstart"
"""Attributes (z, y, x) that only this program writes."""


def header(path: Path) -> VolumeHeader:
    """Read shape, data type and voxel size."""
    return _open(path)[0]


def read(path: Path, voxel_size: float | None = None) -> Volume:
    """Open a volume; voxels are read on access."""
    info, data = _open(path)
    return Volume(data, usable_voxel_size(path, info, voxel_size), info.origin, info.nstart)


def write(path: Path, volume: Volume) -> None:
    """Write the layout of EMAN2 in chunks of 64 voxels; the data type is kept."""
    check_unpacked(path)
    h5py = library(path)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        group = file.create_group(EMAN)
        group.attrs["imageid_max"] = np.zeros(1, np.int32)
        image = group.create_group("0")
        for tag in EMAN_SIZES:
            image.attrs[tag] = np.full(1, volume.voxel_size)
        for axis, length in zip("zyx", volume.shape, strict=True):
            image.attrs[f"EMAN.n{axis}"] = np.full(1, length, np.int32)
        image.attrs[ORIGIN], image.attrs[NSTART] = volume.origin, volume.nstart
        dtype = np.dtype(volume.data.dtype)
        out = image.create_dataset(
            "image",
            shape=volume.shape,
            chunks=tuple(min(CHUNK, n) for n in volume.shape),
            dtype=np.dtype(np.uint8) if dtype.kind == "b" else dtype,
        )
        for z in range(0, volume.shape[0], CHUNK):
            out[z : z + CHUNK] = np.asarray(volume.data[z : z + CHUNK])


def is_set(path: Path) -> bool:
    """Whether a file is a set of subtomograms, or one of labeled cubes, rather than a volume."""
    try:
        with library(path).File(path, "r") as file:
            return "cryovox" in file.attrs or {"image", "label"} <= set(file)
    except (OSError, RequestError):
        return False


def library(path: Path) -> Any:
    """The module h5py, or an error if it is not installed."""
    try:
        import h5py
    except ImportError:
        message = "HDF5 files need the package h5py, which is not installed"
        raise RequestError(path, message, "pip install 'cryovox[hdf5]'") from None
    return h5py


def _open(path: Path) -> tuple[VolumeHeader, StoredVolume]:
    check_unpacked(path)
    check_readable(path)
    h5py = library(path)
    try:
        file = h5py.File(path, "r")  # closed with the last array of it
        arrays = _arrays(h5py, file)
    except (OSError, RuntimeError, KeyError) as error:
        remedy = "check that this is the file you meant"
        raise RequestError(path, f"is no HDF5 file ({reason_of(error)})", remedy) from None
    array = _volume_of(path, arrays)
    data = StoredVolume(array, spatial_axes(path, array.shape, array.dtype))
    origin, nstart = (_three(array.parent.attrs.get(tag, UNKNOWN)) for tag in (ORIGIN, NSTART))
    info = header_of(data, _voxel_sizes(array), origin)
    z, y, x = (int(value) for value in nstart)
    return replace(info, nstart=(z, y, x)), data


def _arrays(h5py: Any, file: Any) -> dict[str, Any]:
    """Arrays with at least three axes, by name."""
    arrays: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and sum(n > 1 for n in item.shape or ()) >= 3:
            arrays[name] = item

    file.visititems(visit)
    return arrays


def _volume_of(path: Path, arrays: dict[str, Any]) -> Any:
    """The only volume; of Chimera the finest one."""
    if f"{EMAN}/0/image" in arrays:
        others = [name for name in arrays if name.startswith(EMAN)]
        if len(others) > 1:
            message = f"holds {len(others)} images, such as a stack of subtomograms"
            raise RequestError(path, message, "write one volume to a file of its own")
        return arrays[f"{EMAN}/0/image"]
    if finest := [name for name in arrays if name.startswith("Chimera/") and name.endswith("/data_zyx")]:
        return arrays[finest[0]]
    if not arrays:
        raise RequestError(path, "holds no array with three axes", "name a file with a volume")
    if len(arrays) > 1:
        message = f"holds several arrays: {', '.join(list(arrays)[:5])}"
        raise RequestError(path, message, "write the tomogram to a file of its own")
    return next(iter(arrays.values()))


def _voxel_sizes(array: Any) -> ZYX:
    """Voxel size (z, y, x) in Å in the attributes of an array or its group; 0 where unknown."""
    own, group = array.attrs, array.parent.attrs
    if set(EMAN_SIZES) <= set(group):
        return _three([float(np.ravel(group[tag])[0]) for tag in EMAN_SIZES])
    if "step" in group and array.name.endswith("/data_zyx"):
        return _three(np.ravel(group["step"])[::-1])
    if "element_size_um" in own:
        return _three(1e4 * np.ravel(own["element_size_um"]))
    return UNKNOWN


def _three(values: Any) -> ZYX:
    numbers = [float(value) for value in values]
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        return UNKNOWN
    return numbers[0], numbers[1], numbers[2]
