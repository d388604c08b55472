"""Tomograms in the MRC format, including common errors of other writers.

Implausible headers are detected (:func:`cryovox.core.volume.voxel_size_problem`). Voxel sizes that differ
between axes by at most 1 % are averaged. Stacks of volumes and of images, such as tilt series, are errors.
Specification: A. Cheng et al., J. Struct. Biol. 192 (2015) 146, and the IMOD manual for its flags.
"""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import DTypeLike, NDArray

from cryovox.core.atomic import discard, replacing
from cryovox.core.errors import RequestError
from cryovox.core.intensity import slabs, statistics
from cryovox.core.reading import check_readable
from cryovox.core.volume import ZYX, Start, Volume, VolumeHeader, Voxels, voxel_size_problem
from cryovox.formats import unpacking, usable_voxel_size
from cryovox.formats.file_volume import FileVolume
from cryovox.formats.mrc_stacks import check_no_stack
from cryovox.formats.stored import check_memory, check_single_precision, exact_type

LABEL = b"Written by cryovox"
HEADER_BYTES = 1024
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 101: "u1"}
IMOD_STAMP = 1146047817
MAX_LENGTH = 1 << 20  # voxels along an axis
MAX_EXTENDED = 1 << 20


@dataclass(frozen=True, kw_only=True)
class MrcHeader(VolumeHeader):
    """Header of an MRC file; 4-bit values (mode 101) become uint8.

    Attributes
    ----------
    mode
        Number of the data type in MRC.
    axes
        Axis (1 = x, 2 = y, 3 = z) of columns, rows and sections.
    extended_bytes
        Length of the extended header.
    endianness
        "<" or ">".
    data_bytes
        Length of the data according to the header.
    """

    mode: int
    axes: tuple[int, int, int]
    extended_bytes: int
    endianness: Literal["<", ">"]
    data_bytes: int

    @property
    def file_bytes(self) -> int:
        """Length of the (decompressed) file according to the header."""
        return HEADER_BYTES + self.extended_bytes + self.data_bytes

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """(sections, rows, columns) in the file."""
        columns, rows, sections = (self.shape[3 - axis] for axis in self.axes)
        return sections, rows, columns


def header(path: Path, images: bool = False) -> MrcHeader:
    """Read the header of a file, which may be compressed.

    A wrong voxel size or length is one of its problems and not raised; a file that is not MRC is an error.
    The length of a compressed file is unknown until :func:`read`.

    Parameters
    ----------
    path
    images
        Accept a stack of images, such as a tilt series, which is an error otherwise.
    """
    return _inspect(path, images)[0]


def read(path: Path, voxel_size: float | None = None, images: bool = False) -> Volume:
    """Read a file, with axes in the order z, y, x; uncompressed files are memory-mapped.

    Parameters
    ----------
    path
        File with any mode of real numbers, byte order and axis order, also gzip and bzip2.
    voxel_size
        Voxel size in Å, instead of that of the header.
    images
        Accept a stack of images, along z.
    """
    info, is_compressed = _inspect(path, images)
    if is_compressed:
        check_memory(path, info.file_bytes)
    content = _unpacked(path, info.file_bytes) if is_compressed else None
    file_size = path.stat().st_size if content is None else len(content)
    if file_size < info.file_bytes:
        raise RequestError(path, _length_problem(info, file_size), "copy or reconstruct the file again")
    size = usable_voxel_size(path, info, voxel_size)
    offset = HEADER_BYTES + info.extended_bytes
    # sections, rows, columns -> z, y, x
    first, second, third = ((2, 1, 0)[info.axes.index(axis)] for axis in (3, 2, 1))
    order = first, second, third
    if content is None and info.mode != 101:
        data = FileVolume.open(path, info.dtype, offset, info.stored_shape, order)
        return Volume(data, size, info.origin, info.nstart)
    if content is None:
        raw: NDArray[np.uint8] = np.memmap(path, np.uint8, "r", offset=offset, shape=(info.data_bytes,))
    else:
        raw = np.frombuffer(content, np.uint8, count=info.data_bytes, offset=offset)
    return Volume(_values(raw, info).transpose(order), size, info.origin, info.nstart)


def write(path: Path, volume: Volume, dtype: DTypeLike | None = None) -> None:
    """Write a volume, slab by slab.

    Floating-point numbers become float32, except float16. int8, int16 and uint16 are kept, uint8 becomes int8
    or uint16, and wider integers become the first of int16, uint16 and float32 that stores them exactly; an
    error if none does.
    """
    kind = np.dtype(dtype) if dtype is not None else _storable(path, volume.data)
    with create(path, volume.shape, kind, volume.voxel_size, volume.origin, volume.nstart) as out:
        z = 0
        for slab in slabs(volume.data):
            out[z : z + len(slab)] = slab
            z += len(slab)


@contextmanager
def create(
    path: Path,
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    voxel_size: float,
    origin: ZYX = (0.0, 0.0, 0.0),
    nstart: Start = (0, 0, 0),
) -> Iterator[NDArray[Any]]:
    """Yield a (z, y, x) memory map to fill in any order; the file appears when the block succeeds.

    Parameters
    ----------
    path
        Output file, compressed if the name ends in .gz or .bz2.
    shape : (z, y, x)
    dtype
        int8, int16, uint16, float16 or float32; uint8 becomes uint16 and bool int8.
    voxel_size
        In Å.
    origin : (z, y, x)
        In Å.
    nstart : (z, y, x)
        In voxels.
    """
    kind = np.dtype({"uint8": "u2", "bool": "i1"}.get(np.dtype(dtype).name, dtype))
    with replacing(path) as temporary:
        plain = temporary.with_name(temporary.name + ".plain")
        try:
            mode = mrcfile.utils.mode_from_dtype(kind)
            with mrcfile.new_mmap(plain, shape, mrc_mode=mode, overwrite=True) as file:
                file.set_volume()
                _allocate(plain)
                yield file.data
                _write_header(file, voxel_size, origin, nstart)
            _compress(plain, temporary, path.suffix.lower())
        finally:
            discard(plain)


def _allocate(plain: Path) -> None:
    """Allocate disk space: writing to a sparse memory map on a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with plain.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, plain.stat().st_size)


def _unpacked(path: Path, size: int) -> bytes:
    """The first bytes of a compressed file; what follows is only checked, since it may be large."""
    with unpacking(path) as (file, _):
        content = file.read(size)
        while file.read(1 << 20):
            pass
    return content


def _inspect(path: Path, images: bool = False) -> tuple[MrcHeader, bool]:
    """The header, and whether the file is compressed; only the first bytes are read."""
    check_readable(path)
    if path.is_dir():
        raise RequestError(path, "is a folder, not an MRC file", "name the file")
    with unpacking(path) as (file, is_compressed):
        first = file.read(HEADER_BYTES)
        if len(first) < HEADER_BYTES:
            size = len(first)
            message = "is empty" if size == 0 else f"has {size} bytes; an MRC header alone has {HEADER_BYTES}"
            raise RequestError(path, message, "copy or reconstruct the file again")
        record, endianness = _record(path, first)
        if not images:
            check_no_stack(path, record, file.read(min(int(record["nsymbt"]), MAX_EXTENDED)))
    info = _parse(record, endianness)
    size = info.file_bytes if is_compressed else path.stat().st_size  # compressed: not known yet
    length_problem = None if size >= info.file_bytes else _length_problem(info, size)
    problems = tuple(problem for problem in (length_problem, info.size_problem) if problem)
    return replace(info, problems=problems), is_compressed


def _record(path: Path, first: bytes) -> tuple[Any, Literal["<", ">"]]:
    """Header fields in the byte order that gives valid values; that of the machine stamp is tried first."""
    byte_orders: tuple[Literal["<", ">"], ...] = (">", "<") if first[212] == 0x11 else ("<", ">")
    for endianness in byte_orders:
        record = np.frombuffer(first, HEADER_DTYPE.newbyteorder(endianness))[0]
        if int(record["mode"]) in (3, 4) and _has_valid_sizes(record):
            message = f"holds complex numbers (mode {int(record['mode'])})"
            raise RequestError(
                path, message, "convert it to a real map first, by an inverse Fourier transform"
            )
        if int(record["mode"]) in MODES and _has_valid_sizes(record):
            if record["nz"] == 1 and record["ispg"] == 0 and record["mz"] <= 1:
                message = f"is one image of {int(record['ny'])} x {int(record['nx'])} pixels, not a volume"
                raise RequestError(path, message, "name a reconstructed tomogram")
            return record, endianness
    raise RequestError(path, "is not an MRC file", "check that this is the file you meant")


def _has_valid_sizes(record: Any) -> bool:
    is_valid = all(0 < int(record[key]) < MAX_LENGTH for key in ("nx", "ny", "nz"))
    return is_valid and 0 <= int(record["nsymbt"]) < 1 << 30


def _parse(record: Any, endianness: Literal["<", ">"]) -> MrcHeader:
    mode = int(record["mode"])
    nx, ny, nz = (int(record[key]) for key in ("nx", "ny", "nz"))
    axes = tuple(int(record[key]) for key in ("mapc", "mapr", "maps"))
    if sorted(axes) != [1, 2, 3]:  # many old writers leave zeros
        axes = (1, 2, 3)
    counts = dict(zip(axes, (nx, ny, nz), strict=True))
    dtype = np.dtype(MODES[mode]).newbyteorder(endianness)
    if mode == 0 and _unsigned_bytes(record):
        dtype = np.dtype("u1")
    origin = record["origin"]
    starts = dict(zip(axes, (_start(record[key]) for key in ("nxstart", "nystart", "nzstart")), strict=True))
    row = (nx + 1) // 2 if mode == 101 else nx * dtype.itemsize
    shape, sizes = (counts[3], counts[2], counts[1]), _voxel_sizes(record, counts)
    return MrcHeader(
        shape=shape,
        dtype=dtype,
        voxel_sizes=sizes,
        origin=(_finite(origin["z"]), _finite(origin["y"]), _finite(origin["x"])),
        nstart=(starts[3], starts[2], starts[1]),
        size_problem=voxel_size_problem(sizes, shape),
        mode=mode,
        axes=(axes[0], axes[1], axes[2]),
        extended_bytes=int(record["nsymbt"]),
        endianness=endianness,
        data_bytes=row * ny * nz,
    )


def _start(value: Any) -> int:
    return int(value) if abs(int(value)) < MAX_LENGTH else 0  # larger values are invalid


def _voxel_sizes(record: Any, counts: dict[int, int]) -> ZYX:
    sizes = []
    for axis, name in ((3, "z"), (2, "y"), (1, "x")):
        intervals = int(record["m" + name])
        # files marked as image stacks, often tomograms, have one interval along z
        divisor = counts[axis] if intervals < 1 or (axis == 3 and intervals == 1) else intervals
        sizes.append(_finite(record["cella"][name]) / divisor)
    return sizes[0], sizes[1], sizes[2]


def _unsigned_bytes(record: Any) -> bool:
    """Whether bytes of mode 0 are unsigned, by the flag of IMOD or the maximum of other programs."""
    stamp, flags = np.frombuffer(record["extra2"].tobytes(), record["nx"].dtype, 2, offset=40)
    if int(stamp) == IMOD_STAMP:
        return not int(flags) & 1
    return bool(record["dmin"] >= 0 and 127 < record["dmax"] <= 255)


def _finite(value: Any) -> float:
    return float(value) if np.isfinite(value) else 0.0


def _length_problem(info: MrcHeader, size: int) -> str:
    z, y, x = info.shape
    return f"is cut off: {x} x {y} x {z} voxels need {info.file_bytes} bytes, the file has {size}"


def _values(raw: NDArray[np.uint8], info: MrcHeader) -> NDArray[Any]:
    sections, rows, columns = info.stored_shape
    if info.mode != 101:
        return raw.view(info.dtype).reshape(sections, rows, columns)
    pairs = raw.reshape(sections, rows, -1)
    return np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(sections, rows, -1)[:, :, :columns]


def _storable(path: Path, data: Voxels) -> np.dtype[Any]:
    if data.dtype.kind == "f":
        check_single_precision(path, data)
        return np.dtype("f2") if data.dtype.itemsize == 2 else np.dtype("f4")
    mode = {"bool": "i1", "int8": "i1", "int16": "i2", "uint16": "u2"}.get(data.dtype.name)
    if mode is not None:
        return np.dtype(mode)
    return exact_type(path, data, ("i1", "u2") if data.dtype == np.uint8 else ("i2", "u2", "f4"))


def _write_header(file: Any, voxel_size: float, origin: ZYX, nstart: Start) -> None:
    file.voxel_size = voxel_size
    file.header.label[0] = LABEL  # without the time that mrcfile writes: equal data give equal files
    for name, value, start in zip("zyx", origin, nstart, strict=True):
        file.header.origin[name] = value
        file.header[f"n{name}start"] = start
    moments = statistics(file.data)
    file.header.dmin, file.header.dmax = moments.low, moments.high
    file.header.dmean, file.header.rms = moments.mean, moments.std


def _compress(plain: Path, target_path: Path, suffix: str) -> None:
    if suffix not in (".gz", ".bz2"):
        plain.replace(target_path)
        return
    compressed = gzip.open if suffix == ".gz" else bz2.open
    with plain.open("rb") as source, compressed(target_path, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 22)
