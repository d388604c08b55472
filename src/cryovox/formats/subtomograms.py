"""Sets of subtomograms: one Zarr store (`NAME.zarr`) or HDF5 file (`NAME.h5`).

Arrays: `image` (n, z, y, x) float32 and `mask` (n, z, y, x) uint8, or one of them; per subtomogram
`position` (n, 3) in Å in its tomogram, `corner` (n, 3) index of its first voxel there, `pose` (n, 3, 3) with
NaN where unknown, `score`, and `species` and `source` as indices into lists of names in the attribute
`cryovox`, which also holds the voxel size, the species, the contrast, and origin and start of the tomogram.
Orders are z, y, x; poses act on x, y, z.
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
from cryovox.core.reading import denied
from cryovox.core.volume import ZYX, LabelMap, Start, Volume, Voxels, check_voxel_size
from cryovox.formats import check_exists, zarr_store

HDF5 = (".h5", ".hdf5", ".hdf")
CHUNK_VOXELS = 1 << 18
T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True, eq=False)
class Subtomograms:
    """Many small volumes of one shape.

    Attributes
    ----------
    images : (n, z, y, x) float32 or None
        May be a lazily read array; None in a set of labels alone.
    masks : (n, z, y, x) uint8 or None
        Labels of the species.
    voxel_size : float
        Edge of a voxel in Å.
    particles : n particles
        With positions in their tomograms, in Å.
    species
        What species names and labels mean; may be empty where nobody said.
    corners : (n, 3) int or None
        Index (z, y, x) in its tomogram of the first voxel of each, so that a particle lies at
        ``position - corner * voxel_size`` within its subtomogram.
    contrast
        Whether particles are dark or bright in the images; "auto" where nobody said.
    origin, nstart : (z, y, x)
        Those of the tomogram that was cut, as in :class:`cryovox.core.volume.Volume`.
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
        for what, given in (("images", self.images), ("masks", self.masks)):
            if given is not None and (len(given.shape) != 4 or given.shape[0] != len(self.particles)):
                raise ValueError(f"{len(self.particles)} particles but {what} of shape {given.shape}")
        if self.images is not None and self.masks is not None and self.masks.shape != self.images.shape:
            raise ValueError(f"images of shape {self.images.shape} but masks of shape {self.masks.shape}")
        if self.corners is not None and self.corners.shape != (len(self.particles), 3):
            raise ValueError(f"corners are (n, 3), got shape {self.corners.shape}")
        check_voxel_size(self.voxel_size)

    def __len__(self) -> int:
        return len(self.particles)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one subtomogram, (z, y, x)."""
        held: Any = self.masks if self.images is None else self.images
        z, y, x = held.shape[1:]
        return z, y, x


def is_set(path: Path | str) -> bool:
    """Whether a path is a set: by its ending, and of Zarr stores by what they say of themselves."""
    file = Path(path)
    if file.suffix.lower() != ".zarr":
        return file.suffix.lower() in HDF5
    try:
        told = json.loads((file / "zarr.json").read_text(encoding="utf-8"))["attributes"]["cryovox"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(told, dict) and "sources" in told


def write(path: Path, found: Subtomograms) -> None:
    """Write a set, a few subtomograms at a time; the ending chooses Zarr or HDF5."""
    with _created(path, found) as out:
        for at in batches(len(found), found.shape):
            if found.images is not None:
                out["image"][at] = np.asarray(found.images[at], dtype=np.float32)
            if found.masks is not None:
                out["mask"][at] = np.asarray(found.masks[at], dtype=np.uint8)


def read(path: Path) -> Subtomograms:
    """Read a set; images of Zarr stores are read when they are used, those of HDF5 files at once."""
    check_exists(path)
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
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "name a store that `cryovox extract` wrote"
        raise RequestError(path, f"is not a set of subtomograms ({told})", remedy) from None


def extract(
    volume: Volume,
    particles: Particles,
    box: int,
    path: Path,
    *,
    masks: LabelMap | None = None,
    border: Literal["skip", "pad"] = "skip",
    species: Sequence[Species] = (),
    contrast: Contrast = "auto",
) -> int:
    """Cut a cube around every particle, at whole voxels, and write the set.

    The voxel nearest to the particle becomes voxel ``box // 2`` of the cube.

    Parameters
    ----------
    volume : (z, y, x)
        Tomogram of all the particles.
    particles
        What to cut out.
    box
        Edge of the cubes in voxels.
    path
        Where to write, `NAME.zarr` or `NAME.h5`.
    masks
        Label map from which masks are cut.
    border
        Whether a particle whose cube does not fit is left out, or filled up with the mean of the
        tomogram (and label 0). Cubes that lie outside altogether are left out in any case.
    species
        To be kept with the set; those of *masks* by default.
    contrast
        To be kept with the set; where it is clearly seen in the tomogram, that by default.

    Returns
    -------
    int
        Number of subtomograms written.
    """
    if box < 1:
        raise RequestError("--box", f"is {box}", "give the edge of the cubes in voxels, above 0")
    if masks is not None and masks.data.shape != volume.shape:
        told = f"label map of shape {masks.data.shape}, tomogram of shape {volume.shape}"
        raise RequestError(path, told, "both must cover the same voxels")
    corners = np.rint(particles.positions / volume.voxel_size).astype(np.intp) - box // 2
    shape = np.array(volume.shape)
    fits = (corners >= 0).all(axis=1) & (corners + box <= shape).all(axis=1)
    touches = (corners > -box).all(axis=1) & (corners < shape).all(axis=1)
    kept = np.flatnonzero(fits if border == "skip" else touches)
    if not len(kept):
        told = f"none of {len(particles)} cubes of {box} voxels fits into the tomogram {volume.shape}"
        raise RequestError("--box", told, "give a smaller box, or --pad")
    fill = statistics(volume.data).mean if np.isin(kept, np.flatnonzero(~fits)).any() else 0.0
    size = (len(kept), box, box, box)
    found = Subtomograms(
        images=np.broadcast_to(np.float32(0), size),
        masks=None if masks is None else np.broadcast_to(np.uint8(0), size),
        voxel_size=volume.voxel_size,
        particles=particles.take(kept),
        species=tuple(species) or (() if masks is None else masks.species),
        corners=corners[kept],
        contrast=_seen(volume) if contrast == "auto" else contrast,
        origin=volume.origin,
        nstart=volume.nstart,
    )
    with _created(path, found) as out:
        for at in batches(len(kept), size[1:]):
            chosen = corners[kept[at]]
            out["image"][at] = np.stack([_cube(volume.data, corner, box, fill, "f4") for corner in chosen])
            if masks is not None:
                out["mask"][at] = np.stack([_cube(masks.data, corner, box, 0, "u1") for corner in chosen])
    return len(kept)


def _seen(volume: Volume) -> Contrast:
    if wrapped_bytes(volume.data) is not None:
        return "auto"
    seen, certainty = detect_contrast(volume)
    return seen if certainty >= MIN_CERTAINTY else "auto"


def _cube(data: Voxels, corner: NDArray[np.intp], box: int, fill: float, dtype: str) -> NDArray[Any]:
    low = np.maximum(corner, 0)
    high = np.minimum(corner + box, data.shape)
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    target = tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))
    cube = np.full((box, box, box), fill, dtype)
    cube[target] = data[inside]
    return cube


def batches(n: int, shape: tuple[int, ...]) -> Iterator[slice]:
    """Runs of subtomograms that lie in a chunk of a Zarr store, in order."""
    step = _per_chunk(shape)
    for i in range(0, n, step):
        yield slice(i, min(n, i + step))


def _per_chunk(shape: tuple[int, ...]) -> int:
    return max(1, CHUNK_VOXELS // max(1, int(np.prod(shape))))


@contextmanager
def _created(path: Path, found: Subtomograms) -> Iterator[Any]:
    """Give a group with all arrays of the table filled, and those of voxels empty."""
    particles = found.particles
    n, shape = len(found), (len(found), *found.shape)
    kinds, kind = np.unique(particles.species, return_inverse=True)
    no_names = np.zeros(n, dtype="<U1")
    sources, source = np.unique(
        no_names if particles.tomograms is None else particles.tomograms, return_inverse=True
    )
    unknown = np.full((n, 3, 3), np.nan)
    table: dict[str, NDArray[Any]] = {
        "position": particles.positions,
        "pose": unknown if particles.rotations is None else particles.rotations,
        "score": particles.scores,
        "species": kind.astype(np.int32),
        "source": source.astype(np.int32),
    }
    if found.corners is not None:
        table["corner"] = found.corners.astype(np.int32)
    about = {
        "voxel_size": found.voxel_size,
        "species": [s.model_dump() for s in found.species],
        "names": kinds.tolist(),
        "sources": sources.tolist() if particles.tomograms is not None else [],
        "contrast": found.contrast,
        "origin": list(found.origin),
        "nstart": list(found.nstart),
    }
    with replacing(path) as beside:
        is_hdf5 = path.suffix.lower() in HDF5
        with _hdf5(beside) if is_hdf5 else _zarr(beside) as (group, array):
            group.attrs["cryovox"] = json.dumps(about) if is_hdf5 else about
            if found.images is not None:
                array("image", shape, np.float32)
            if found.masks is not None:
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


def _parsed(arrays: dict[str, Any], about: Any) -> Subtomograms:
    about = json.loads(about) if isinstance(about, str) else about
    position, pose = (np.asarray(arrays[name], dtype=np.float64) for name in ("position", "pose"))
    kind, source = (np.asarray(arrays[name], dtype=np.intp) for name in ("species", "source"))
    sources = about["sources"]
    return Subtomograms(
        images=arrays.get("image"),
        masks=arrays.get("mask"),
        voxel_size=float(about["voxel_size"]),
        particles=Particles.of(
            position,
            [about["names"][i] for i in kind],
            scores=np.asarray(arrays["score"]),
            rotations=None if np.isnan(pose).any() or not len(pose) else pose,
            tomograms=[sources[i] for i in source] if sources else None,
        ),
        species=tuple(Species.model_validate(row) for row in about["species"]),
        corners=np.asarray(arrays["corner"], dtype=np.intp) if "corner" in arrays else None,
        contrast=about.get("contrast", "auto"),
        origin=_three(float, about.get("origin", (0, 0, 0))),
        nstart=_three(int, about.get("nstart", (0, 0, 0))),
    )


def _three(kind: Callable[[Any], T], values: Sequence[Any]) -> tuple[T, T, T]:
    z, y, x = values
    return kind(z), kind(y), kind(x)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        told = "HDF5 files need the package h5py, which is not installed"
        raise RequestError("h5py", told, "pip install 'cryovox[hdf5]', or write NAME.zarr instead") from None
    return h5py
