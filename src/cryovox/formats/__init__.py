"""Reading and writing what others wrote; the ending of a file chooses the format."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.reading import check_readable
from cryovox.core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cryovox.core.particles import Particles, Species
    from cryovox.core.volume import LabelMap, Volume, VolumeHeader

VOLUMES = Registry(
    "volume format",
    group="cryovox.volume_formats",
    rows=dict.fromkeys((".mrc", ".rec", ".map", ".st", ".ali", ".mrcs", ".ccp4"), "cryovox.formats.mrc")
    | {".zarr": "cryovox.formats.ome_zarr"},
)
"""Ending of a file -> module with `header(path)`, `read(path, voxel_size)` and `write(path, volume)`."""

PARTICLES = Registry(
    "particle format",
    group="cryovox.particle_formats",
    rows={".star": "cryovox.formats.star"}
    | dict.fromkeys((".csv", ".tsv", ".txt", ".coords"), "cryovox.formats.table"),
)
"""Ending of a file -> module with the `read` and `write` of :func:`read_particles`."""

DIALECTS = Registry("dialect of CSV", group="cryovox.csv_dialects", rows={"czii": "cryovox.formats.czii"})
"""Convention of a CSV file -> module with a `write` of its own; the reader of tables reads them all."""

IMAGES = (".st", ".ali", ".mrcs")
"""Endings of stacks of images, which only the simulator reads."""

COMPRESSED = (".gz", ".bz2")
VOXEL_SIZE = "pass --voxel-size A with the edge of a voxel in Å"


def ending(path: Path | str) -> str:
    """Lower-case ending of the name, less a trailing .gz or .bz2."""
    suffixes = [s.lower() for s in Path(path).suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def stem(path: Path | str) -> str:
    """Name without folder and ending: `a/TS_01.mrc.gz` and `TS_01.ome.zarr` are `TS_01`."""
    name = Path(path).name
    if name.lower().endswith((*COMPRESSED, ".ome.zarr")):
        name = Path(name).stem
    return Path(name).stem


def is_volume(path: Path | str) -> bool:
    """Whether the ending is that of a volume."""
    return ending(path) in VOLUMES


def is_images(path: Path | str) -> bool:
    """Whether the ending is that of a stack of images, such as a tilt series."""
    return ending(path) in IMAGES


def is_particles(path: Path | str) -> bool:
    """Whether the ending is that of a particle list."""
    return ending(path) in PARTICLES


def read_header(path: Path | str) -> VolumeHeader:
    """Shape, type, voxel size, origin and problems of a volume, without its voxels."""
    check_exists(Path(path))
    header: VolumeHeader = _module(VOLUMES, path).header(Path(path))
    return header


def usable_voxel_size(path: Path, header: VolumeHeader, voxel_size: float | None) -> float:
    """Edge of a voxel in Å: what the user says, else what the header says; refused where that cannot be."""
    if voxel_size is not None:
        if 0 < voxel_size < float("inf"):
            return float(voxel_size)
        raise RequestError("--voxel-size", f"is {voxel_size}", "give the edge of a voxel in Å, above 0")
    if header.voxel_size is None:
        raise RequestError(path, header.size_problem or "", VOXEL_SIZE)
    return header.voxel_size


def read_volume(path: Path | str, voxel_size: float | None = None) -> Volume:
    """Read a tomogram or map; voxels of plain files are read when they are used.

    Parameters
    ----------
    path
        File; its ending is in `VOLUMES`.
    voxel_size
        In Å; wins over the header. Without it a header that cannot be right is refused.
    """
    check_exists(Path(path))
    found: Volume = _module(VOLUMES, path).read(Path(path), voxel_size)
    return found


def write_volume(path: Path | str, volume: Volume) -> None:
    """Write a volume; the file appears whole or not at all."""
    _module(VOLUMES, path).write(Path(path), volume)


def read_labels(
    path: Path | str, species: Iterable[Species] = (), voxel_size: float | None = None
) -> LabelMap:
    """Read a label map of whole numbers from 0 to 255.

    Parameters
    ----------
    path
        A volume file of any mode.
    species
        What the labels mean; where given, any other value but 0 is refused.
    voxel_size
        In Å; wins over the header.
    """
    from cryovox.formats.labels import as_labels

    return as_labels(read_volume(path, voxel_size), tuple(species), Path(path))


def read_mask(path: Path | str) -> NDArray[np.bool_]:
    """(z, y, x), true where a volume is not 0; its voxel size plays no part.

    In signed bytes of IMOD, which go from -128 to 127, what stands for 0 is -128.
    """
    from cryovox.formats.labels import as_mask

    return as_mask(read_volume(path, 1.0), Path(path))


def write_labels(path: Path | str, labels: LabelMap) -> None:
    """Write a label map with the voxel size, origin and start of its tomogram."""
    from cryovox.core.volume import Volume

    write_volume(path, Volume(labels.data, labels.voxel_size, labels.origin, labels.nstart))


def read_particles(
    path: Path | str,
    *,
    tomogram: Volume | Mapping[str, Volume] | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
    centre: str | None = None,
    tomogram_names: Collection[str] = (),
) -> Particles:
    """Read a particle list.

    Parameters
    ----------
    path
        File; its ending is in `PARTICLES`.
    tomogram
        Gives shape and voxel size to formats that count from its centre or in voxels; several by name.
    voxel_size
        Å per pixel of the coordinates in the file; wins over what the file says.
    species
        Name for particles whose file names no species; "particle" by default.
    centre
        What a STAR file of RELION 5 counts from, "half" or "half-1" of the size; see
        :mod:`cryovox.formats.star`.
    tomogram_names
        Names of one tomogram. Of a list that names several tomograms only its particles are read; a list
        that names others alone is refused.
    """
    from cryovox.formats.tomogram_names import rows_of

    check_exists(Path(path))
    reader = _module(PARTICLES, path).read
    settings: dict[str, Any] = _settings(reader, path, centre=centre)
    if "tomogram_names" in signature(reader).parameters:  # which it needs where it counts from centres
        settings["tomogram_names"] = tomogram_names
    picks: Particles = reader(
        Path(path), tomogram=tomogram, voxel_size=voxel_size, species=species, **settings
    )
    names = None if picks.tomograms is None else picks.tomograms.tolist()
    rows = rows_of(path, names, tomogram_names)
    return picks if rows is None else picks.take(rows)


def write_particles(
    path: Path | str,
    particles: Particles,
    *,
    tomogram: Volume | Mapping[str, Volume] | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
    star_version: str | None = None,
    centre: str | None = None,
) -> None:
    """Write a particle list; the file appears whole or not at all.

    Parameters
    ----------
    path
        File; its ending is in `PARTICLES`.
    particles
        What to write.
    tomogram
        Gives shape and voxel size to formats that count from its centre or in voxels; several by name.
    voxel_size
        Å per pixel of the coordinates to write; that of the tomogram by default.
    tomogram_name
        Name for particles that name no tomogram.
    star_version
        Convention of the file: "relion5", "relion4" or "relion3" for STAR, "czii" for CSV.
    centre
        What a STAR file of RELION 5 counts from, "half" or "half-1" of the size.
    """
    writer = _module(PARTICLES, path).write
    if star_version is not None and star_version in DIALECTS and ending(path) == ".csv":
        writer, star_version = DIALECTS[star_version].write, None
    settings = _settings(writer, path, star_version=star_version, centre=centre)
    writer(
        Path(path),
        particles,
        tomogram=tomogram,
        voxel_size=voxel_size,
        tomogram_name=tomogram_name,
        **settings,
    )


def check_exists(path: Path) -> None:
    """Refuse a path at which nothing is, or which may not be read."""
    check_readable(path)


@contextmanager
def unpacking(path: Path) -> Iterator[tuple[IO[bytes] | gzip.GzipFile | bz2.BZ2File, bool]]:
    """Give a file to read from, and whether it is compressed, as its first bytes say (gzip, bzip2)."""
    check_exists(path)
    with path.open("rb") as raw:
        first = raw.read(3)
        raw.seek(0)
        try:
            if first[:2] == b"\x1f\x8b":
                with gzip.open(raw) as file:
                    yield file, True
            elif first == b"BZh":
                with bz2.open(raw) as file:
                    yield file, True
            else:
                yield raw, False
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise RequestError(path, f"cannot be read: {error}", "copy or download the file again") from None


def unpacked(path: Path) -> bytes:
    """All bytes of a file, decompressed where its first bytes say gzip or bzip2."""
    with unpacking(path) as (file, _):
        return file.read()


def read_text(path: Path) -> str:
    """All text of a file; what is not UTF-8 is refused."""
    try:
        return unpacked(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(path, "is not a text file", "check that this is the file you meant") from None


def write_text(path: Path, text: str) -> None:
    """Write text at one go, compressed where the name ends in .gz or .bz2."""
    data, suffix = text.encode("utf-8"), path.suffix.lower()
    if suffix in COMPRESSED:
        data = gzip.compress(data) if suffix == ".gz" else bz2.compress(data)
    with replacing(path) as beside:
        beside.write_bytes(data)


def _settings(function: Any, path: Path | str, **given: str | None) -> dict[str, str]:
    """What was given, refused where the format knows no such thing."""
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        if name not in signature(function).parameters:
            where = "--star-version" if name == "star_version" else name  # the others are no options
            raise RequestError(where, f"{ending(path)} files have none", "leave it out")
    return chosen


def _module(table: Registry, path: Path | str) -> Any:
    found = ending(path)
    if found not in table:
        told = f"the ending {found!r} is no {table.kind} that we know"
        raise RequestError(path, told, f"known endings: {', '.join(table)}, each also with .gz or .bz2")
    return table[found]
