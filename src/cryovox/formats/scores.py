"""Score maps as OME-Zarr 0.5: `NAME.zarr`, one array of 16-bit probabilities.

OME-Zarr viewers show it in place. Species, thresholds and kind are stored in the attribute `cryovox`.
A stored number n is the score n / 65535.
Specification: https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import ValidationError

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError, RunError
from cryovox.core.particles import Species
from cryovox.core.reading import check_readable, denied
from cryovox.core.volume import ZYX, ScoreMap, Start
from cryovox.formats import zarr_store

LEVELS = 65535
CHUNK = (1, 64, 128, 128)
MOST_HELD = 96_000_000
"""Largest score map that :func:`in_memory` holds, in bytes."""
COLORS = ("E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7")


class StoredScores:
    """A stored (k, z, y, x) array whose slices are float32 scores."""

    dtype = np.dtype(np.float32)

    def __init__(self, stored: Any) -> None:
        self._stored = stored

    @property
    def shape(self) -> tuple[int, int, int, int]:
        k, z, y, x = self._stored.shape
        return k, z, y, x

    @property
    def ndim(self) -> int:
        return 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        scores = np.array(self._stored[key], dtype=np.float32)
        scores /= np.float32(LEVELS)
        return scores

    def held(self) -> StoredScores:
        """The same array, read into memory as 16-bit numbers if it is small enough."""
        if 2 * np.prod(self.shape, dtype=np.int64) > MOST_HELD:
            return self
        return StoredScores(np.asarray(self._stored[...]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("stored scores are always copied")
        return self[...].astype(dtype or np.float32, copy=False)


class ScoreWriter:
    """Writes blocks of planes in any order."""

    def __init__(self, stored: Any, where: Path) -> None:
        self._stored = stored
        self._where = where

    def write(self, z0: int, block: NDArray[np.floating[Any]]) -> None:
        """Store (k, n, y, x) scores as planes z0 to z0 + n, clipped to [0, 1]."""
        planes, rows = slice(z0, z0 + block.shape[1]), CHUNK[2]
        for channel, values in enumerate(block):  # a part at a time, to hold copies of it only
            for y in range(0, values.shape[1], rows):
                self._stored[channel, planes, y : y + rows] = self._levels(values[:, y : y + rows])

    def _levels(self, values: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
        if not np.isfinite(values).all():
            raise RunError(self._where, "the scores hold NaN", "look at the tomogram with `cryovox doctor`")
        levels = np.clip(values, 0, 1)
        levels *= LEVELS
        return np.rint(levels, out=levels).astype(np.uint16)


@contextmanager
def create(  # noqa: PLR0913 (the fields of a ScoreMap)
    path: Path,
    shape: tuple[int, int, int, int],
    voxel_size: float,
    species: Sequence[Species],
    *,
    offset: float = 0.0,
    kind: str = "mask",
    thresholds: Mapping[str, float] | None = None,
    origin: ZYX = (0.0, 0.0, 0.0),
    nstart: Start = (0, 0, 0),
    tomogram: tuple[tuple[int, int, int], float] | None = None,
    calibration: Mapping[str, Any] | None = None,
) -> Iterator[ScoreWriter]:
    """Yield a writer; the store appears when the block succeeds.

    Parameters
    ----------
    path
        Folder to create or replace, `NAME.zarr`.
    shape : (k, z, y, x)
    voxel_size, offset, kind, thresholds, origin, nstart, calibration
        As in :class:`cryovox.core.volume.ScoreMap`.
    species
        One per channel.
    tomogram
        Shape and voxel size of the tomogram.
    """
    if len(species) != shape[0]:
        raise ValueError(f"{shape[0]} channels but {len(species)} species")
    with replacing(path) as temporary, zarr_store.created(temporary) as root:
        stored = _layout(
            root, path.stem, shape, voxel_size, species, offset=offset, kind=kind, thresholds=thresholds,
            origin=origin, nstart=nstart, tomogram=tomogram, calibration=calibration,
        )  # fmt: skip
        yield ScoreWriter(stored, path)


def in_memory(score_map: ScoreMap) -> ScoreMap:
    """A stored score map that is read several times: from disk once, unless it is large."""
    stored = score_map.data
    return replace(score_map, data=stored.held()) if isinstance(stored, StoredScores) else score_map


def lay_out(folder: Path, path: Path, shape: tuple[int, int, int, int], **frame: Any) -> None:
    """Create an empty store in a folder that becomes a score map later; arguments as of :func:`create`."""
    with zarr_store.created(folder) as root:
        _layout(root, path.stem, shape, **frame)


@contextmanager
def opened(folder: Path, path: Path) -> Iterator[ScoreWriter]:
    """Yield a writer into an existing store; errors name *path*, which it becomes later."""
    with zarr_store.opened(folder) as root:
        yield ScoreWriter(root["0"], path)


def _layout(  # noqa: PLR0913 (the fields of a ScoreMap)
    root: Any,
    name: str,
    shape: tuple[int, int, int, int],
    voxel_size: float,
    species: Sequence[Species],
    *,
    offset: float = 0.0,
    kind: str = "mask",
    thresholds: Mapping[str, float] | None = None,
    origin: ZYX = (0.0, 0.0, 0.0),
    nstart: Start = (0, 0, 0),
    tomogram: tuple[tuple[int, int, int], float] | None = None,
    calibration: Mapping[str, Any] | None = None,
) -> Any:
    """Describe a score map in a new group, and give its empty array."""
    stored = root.create_array(
        "0",
        shape=shape,
        chunks=tuple(min(c, n) for c, n in zip(CHUNK, shape, strict=True)),
        dtype="uint16",
        dimension_names=["c", "z", "y", "x"],
    )
    root.attrs["ome"] = _ome(name, species, voxel_size, [0.0, *(o + offset for o in origin)])
    root.attrs["cryovox"] = {
        "species": [s.model_dump() for s in species],
        "voxel_size": voxel_size,
        "offset": offset,
        "kind": kind,
        "thresholds": dict(thresholds or {}),
        "origin": list(origin),
        "nstart": list(nstart),
        "tomogram": None if tomogram is None else [list(tomogram[0]), tomogram[1]],
        "calibration": None if calibration is None else dict(calibration),
    }
    return stored


def write(path: Path, scores: ScoreMap) -> None:
    """Write a score map, slab by slab."""
    shape = tuple(scores.data.shape)
    with create(
        path,
        (shape[0], shape[1], shape[2], shape[3]),
        scores.voxel_size,
        scores.species,
        offset=scores.offset,
        kind=scores.kind,
        thresholds=scores.thresholds,
        origin=scores.origin,
        nstart=scores.nstart,
        tomogram=_tomogram_of(scores),
        calibration=scores.calibration,
    ) as out:
        for z in range(0, shape[1], CHUNK[1]):
            out.write(z, np.asarray(scores.data[:, z : z + CHUNK[1]], dtype=np.float32))


def is_scores(path: Path) -> bool:
    """Whether a path is a score map, according to the metadata of the store."""
    if path.suffix.lower() != ".zarr" or not path.is_dir():
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metadata: Any = zarr.open_group(path, mode="r").attrs.get("cryovox")
    except (OSError, KeyError, ValueError):
        return False
    return isinstance(metadata, dict) and "kind" in metadata


def read(path: Path | str) -> ScoreMap:
    """Open a score map; voxels are read on access."""
    path = Path(path)
    check_readable(path)
    remedy = "name a folder that `cryovox segment` wrote, scores/NAME.zarr"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.open_group(path, mode="r", zarr_format=3)
            metadata: Any = root.attrs["cryovox"]
            stored: Any = root["0"]
        return ScoreMap(
            data=StoredScores(stored),
            voxel_size=float(metadata["voxel_size"]),
            species=tuple(Species.model_validate(row) for row in metadata["species"]),
            offset=float(metadata["offset"]),
            kind=str(metadata["kind"]),
            thresholds={str(name): float(value) for name, value in metadata["thresholds"].items()},
            origin=_origin(metadata["origin"]),
            nstart=_nstart(metadata.get("nstart", (0, 0, 0))),
            tomogram_shape=_shape(metadata.get("tomogram")),
            tomogram_voxel_size=float(metadata["tomogram"][1]) if metadata.get("tomogram") else None,
            calibration=metadata.get("calibration"),
        )
    except PermissionError as error:
        raise denied(error.filename or path) from None
    except (KeyError, TypeError, AttributeError, OSError, ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(path, f"is not a score map ({reason})", remedy) from None


def _tomogram_of(scores: ScoreMap) -> tuple[tuple[int, int, int], float] | None:
    if scores.tomogram_shape is None or scores.tomogram_voxel_size is None:
        return None
    return scores.tomogram_shape, scores.tomogram_voxel_size


def _shape(tomogram: Any) -> tuple[int, int, int] | None:
    if not tomogram:
        return None
    z, y, x = tomogram[0]
    return int(z), int(y), int(x)


def _origin(values: Sequence[float]) -> ZYX:
    z, y, x = values
    return float(z), float(y), float(x)


def _nstart(values: Sequence[int]) -> Start:
    z, y, x = values
    return int(z), int(y), int(x)


def _ome(
    name: str, species: Sequence[Species], voxel_size: float, translation: list[float]
) -> dict[str, Any]:
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    steps = [
        {"type": "scale", "scale": [1.0, voxel_size, voxel_size, voxel_size]},
        {"type": "translation", "translation": translation},
    ]
    channels = [
        {
            "label": s.name,
            "color": COLORS[i % len(COLORS)],
            "active": True,
            "window": {"min": 0, "max": LEVELS, "start": 0, "end": LEVELS},
        }
        for i, s in enumerate(species)
    ]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    return {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
        "omero": {"channels": channels},
    }
