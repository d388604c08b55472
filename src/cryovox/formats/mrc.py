"""MRC, the format in which most tomograms arrive, with all that writers get wrong.

A header is trusted as far as it can be right. A voxel size of 1.0 Å is what writers leave that do not
know: it is taken only for maps of at most 64 voxels on the longest edge (small maps are sampled so
finely, tomograms are not). Sizes that differ between axes by at most 1 % are averaged.
The format: A. Cheng et al., J. Struct. Biol. 192 (2015) 146, and the IMOD manual for its flags.
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
from cryovox.core.particles import Species
from cryovox.core.volume import ZYX, LabelMap, Volume
from cryovox.formats import check_exists, unpacked

HEADER_BYTES = 1024
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 101: "u1"}
IMOD_STAMP = 1146047817
SMALL = 64
OPTION = "pass --voxel-size A with the edge of a voxel in Å"


@dataclass(frozen=True)
class MrcHeader:
    """What the first kilobyte says.

    Attributes
    ----------
    shape : (z, y, x)
    dtype
        Of the values as stored; 4-bit values (mode 101) are unpacked to uint8.
    mode
        Number that MRC gives to the dtype.
    voxel_sizes : (z, y, x)
        In Å, as written.
    origin : (z, y, x)
        In Å, as written.
    axes
        Which axis (1 = x, 2 = y, 3 = z) columns, rows and sections run along.
    extended_bytes
        Length of the extended header.
    endianness
        "<" or ">".
    data_bytes, file_bytes
        Length of the data that the header promises, and of the (decompressed) file.
    problems
        What is wrong with the header, each in a sentence.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    mode: int
    voxel_sizes: ZYX
    origin: ZYX
    axes: tuple[int, int, int]
    extended_bytes: int
    endianness: Literal["<", ">"]
    data_bytes: int
    file_bytes: int
    problems: tuple[str, ...] = ()

    @property
    def voxel_size(self) -> float | None:
        """Edge of a voxel in Å, or None where the header cannot be right."""
        return None if _size_problem(self) else round(float(np.mean(self.voxel_sizes)), 5)

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """(sections, rows, columns) as they lie in the file."""
        columns, rows, sections = (self.shape[3 - axis] for axis in self.axes)
        return sections, rows, columns


def header(path: Path) -> MrcHeader:
    """Look at the header without reading voxels; a wrong voxel size or length is a problem told, not raised.

    Files that are not MRC at all are refused.
    """
    return _inspect(path)[0]


def read(path: Path, voxel_size: float | None = None) -> Volume:
    """Read a file with axes put in the order z, y, x; plain files are mapped into memory.

    Parameters
    ----------
    path
        Any mode of real numbers, either byte order, any axis order; gzip and bzip2 too.
    voxel_size
        In Å; wins over the header, whatever that says.
    """
    found, packed = _inspect(path)
    if found.file_bytes < HEADER_BYTES + found.extended_bytes + found.data_bytes:
        raise RequestError(path, _length_problem(found) or "", "copy or reconstruct the file again")
    if voxel_size is None:
        voxel_size = found.voxel_size
    elif not (np.isfinite(voxel_size) and voxel_size > 0):
        raise RequestError("--voxel-size", f"is {voxel_size}", "give the edge of a voxel in Å, above 0")
    if voxel_size is None:
        raise RequestError(path, _size_problem(found) or "", OPTION)
    offset = HEADER_BYTES + found.extended_bytes
    raw: NDArray[np.uint8]
    if packed is None:
        raw = np.memmap(path, np.uint8, "r", offset=offset, shape=(found.data_bytes,))
    else:
        raw = np.frombuffer(packed, np.uint8, count=found.data_bytes, offset=offset)
    # sections, rows, columns -> z, y, x
    order = [(2, 1, 0)[found.axes.index(axis)] for axis in (3, 2, 1)]
    return Volume(_values(raw, found).transpose(order), float(voxel_size), found.origin)


def write(path: Path, volume: Volume, dtype: DTypeLike | None = None) -> None:
    """Write a volume, a slab at a time.

    Floating point numbers become float32 (float16 stays). int8, int16 and uint16 stay, uint8 becomes
    int8 or uint16, and wider numbers become int16, uint16 or float32, whichever first holds them.
    """
    kind = np.dtype(dtype) if dtype is not None else _storable(volume.data)
    with create(path, volume.shape, kind, volume.voxel_size, volume.origin) as out:
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
) -> Iterator[NDArray[Any]]:
    """Give a (z, y, x) memory map to fill in any order; the file appears when the block ends well.

    Parameters
    ----------
    path
        Compressed at the end where the name ends in .gz or .bz2.
    shape : (z, y, x)
    dtype
        int8, int16, uint16, float16 or float32; uint8 and bool are widened or narrowed to fit a mode.
    voxel_size
        In Å.
    origin : (z, y, x)
        In Å.
    """
    kind = np.dtype({"uint8": "u2", "bool": "i1"}.get(np.dtype(dtype).name, dtype))
    with replacing(path) as beside:
        plain = beside.with_name(beside.name + ".plain")
        try:
            mode = mrcfile.utils.mode_from_dtype(kind)
            with mrcfile.new_mmap(plain, shape, mrc_mode=mode, overwrite=True) as file:
                file.set_volume()
                _claim(plain)
                yield file.data
                _finish(file, voxel_size, origin)
            _pack(plain, beside, path.suffix.lower())
        finally:
            discard(plain)


def _claim(plain: Path) -> None:
    """Take the room on the disk at once: writing to a sparse map of a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with plain.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, plain.stat().st_size)


def as_labels(volume: Volume, species: tuple[Species, ...], where: Path) -> LabelMap:
    """Take a volume as a label map: whole numbers, and only those that species have."""
    known = {s.label for s in species}
    stored = np.issubdtype(volume.data.dtype, np.integer) and volume.data.dtype.itemsize == 1
    labels = volume.data.view(np.uint8) if stored else np.empty(volume.shape, np.uint8)
    z = 0
    for slab in slabs(volume.data):
        values = np.unique(slab)
        for value in values:
            if not (np.isfinite(value) and value == int(value) and 0 <= value <= 255):
                told = f"holds the value {value}; labels are whole numbers from 0 to 255"
                raise RequestError(where, told, "is this a tomogram rather than a label map?")
        unknown = sorted({int(v) for v in values} - known - {0}) if known else []
        if unknown:
            told = f"holds label {unknown[0]}, which no species has"
            raise RequestError(where, told, f"labels of the species: {', '.join(map(str, sorted(known)))}")
        if not stored:
            labels[z : z + len(slab)] = slab
        z += len(slab)
    return LabelMap(labels, volume.voxel_size, species, volume.origin)


def _inspect(path: Path) -> tuple[MrcHeader, bytes | None]:
    check_exists(path)
    if path.is_dir():
        raise RequestError(path, "is a folder, not an MRC file", "name the file")
    with path.open("rb") as file:
        first = file.read(HEADER_BYTES)
    packed = unpacked(path) if first[:2] == b"\x1f\x8b" or first[:3] == b"BZh" else None
    size = path.stat().st_size if packed is None else len(packed)
    first = first if packed is None else packed[:HEADER_BYTES]
    if size < HEADER_BYTES:
        told = "is empty" if size == 0 else f"has {size} bytes; an MRC header alone has {HEADER_BYTES}"
        raise RequestError(path, told, "copy or reconstruct the file again")
    record, endianness = _record(path, first)
    found = _parse(record, endianness, size)
    problems = (_length_problem(found), _size_problem(found))
    return replace(found, problems=tuple(problem for problem in problems if problem)), packed


def _record(path: Path, first: bytes) -> tuple[Any, Literal["<", ">"]]:
    """Header fields in the byte order that makes sense; the machine stamp is asked first."""
    stamped: tuple[Literal["<", ">"], ...] = (">", "<") if first[212] == 0x11 else ("<", ">")
    for endianness in stamped:
        record = np.frombuffer(first, HEADER_DTYPE.newbyteorder(endianness))[0]
        if int(record["mode"]) in (3, 4) and _sane(record):
            told = f"holds complex numbers (mode {int(record['mode'])})"
            raise RequestError(path, told, "convert it to a real map first, by an inverse Fourier transform")
        if int(record["mode"]) in MODES and _sane(record):
            if record["nz"] == 1 and record["ispg"] == 0 and record["mz"] <= 1:
                told = f"is one image of {int(record['ny'])} x {int(record['nx'])} pixels, not a volume"
                raise RequestError(path, told, "name a reconstructed tomogram")
            return record, endianness
    raise RequestError(path, "is not an MRC file", "check that this is the file you meant")


def _sane(record: Any) -> bool:
    sides = all(0 < int(record[key]) < 1 << 20 for key in ("nx", "ny", "nz"))
    return sides and 0 <= int(record["nsymbt"]) < 1 << 30


def _parse(record: Any, endianness: Literal["<", ">"], size: int) -> MrcHeader:
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
    row = (nx + 1) // 2 if mode == 101 else nx * dtype.itemsize
    return MrcHeader(
        shape=(counts[3], counts[2], counts[1]),
        dtype=dtype,
        mode=mode,
        voxel_sizes=_voxel_sizes(record, counts),
        origin=(_finite(origin["z"]), _finite(origin["y"]), _finite(origin["x"])),
        axes=(axes[0], axes[1], axes[2]),
        extended_bytes=int(record["nsymbt"]),
        endianness=endianness,
        data_bytes=row * ny * nz,
        file_bytes=size,
    )


def _voxel_sizes(record: Any, counts: dict[int, int]) -> ZYX:
    sizes = []
    for axis, name in ((3, "z"), (2, "y"), (1, "x")):
        intervals = int(record["m" + name])
        # stacks of images, often tomograms, count one interval along z
        divisor = counts[axis] if intervals < 1 or (axis == 3 and intervals == 1) else intervals
        sizes.append(_finite(record["cella"][name]) / divisor)
    return sizes[0], sizes[1], sizes[2]


def _unsigned_bytes(record: Any) -> bool:
    """Whether bytes of mode 0 go from 0 to 255: IMOD says so by a flag, others by their maximum."""
    stamp, flags = np.frombuffer(record["extra2"].tobytes(), record["nx"].dtype, 2, offset=40)
    if int(stamp) == IMOD_STAMP:
        return not int(flags) & 1
    return bool(record["dmin"] >= 0 and 127 < record["dmax"] <= 255)


def _finite(value: Any) -> float:
    return float(value) if np.isfinite(value) else 0.0


def _length_problem(found: MrcHeader) -> str | None:
    wanted = HEADER_BYTES + found.extended_bytes + found.data_bytes
    if found.file_bytes >= wanted:
        return None
    z, y, x = found.shape
    return f"is cut off: {x} x {y} x {z} voxels need {wanted} bytes, the file has {found.file_bytes}"


def _size_problem(found: MrcHeader) -> str | None:
    z, y, x = found.voxel_sizes
    low, high = min(found.voxel_sizes), max(found.voxel_sizes)
    if low <= 0:
        return f"does not say its voxel size (x {x:g}, y {y:g}, z {z:g} Å)"
    if low < 0.1 or high > 1000:
        return f"says a voxel size of x {x:g}, y {y:g}, z {z:g} Å, which cannot be"
    if high / low > 1.01:
        return f"has voxels that are not cubes: x {x:g}, y {y:g}, z {z:g} Å"
    if abs(low - 1) < 1e-5 and abs(high - 1) < 1e-5 and max(found.shape) > SMALL:
        return "says a voxel size of 1.0 Å, which writers leave that do not know it"
    return None


def _values(raw: NDArray[np.uint8], found: MrcHeader) -> NDArray[Any]:
    sections, rows, columns = found.stored_shape
    if found.mode != 101:
        return raw.view(found.dtype).reshape(sections, rows, columns)
    pairs = raw.reshape(sections, rows, -1)
    return np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(sections, rows, -1)[:, :, :columns]


def _storable(data: NDArray[Any]) -> np.dtype[Any]:
    if data.dtype.kind == "f":
        return np.dtype("f2") if data.dtype.itemsize == 2 else np.dtype("f4")
    kept = {"bool": "i1", "int8": "i1", "int16": "i2", "uint16": "u2"}.get(data.dtype.name)
    if kept is not None:
        return np.dtype(kept)
    low = min(int(slab.min()) for slab in slabs(data))
    high = max(int(slab.max()) for slab in slabs(data))
    for kind in ("i1", "u2") if data.dtype == np.uint8 else ("i2", "u2"):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype("f4")


def _finish(file: Any, voxel_size: float, origin: ZYX) -> None:
    file.voxel_size = voxel_size
    for name, value in zip("zyx", origin, strict=True):
        file.header.origin[name] = value
    found = statistics(file.data)
    file.header.dmin, file.header.dmax = found.low, found.high
    file.header.dmean, file.header.rms = found.mean, found.std


def _pack(plain: Path, beside: Path, suffix: str) -> None:
    if suffix not in (".gz", ".bz2"):
        plain.replace(beside)
        return
    pack = gzip.open if suffix == ".gz" else bz2.open
    with plain.open("rb") as source, pack(beside, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 22)
