"""Reading and writing of files; the file name extension chooses the format."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
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
    | {
        ".zarr": "cryovox.formats.ome_zarr",
        ".em": "cryovox.formats.em",
        ".npy": "cryovox.formats.npy",
    }
    | dict.fromkeys((".tif", ".tiff"), "cryovox.formats.tiff")
    | dict.fromkeys((".h5", ".hdf5", ".hdf"), "cryovox.formats.hdf5"),
)
"""Extension -> module with `header(path)`, `read(path, voxel_size)` and `write(path, volume)`."""

GENERAL = (".em", ".npy", ".tif", ".tiff", ".h5", ".hdf5", ".hdf")
"""Extensions of volumes that many other files have too: those in a folder are not taken for tomograms."""

PARTICLES = Registry(
    "particle format",
    group="cryovox.particle_formats",
    rows={
        extension: f"cryovox.formats.particles.{target}"
        for extension, target in {
            ".star": "star",
            ".csv": "table:FORMAT",
            ".tsv": "table:TSV_FORMAT",
            ".txt": "table:FORMAT",
            ".coords": "coords:FORMAT",
            ".box": "coords:BOX_FORMAT",
            ".tbl": "dynamo:FORMAT",
            ".em": "tom:FORMAT",
            ".mod": "imod",
            ".json": "copick:FORMAT",
            ".ndjson": "portal:FORMAT",
            ".cbox": "cryolo:FORMAT",
            ".tloc": "tomotwin:FORMAT",
            ".xml": "deepfinder:FORMAT",
            ".cmm": "chimerax:FORMAT",
            ".cxc": "chimerax_script:FORMAT",
            ".am": "amira:FORMAT",
        }.items()
    },
)
"""Extension -> module or object with `read` and `write`, which take the arguments of :func:`read_particles`
and :func:`write_particles`."""

SHARED_EXTENSIONS = {
    ".star": ("stopgap",),
    ".json": ("eman2", "molstar", "cets"),
    ".xml": ("pytom",),
    ".txt": ("shrec",),
}
"""Extension -> other formats with it, modules of :mod:`cryovox.formats.particles`,
whose `FORMAT.recognizes(first_characters)`."""

PARTICLE_CONVENTIONS = Registry(
    "convention of particle files",
    group="cryovox.csv_dialects",
    rows={
        name: f"cryovox.formats.particles.{name}:FORMAT"
        for name in ("czii", "stopgap", "eman2", "cets", "pytom", "shrec")
    },
)
"""Convention of a file -> format, where it is not that of the extension."""

IMAGES = (".st", ".ali", ".mrcs")
"""Extensions of image stacks, which only the simulator reads."""

COMPRESSED = (".gz", ".bz2")
VOXEL_SIZE_REMEDY = "pass --voxel-size A with the voxel size in Å"


def ending(path: Path | str) -> str:
    """Lower-case extension, without a trailing .gz or .bz2."""
    suffixes = [s.lower() for s in Path(path).suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def stem(path: Path | str) -> str:
    """Name without folder and extension: `a/TS_01.mrc.gz` and `TS_01.ome.zarr` become `TS_01`."""
    name = Path(path).name
    if name.lower().endswith((*COMPRESSED, ".ome.zarr")):
        name = Path(name).stem
    return Path(name).stem


def is_volume(path: Path | str) -> bool:
    """Whether a file is a volume, by its extension and, where lists or sets share it, by its content."""
    suffix = ending(path)
    if suffix == ".em" and Path(path).is_file():
        return not _is_list(suffix, beginning(Path(path), 16))
    if suffix in (".h5", ".hdf5", ".hdf") and Path(path).is_file():
        from cryovox.formats import hdf5

        return not hdf5.is_set(Path(path))
    return suffix in VOLUMES


def is_general(path: Path | str) -> bool:
    """Whether a volume has an extension that many other files have too; see `GENERAL`."""
    return ending(path) in GENERAL and is_volume(path)


def is_images(path: Path | str) -> bool:
    """Whether a file has the extension of an image stack, such as a tilt series."""
    return ending(path) in IMAGES


def is_particles(path: Path | str) -> bool:
    """Whether a file is a particle list, by its extension and, where others share it, by its content."""
    suffix = ending(path)
    if suffix in (".json", ".xml", ".em") and Path(path).is_file():
        return _is_list(suffix, beginning(Path(path)))
    return suffix in PARTICLES


def read_header(path: Path | str) -> VolumeHeader:
    """Read shape, data type, voxel size, origin and problems of a volume, without its voxels."""
    check_readable(Path(path))
    header: VolumeHeader = _module(VOLUMES, path).header(Path(path))
    return header


def usable_voxel_size(path: Path, header: VolumeHeader, voxel_size: float | None) -> float:
    """Voxel size in Å: that of the user, else that of the header; an error if it cannot be right."""
    if voxel_size is not None:
        if 0 < voxel_size < float("inf"):
            return float(voxel_size)
        raise RequestError("--voxel-size", f"is {voxel_size}", "give the voxel size in Å, above 0")
    if header.voxel_size is None:
        raise RequestError(path, header.size_problem or "", VOXEL_SIZE_REMEDY)
    return header.voxel_size


def read_volume(
    path: Path | str, voxel_size: float | None = None, *, stored_voxel_size: float | None = None
) -> Volume:
    """Read a tomogram or map; voxels of uncompressed files are read on access.

    Parameters
    ----------
    path
        File with an extension in `VOLUMES`.
    voxel_size
        Voxel size in Å, instead of that of the header. Without it a header that cannot be right is an error.
    stored_voxel_size
        Of a store with several resolutions (OME-Zarr), read the one with this voxel size in Å; by default the
        finest one. An error for other formats.
    """
    check_readable(Path(path))
    reader = _module(VOLUMES, path).read
    settings = {} if stored_voxel_size is None else {"stored_voxel_size": stored_voxel_size}
    if settings and "stored_voxel_size" not in signature(reader).parameters:
        message = f"{path} holds one resolution"
        raise RequestError("--stored-voxel-size", message, "leave it out, or use --resample A")
    volume: Volume = reader(Path(path), voxel_size, **settings)
    return volume


def write_volume(path: Path | str, volume: Volume) -> None:
    """Write a volume atomically."""
    _module(VOLUMES, path).write(Path(path), volume)


def read_labels(
    path: Path | str, species: Iterable[Species] = (), voxel_size: float | None = None
) -> LabelMap:
    """Read a label map of integers from 0 to 255.

    Parameters
    ----------
    path
        A volume file of any data type.
    species
        Species of the labels; if present, all other values except 0 are an error.
    voxel_size
        Voxel size in Å, instead of that of the header.
    """
    from cryovox.formats.labels import as_labels

    return as_labels(read_volume(path, voxel_size), tuple(species), Path(path))


def read_mask(path: Path | str) -> NDArray[np.bool_]:
    """Read a mask (z, y, x): true where a volume is not 0, regardless of its voxel size.

    In signed bytes of IMOD, which range from -128 to 127, -128 stands for 0.
    """
    from cryovox.formats.labels import as_mask

    return as_mask(read_volume(path, 1.0), Path(path))


def write_labels(path: Path | str, labels: LabelMap) -> None:
    """Write a label map with the voxel size, origin and `nstart` of its tomogram."""
    from cryovox.core.volume import Volume

    write_volume(path, Volume(labels.data, labels.voxel_size, labels.origin, labels.nstart))


def read_particles(
    path: Path | str,
    *,
    tomogram: Volume | Mapping[str, Volume] | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
    center: str | None = None,
    tomogram_names: Collection[str] = (),
) -> Particles:
    """Read a particle list.

    Parameters
    ----------
    path
        File with an extension in `PARTICLES`.
    tomogram
        Tomogram, or tomograms by name, whose shape and voxel size are needed by formats with coordinates
        relative to the center or in voxels.
    voxel_size
        Å per pixel of the coordinates in the file, instead of that of the file.
    species
        Species of particles if the file names none; "particle" by default.
    center
        Origin of centered coordinates of RELION 5, "half" or "half-1" of the size; see
        :mod:`cryovox.formats.particles.star`.
    tomogram_names
        Names of one tomogram. Only its particles are read from a list of several tomograms; a list of other
        tomograms only is an error.
    """
    from cryovox.formats.tomogram_names import rows_of

    check_readable(Path(path))
    reader = _reader(Path(path)).read
    settings: dict[str, Any] = _settings(reader, path, center=center)
    if "tomogram_names" in signature(reader).parameters:  # readers of centered coordinates need it
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
    convention: str | None = None,
    center: str | None = None,
) -> None:
    """Write a particle list atomically.

    Parameters
    ----------
    path
        File with an extension in `PARTICLES`.
    particles
        Particles to write.
    tomogram
        Tomogram, or tomograms by name, whose shape and voxel size are needed by formats with coordinates
        relative to the center or in voxels.
    voxel_size
        Å per pixel of the coordinates to write; that of the tomogram by default.
    tomogram_name
        Tomogram of particles that name none.
    convention
        Convention of the file: "relion5", "relion4", "relion3" or "stopgap" for STAR, "czii" for CSV, "eman2"
        or "cets" for JSON, "pytom" for XML, "shrec" for TXT.
    center
        Origin of centered coordinates of RELION 5, "half" or "half-1" of the size.
    """
    module = _module(PARTICLES, path)
    if convention is not None and convention in PARTICLE_CONVENTIONS:
        module, convention = _of_convention(convention, path), None
    writer = module.write
    settings = _settings(writer, path, convention=convention, center=center)
    writer(
        Path(path),
        particles,
        tomogram=tomogram,
        voxel_size=voxel_size,
        tomogram_name=tomogram_name,
        **settings,
    )


@contextmanager
def unpacking(path: Path) -> Iterator[tuple[IO[bytes] | gzip.GzipFile | bz2.BZ2File, bool]]:
    """Open a file, decompressed if its first bytes are those of gzip or bzip2, and say whether it is."""
    check_readable(path)
    with path.open("rb") as raw:
        magic = raw.read(3)
        raw.seek(0)
        try:
            if magic[:2] == b"\x1f\x8b":
                with gzip.open(raw) as file:
                    yield file, True
            elif magic == b"BZh":
                with bz2.open(raw) as file:
                    yield file, True
            else:
                yield raw, False
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise RequestError(path, f"cannot be read: {error}", "copy or download the file again") from None


def read_bytes(path: Path) -> bytes:
    """Read all bytes of a file, decompressed if it is gzip or bzip2."""
    with unpacking(path) as (file, _):
        return file.read()


def read_text(path: Path) -> str:
    """Read the text of a file; text that is not UTF-8 is an error."""
    return decoded(path, read_bytes(path))


def decoded(path: Path, data: bytes) -> str:
    """The text in the contents of a file; text that is not UTF-8 is an error."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(path, "is not a text file", "check that this is the file you meant") from None


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write text, or its parts one by one, atomically; compressed if the name ends in .gz or .bz2."""
    parts = [text] if isinstance(text, str) else text
    with _writing(path) as file:
        for part in parts:
            file.write(part.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes atomically, compressed if the name ends in .gz or .bz2."""
    with _writing(path) as file:
        file.write(data)


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile | bz2.BZ2File]:
    """Open a file that appears when the block succeeds."""
    suffix = path.suffix.lower()
    with replacing(path) as temporary, temporary.open("wb") as raw:
        if suffix == ".gz":
            with gzip.GzipFile("", "wb", fileobj=raw) as file:  # without the temporary name
                yield file
        elif suffix == ".bz2":
            with bz2.open(raw, "wb") as packed:
                yield packed
        else:
            yield raw


def _settings(function: Any, path: Path | str, **options: str | None) -> dict[str, str]:
    """Options that are not None; an error if the format does not have them."""
    settings = {name: value for name, value in options.items() if value is not None}
    for name in settings:
        if name not in signature(function).parameters:
            where = f"--{name}"
            raise RequestError(where, f"{ending(path)} files have none", "leave it out")
    return settings


def beginning(path: Path, size: int = 1 << 20) -> str:
    """The first characters of a file, decompressed; bytes that are no text become other characters."""
    with unpacking(path) as (file, _):
        return file.read(size).decode("utf-8", "replace")


def _is_list(suffix: str, text: str) -> bool:
    """Whether a file that starts with *text* is a particle list, of formats that share their extension."""
    if suffix == ".em":  # a motive list has 20 numbers a particle; other EM files are volumes
        return text[4:8] == "\x14\0\0\0"
    own = ('"pickable_object_name"', '"boxes_3d"', '"shape_primitives_input"', '"regions"', '"origin3D"')
    keys = {".json": own}
    return any(key in text for key in keys.get(suffix, ("<objlist", "<ParticleList")))


def _reader(path: Path) -> Any:
    """The module of a particle file, by its extension and, where several share it, by its content."""
    shared = SHARED_EXTENSIONS.get(ending(path), ())
    if shared and path.is_file():
        text = beginning(path)
        for name in shared:
            known = import_module(f"cryovox.formats.particles.{name}").FORMAT
            if known.recognizes(text):
                return known
    return _module(PARTICLES, path)


def _of_convention(name: str, path: Path | str) -> Any:
    module = PARTICLE_CONVENTIONS[name]
    known = module.CONVENTION.extensions
    if ending(path) not in known:
        message = f"{name} is a convention of {', '.join(known)} files, not of {ending(path)}"
        raise RequestError("--convention", message, "name an output with that extension, or leave it out")
    return module


def _module(table: Registry, path: Path | str) -> Any:
    suffix = ending(path)
    if suffix not in table:
        if Path(path).is_dir():
            raise RequestError(path, "is a folder, where one file is read", "name one of its files")
        message = f"the extension {suffix!r} is no known {table.kind}"
        raise RequestError(path, message, f"known extensions: {', '.join(table)}, each also with .gz or .bz2")
    return table[suffix]
