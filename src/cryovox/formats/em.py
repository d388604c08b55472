"""Volumes in the EM format (.em) of TOM, AV3, PyTom and Dynamo.

A header of 512 bytes: machine, unused, unused, data type, the dimensions x, y and z as 32-bit integers, a
comment of 80 bytes, and 40 parameters as 32-bit integers, of which the seventh is the pixel size in 0.01 Å
(https://github.com/dtegunov/tom/blob/master/IOfun/tom_emread.m). Most programs leave it at 0. Motive lists
have the same extension and header; they are 20 numbers wide
(:func:`cryovox.formats.is_particles`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.intensity import slabs
from cryovox.core.volume import Volume, VolumeHeader, Voxels
from cryovox.formats import usable_voxel_size
from cryovox.formats.file_volume import FileVolume
from cryovox.formats.stored import (
    check_single_precision,
    check_unpacked,
    exact_type,
    first_bytes,
    header_of,
)

HEADER = 512
PC = 6
"""Machine code of little-endian files; those of other machines are big-endian."""
TYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
MAX_LENGTH = 1 << 20
PIXEL_SIZE = 96 + 4 * 6
"""First byte of the pixel size."""
STEPS = 100
"""Steps of the stored pixel size in 1 Å."""


def header(path: Path) -> VolumeHeader:
    """Read shape, data type and pixel size."""
    return _open(path)[0]


def read(path: Path, voxel_size: float | None = None) -> Volume:
    """Map a volume; voxels are read on access."""
    info, data = _open(path)
    return Volume(data, usable_voxel_size(path, info, voxel_size))


def write(path: Path, volume: Volume) -> None:
    """Write a volume, slab by slab.

    int8, int16 and int32 are kept, uint8 becomes int16, uint16 int32, wider integers the first of int32 and
    float32 that stores them exactly, and all others float32. The voxel size is stored if it is a multiple of
    0.01 Å, and is otherwise 0, since a rounded one would be wrong.
    """
    check_unpacked(path)
    kind = _kind(path, volume.data)
    first = np.zeros(HEADER, np.uint8)
    first[[0, 3]] = PC, kind
    first[4:16] = np.array(volume.shape[::-1], dtype="<i4").view(np.uint8)
    steps = round(volume.voxel_size * STEPS)
    if abs(steps / STEPS / volume.voxel_size - 1) < 1e-6:
        first[PIXEL_SIZE : PIXEL_SIZE + 4] = np.array([steps], dtype="<i4").view(np.uint8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(first.tobytes())
        for slab in slabs(volume.data):
            file.write(np.ascontiguousarray(slab, dtype="<" + TYPES[kind]).tobytes())


def _kind(path: Path, data: Voxels) -> int:
    """Code of the type in which a volume is written."""
    known = {"int8": 1, "bool": 1, "uint8": 2, "int16": 2, "uint16": 4, "int32": 4}
    name = np.dtype(data.dtype).name
    if np.dtype(data.dtype).kind in "iu" and name not in known:
        return 4 if exact_type(path, data, ("i4", "f4")).kind == "i" else 5
    check_single_precision(path, data)
    return known.get(name, 5)


def _open(path: Path) -> tuple[VolumeHeader, Any]:
    first = first_bytes(path, HEADER)
    if len(first) < HEADER or first[3] not in TYPES:
        raise RequestError(path, "is no EM file of real numbers", "check that this is the file you meant")
    order = "<" if first[0] == PC else ">"
    x, y, z = np.frombuffer(first, f"{order}i4", 3, offset=4).tolist()
    if not all(0 < n < MAX_LENGTH for n in (x, y, z)):
        raise RequestError(path, "is no EM file", "check that this is the file you meant")
    if z == 1:
        raise RequestError(path, f"is one image of {y} x {x} pixels, or a list", "name a volume")
    dtype = np.dtype(order + TYPES[first[3]])
    needed = HEADER + x * y * z * dtype.itemsize
    if path.stat().st_size < needed:
        message = (
            f"is cut off: {x} x {y} x {z} voxels need {needed} bytes, the file has {path.stat().st_size}"
        )
        raise RequestError(path, message, "copy or reconstruct the file again")
    size = int(np.frombuffer(first, f"{order}i4", 1, offset=PIXEL_SIZE)[0]) / STEPS
    data = FileVolume.open(path, dtype, HEADER, (z, y, x))
    return header_of(data, (size, size, size)), data
