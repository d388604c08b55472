"""Volumes in TIFF files, read and written with tifffile (`pip install "cryovox[tiff]"`).

The sections are images of one file. The voxel size is that of OME-XML or of ImageJ, where it has a unit;
the resolution of other files is that of a printer. Without compression the file is memory-mapped, otherwise
the sections that are used are decompressed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.reading import check_readable
from cryovox.core.volume import ZYX, Volume, VolumeHeader, Voxels
from cryovox.formats import usable_voxel_size
from cryovox.formats.file_volume import FileVolume
from cryovox.formats.stored import (
    UNKNOWN,
    StoredVolume,
    check_single_precision,
    check_unpacked,
    exact_type,
    header_of,
    reason_of,
    spatial_axes,
)

UNITS = {
    "angstrom": 1.0,
    "a": 1.0,
    "å": 1.0,
    "\u212b": 1.0,
    "pm": 0.01,
    "nm": 10.0,
    "um": 1e4,
    "µm": 1e4,
    "\u03bcm": 1e4,
    "micron": 1e4,
    "mm": 1e7,
    "m": 1e10,
}
"""Names of units in lower case -> Å."""


class _Sections:
    """Sections of a file, which is opened to decompress those that are used."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path, self.shape, self.dtype = path, shape, dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[Any]:
        wanted = range(self.shape[0])[key[0]]
        block = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        with library(self._path).TiffFile(self._path) as file:
            for i, z in enumerate(wanted):
                block[i] = file.series[0].pages[z].asarray()
        return block[:, key[1], key[2]]


def header(path: Path) -> VolumeHeader:
    """Read shape, data type and voxel size."""
    return _open(path)[0]


def read(path: Path, voxel_size: float | None = None) -> Volume:
    """Open a volume; voxels are read on access."""
    info, data = _open(path)
    return Volume(data, usable_voxel_size(path, info, voxel_size))


def write(path: Path, volume: Volume) -> None:
    """Write OME-TIFF, section by section.

    float64 and float16 become float32, bool uint8, and integers of 64 bits int32 or uint32; an error if these
    cannot store them.
    """
    check_unpacked(path)
    tifffile = library(path)
    dtype = _storable(path, volume.data)
    sizes = {f"PhysicalSize{axis}": volume.voxel_size for axis in "XYZ"}
    units = {f"PhysicalSize{axis}Unit": "Å" for axis in "XYZ"}
    sections = (np.asarray(volume.data[z], dtype=dtype) for z in range(volume.shape[0]))
    with (
        replacing(path) as temporary,
        tifffile.TiffWriter(temporary, ome=True, bigtiff=_is_large(volume)) as out,
    ):
        metadata = {"axes": "ZYX", **sizes, **units}
        out.write(sections, shape=volume.shape, dtype=dtype, photometric="minisblack", metadata=metadata)


def library(path: Path) -> Any:
    """The module tifffile, or an error if it is not installed."""
    try:
        import tifffile
    except ImportError:
        message = "TIFF files need the package tifffile, which is not installed"
        raise RequestError(path, message, "pip install 'cryovox[tiff]'") from None
    return tifffile


def _storable(path: Path, data: Voxels) -> np.dtype[Any]:
    if data.dtype.kind in "iu" and data.dtype.itemsize == 8:
        return exact_type(path, data, ("i4", "u4"))
    check_single_precision(path, data)
    known = {"float64": "f4", "float16": "f4", "bool": "u1"}
    return np.dtype(known.get(np.dtype(data.dtype).name, data.dtype))


def _is_large(volume: Volume) -> bool:
    return volume.data.size * 4 > 1 << 31


def _open(path: Path) -> tuple[VolumeHeader, Any]:
    check_unpacked(path)
    check_readable(path)
    tifffile = library(path)
    try:
        with tifffile.TiffFile(path) as file:
            if len(file.series) != 1:
                message = f"holds {len(file.series)} series of images"
                raise RequestError(path, message, "write the volume to a file of its own")
            series = file.series[0]
            axes = spatial_axes(path, series.shape, series.dtype)
            shape = tuple(int(series.shape[axis]) for axis in axes)
            if shape[0] == 1:
                message = f"is one image of {shape[1]} x {shape[2]} pixels, not a volume"
                raise RequestError(path, message, "name a reconstructed tomogram")
            dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
            sizes, offset = _voxel_sizes(file), series.dataoffset
            if offset is None:
                _check_sections(path, series, shape)
    except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        remedy = "write it again without compression, with all sections in one file"
        raise RequestError(path, f"cannot be read as TIFF ({reason_of(error)})", remedy) from None
    if offset is None:
        data: Any = StoredVolume(_Sections(path, shape, np.dtype(series.dtype)))
    else:
        data = FileVolume.open(path, dtype, offset, (shape[0], shape[1], shape[2]))
    return header_of(data, sizes), data


def _check_sections(path: Path, series: Any, shape: tuple[int, ...]) -> None:
    """Raise an error if sections are not one image each, or cannot be decompressed."""
    pages = series.pages
    if len(pages) != shape[0] or tuple(pages[0].shape) != shape[1:]:
        message = f"has {len(pages)} images of shape {tuple(pages[0].shape)}"
        raise RequestError(path, message, "write it again without compression")
    pages[0].asarray()  # an error if its compression needs another package


def _voxel_sizes(file: Any) -> ZYX:
    """Voxel size (z, y, x) in Å; 0 where unknown."""
    if file.is_ome:
        return _of_ome(file.ome_metadata)
    metadata = file.imagej_metadata if file.is_imagej else None
    unit = UNITS.get(str((metadata or {}).get("unit", "")).replace("\\u00B5", "µ").lower())
    if metadata is None or unit is None:
        return UNKNOWN
    tags = file.pages[0].tags
    sizes = [float(metadata.get("spacing", 0.0))]
    for name in ("YResolution", "XResolution"):
        count, length = tags[name].value if name in tags else (0, 1)
        sizes.append(length / count if count else 0.0)
    z, y, x = (size * unit for size in sizes)
    return z, y, x


def _of_ome(text: str) -> ZYX:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return UNKNOWN
    pixels = next((item for item in root.iter() if item.tag.endswith("}Pixels")), None)
    if pixels is None:
        return UNKNOWN
    sizes = []
    for axis in "ZYX":
        unit = UNITS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower(), 0.0)
        sizes.append(float(pixels.get(f"PhysicalSize{axis}", 0.0)) * unit)
    return sizes[0], sizes[1], sizes[2]
