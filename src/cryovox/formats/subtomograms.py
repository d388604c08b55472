"""Sets of subtomograms: one Zarr store (`NAME.zarr`) or HDF5 file (`NAME.h5`).

The arrays are `image` (n, z, y, x) float32 and `mask` (n, z, y, x) uint8, or one of them, and for each
subtomogram its `position` (n, 3) in Å in its tomogram, the index `corner` (n, 3) of its first voxel there,
its `pose` (n, 3, 3), NaN where unknown, its `score`, and its `species` and `source` as indices into lists of
names in the attribute `cryovox`. This attribute also stores the voxel size, the species, the contrast, and
origin and `nstart` of the tomogram. The order is z, y, x; poses act on x, y, z.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import ValidationError

from cryovox.core.atomic import replacing
from cryovox.core.config import Contrast
from cryovox.core.errors import RequestError
from cryovox.core.intensity import MIN_CERTAINTY, detect_contrast, statistics, wrapped_bytes
from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.reading import check_readable, denied
from cryovox.core.volume import ZYX, LabelMap, Start, Volume, Voxels, check_voxel_size
from cryovox.formats import hdf5, zarr_store
from cryovox.formats.stored import reason_of

HDF5 = (".h5", ".hdf5", ".hdf")
CHUNK_VOXELS = 1 << 18
T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True, eq=False)
class Subtomograms:
    """Many small volumes of one shape.

    Attributes
    ----------
    images : (n, z, y, x) float32 or None
        May be a lazily read array; None in a set of labels only.
    masks : (n, z, y, x) uint8 or None
        Labels of the species.
    voxel_size : float
        Voxel size in Å.
    particles : n particles
        Positions in their tomograms, in Å.
    species
        Species of the labels; empty if unknown.
    corners : (n, 3) int or None
        Index (z, y, x) in its tomogram of the first voxel of each subtomogram; the position of a particle in
        its subtomogram is ``position - corner * voxel_size``.
    contrast
        Whether particles are dark or bright in the images; "auto" if unknown.
    origin, nstart : (z, y, x)
        Origin and `nstart` of the tomogram, as in :class:`cryovox.core.volume.Volume`.
    """

    images: Any | None
    masks: Any | None
    voxel_size: float
    particles: Particles
    species: tuple[Species, ...] = ()
    corners: NDArray[np.intp] | None = None
    contrast: Contrast = "auto"
    origin: ZYX = (0.0, 0.0, 0.0)
    nstart: Start = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.images is None and self.masks is None:
            raise ValueError("a set has images, masks or both")
        for name, array in (("images", self.images), ("masks", self.masks)):
            if array is not None and (len(array.shape) != 4 or array.shape[0] != len(self.particles)):
                raise ValueError(f"{len(self.particles)} particles but {name} of shape {array.shape}")
        if self.images is not None and self.masks is not None and self.masks.shape != self.images.shape:
            raise ValueError(f"images of shape {self.images.shape} but masks of shape {self.masks.shape}")
        if self.corners is not None and self.corners.shape != (len(self.particles), 3):
            raise ValueError(f"corners are (n, 3), got shape {self.corners.shape}")
        check_voxel_size(self.voxel_size)

    def __len__(self) -> int:
        return len(self.particles)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of one subtomogram."""
        array: Any = self.masks if self.images is None else self.images
        z, y, x = array.shape[1:]
        return z, y, x


def is_set(path: Path | str) -> bool:
    """Whether a path is a set, by its extension and, if it is there, its metadata."""
    file = Path(path)
    if file.suffix.lower() in HDF5:
        return hdf5.is_set(file) if file.is_file() else True
    if file.suffix.lower() != ".zarr":
        return False
    try:
        metadata = json.loads((file / "zarr.json").read_text(encoding="utf-8"))["attributes"]["cryovox"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(metadata, dict) and "sources" in metadata


def write(path: Path, subtomograms: Subtomograms, on_progress: ProgressCallback = no_progress) -> None:
    """Write a set in batches; the extension chooses Zarr or HDF5."""
    with _created(path, subtomograms) as out:
        for batch in batches(len(subtomograms), subtomograms.shape):
            if subtomograms.images is not None:
                out["image"][batch] = np.asarray(subtomograms.images[batch], dtype=np.float32)
            if subtomograms.masks is not None:
                out["mask"][batch] = np.asarray(subtomograms.masks[batch], dtype=np.uint8)
            _report(on_progress, batch.stop, len(subtomograms))


def _report(on_progress: ProgressCallback, done: int, count: int) -> None:
    on_progress("subtomograms", min(done, count) / count, f"{min(done, count)} of {count}")


def read(path: Path) -> Subtomograms:
    """Read a set; images of Zarr stores are read on access, those of HDF5 files at once."""
    check_readable(path)
    try:
        if path.suffix.lower() in HDF5:
            with _h5py().File(path, "r") as file:
                return _parsed({name: array[...] for name, array in file.items()}, file.attrs["cryovox"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.open_group(path, mode="r", zarr_format=3)
            return _parsed(dict(root.arrays()), root.attrs["cryovox"])
    except PermissionError as error:
        raise denied(error.filename or path) from None
    except (KeyError, TypeError, IndexError, OSError, ValueError, ValidationError) as error:
        remedy = "name a store that `cryovox extract` wrote"
        raise RequestError(path, f"is not a set of subtomograms ({reason_of(error)})", remedy) from None


def extract(  # noqa: PLR0913 (the options of a command)
    volume: Volume,
    particles: Particles,
    box: int,
    path: Path,
    *,
    masks: LabelMap | None = None,
    border: Literal["skip", "pad"] = "skip",
    species: Sequence[Species] = (),
    contrast: Contrast = "auto",
    on_progress: ProgressCallback = no_progress,
) -> int:
    """Cut a cube around every particle, without interpolation, and write the set.

    The voxel nearest to the particle becomes voxel ``box // 2`` of the cube.

    Parameters
    ----------
    volume : (z, y, x)
        Tomogram of all particles.
    particles
        Particles to cut out.
    box
        Box size in voxels.
    path
        Output, `NAME.zarr` or `NAME.h5`.
    masks
        Label map from which masks are cut.
    border
        Whether particles whose cubes do not fit into the tomogram are skipped, or padded with the mean of
        the tomogram (and label 0). Cubes that are entirely outside are always skipped.
    species
        Species to store with the set; those of *masks* by default.
    contrast
        Contrast to store with the set; by default that of the tomogram if it can be detected reliably.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.

    Returns
    -------
    int
        Number of subtomograms written.
    """
    if box < 1:
        raise RequestError("--box", f"is {box}", "give the box size in voxels, above 0")
    if masks is not None and masks.data.shape != volume.shape:
        message = f"label map of shape {masks.data.shape}, tomogram of shape {volume.shape}"
        raise RequestError(path, message, "both must cover the same voxels")
    corners = np.rint(particles.positions / volume.voxel_size).astype(np.intp) - box // 2
    shape = np.array(volume.shape)
    fits = (corners >= 0).all(axis=1) & (corners + box <= shape).all(axis=1)
    touches = (corners > -box).all(axis=1) & (corners < shape).all(axis=1)
    kept = np.flatnonzero(fits if border == "skip" else touches)
    if not len(kept):
        message = f"none of {len(particles)} cubes of {box} voxels fits into the tomogram {volume.shape}"
        raise RequestError("--box", message, "give a smaller box, or --pad")
    fill = statistics(volume.data).mean if np.isin(kept, np.flatnonzero(~fits)).any() else 0.0
    size = (len(kept), box, box, box)
    empty = Subtomograms(
        images=np.broadcast_to(np.float32(0), size),
        masks=None if masks is None else np.broadcast_to(np.uint8(0), size),
        voxel_size=volume.voxel_size,
        particles=particles.take(kept),
        species=tuple(species) or (() if masks is None else masks.species),
        corners=corners[kept],
        contrast=_detected_contrast(volume) if contrast == "auto" else contrast,
        origin=volume.origin,
        nstart=volume.nstart,
    )
    with _created(path, empty) as out:
        for batch in batches(len(kept), size[1:]):
            selected = corners[kept[batch]]
            cubes = [_cube(volume.data, corner, box, fill, "f4") for corner in selected]
            out["image"][batch] = np.stack(cubes)
            if masks is not None:
                cubes = [_cube(masks.data, corner, box, 0, "u1") for corner in selected]
                out["mask"][batch] = np.stack(cubes)
            _report(on_progress, batch.stop, len(kept))
    return len(kept)


def _detected_contrast(volume: Volume) -> Contrast:
    if wrapped_bytes(volume.data) is not None:
        return "auto"
    contrast, certainty = detect_contrast(volume)
    return contrast if certainty >= MIN_CERTAINTY else "auto"


def _cube(data: Voxels, corner: NDArray[np.intp], box: int, fill: float, dtype: str) -> NDArray[Any]:
    low = np.maximum(corner, 0)
    high = np.minimum(corner + box, data.shape)
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    target = tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))
    cube = np.full((box, box, box), fill, dtype)
    cube[target] = data[inside]
    return cube


def batches(n: int, shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of subtomograms that share a chunk of a Zarr store, in order."""
    step = _per_chunk(shape)
    for i in range(0, n, step):
        yield slice(i, min(n, i + step))


def _per_chunk(shape: tuple[int, ...]) -> int:
    return max(1, CHUNK_VOXELS // max(1, int(np.prod(shape))))


@contextmanager
def _created(path: Path, subtomograms: Subtomograms) -> Iterator[Any]:
    """Yield a new group with the table of particles and empty arrays for images and masks."""
    particles = subtomograms.particles
    n, shape = len(subtomograms), (len(subtomograms), *subtomograms.shape)
    names, species = np.unique(particles.species, return_inverse=True)
    no_names = np.zeros(n, dtype="<U1")
    sources, source = np.unique(
        no_names if particles.tomograms is None else particles.tomograms, return_inverse=True
    )
    unknown = np.full((n, 3, 3), np.nan)
    table: dict[str, NDArray[Any]] = {
        "position": particles.positions,
        "pose": unknown if particles.rotations is None else particles.rotations,
        "score": particles.scores,
        "species": species.astype(np.int32),
        "source": source.astype(np.int32),
    }
    if subtomograms.corners is not None:
        table["corner"] = subtomograms.corners.astype(np.int32)
    metadata = {
        "voxel_size": subtomograms.voxel_size,
        "species": [s.model_dump() for s in subtomograms.species],
        "names": names.tolist(),
        "sources": sources.tolist() if particles.tomograms is not None else [],
        "contrast": subtomograms.contrast,
        "origin": list(subtomograms.origin),
        "nstart": list(subtomograms.nstart),
    }
    with replacing(path) as temporary:
        is_hdf5 = path.suffix.lower() in HDF5
        with _hdf5(temporary) if is_hdf5 else _zarr(temporary) as (group, array):
            group.attrs["cryovox"] = json.dumps(metadata) if is_hdf5 else metadata
            if subtomograms.images is not None:
                array("image", shape, np.float32)
            if subtomograms.masks is not None:
                array("mask", shape, np.uint8)
            for name, values in table.items():
                array(name, values.shape, values.dtype)[...] = values
            yield group


@contextmanager
def _zarr(path: Path) -> Iterator[tuple[Any, Callable[..., Any]]]:
    def array(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        chunks = (_per_chunk(shape[1:]), *shape[1:]) if len(shape) == 4 else shape
        chunks = tuple(max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True))
        return group.create_array(name, shape=shape, chunks=chunks, dtype=np.dtype(dtype).name)

    with zarr_store.created(path) as group:
        yield group, array


@contextmanager
def _hdf5(path: Path) -> Iterator[tuple[Any, Callable[..., Any]]]:
    with _h5py().File(path, "w") as file:
        yield file, lambda name, shape, dtype: file.create_dataset(name, shape=shape, dtype=dtype)


def _parsed(arrays: dict[str, Any], metadata: Any) -> Subtomograms:
    metadata = json.loads(metadata) if isinstance(metadata, str) else metadata
    position, pose = (np.asarray(arrays[name], dtype=np.float64) for name in ("position", "pose"))
    kind, source = (np.asarray(arrays[name], dtype=np.intp) for name in ("species", "source"))
    sources = metadata["sources"]
    return Subtomograms(
        images=arrays.get("image"),
        masks=arrays.get("mask"),
        voxel_size=float(metadata["voxel_size"]),
        particles=Particles.of(
            position,
            [metadata["names"][i] for i in kind],
            scores=np.asarray(arrays["score"]),
            rotations=None if np.isnan(pose).any() or not len(pose) else pose,
            tomograms=[sources[i] for i in source] if sources else None,
        ),
        species=tuple(Species.model_validate(row) for row in metadata["species"]),
        corners=np.asarray(arrays["corner"], dtype=np.intp) if "corner" in arrays else None,
        contrast=metadata.get("contrast", "auto"),
        origin=_three(float, metadata.get("origin", (0, 0, 0))),
        nstart=_three(int, metadata.get("nstart", (0, 0, 0))),
    )


def _three(kind: Callable[[Any], T], values: Sequence[Any]) -> tuple[T, T, T]:
    z, y, x = values
    return kind(z), kind(y), kind(x)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        message = "HDF5 files need the package h5py, which is not installed"
        raise RequestError(
            "h5py", message, "pip install 'cryovox[hdf5]', or write NAME.zarr instead"
        ) from None
    return h5py
