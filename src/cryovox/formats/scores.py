"""Score maps as OME-Zarr 0.5: `NAME.zarr`, one array of 16-bit probabilities.

Viewers that know OME-Zarr show it in place; what they do not know (species, thresholds, kind) lies in
the attribute `cryovox`. A stored number n means the score n / 65535.
The format: https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import ValidationError

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError, RunError
from cryovox.core.particles import Species
from cryovox.core.reading import denied
from cryovox.core.volume import ZYX, ScoreMap, Start
from cryovox.formats import check_exists, zarr_store

LEVELS = 65535
CHUNK = (1, 64, 128, 128)
COLOURS = ("E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7")


class StoredScores:
    """A stored (k, z, y, x) array that gives float32 scores for the part that is asked for."""

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
        return np.asarray(self._stored[key], dtype=np.float32) / np.float32(LEVELS)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("stored scores are always copied")
        return self[...].astype(dtype or np.float32, copy=False)


class ScoreWriter:
    """Takes blocks of planes in any order."""

    def __init__(self, stored: Any, where: Path) -> None:
        self._stored = stored
        self._where = where

    def write(self, z0: int, block: NDArray[np.floating[Any]]) -> None:
        """Store (k, n, y, x) scores as planes z0 to z0 + n; what exceeds [0, 1] is clipped."""
        if not np.isfinite(block).all():
            raise RunError(self._where, "the scores hold NaN", "look at the tomogram with `cryovox doctor`")
        levels = np.clip(block, 0, 1) * np.float32(LEVELS)
        self._stored[:, z0 : z0 + block.shape[1]] = np.rint(levels).astype(np.uint16)


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
) -> Iterator[ScoreWriter]:
    """Give a writer of blocks; the store appears when the block ends well.

    Parameters
    ----------
    path
        Folder to make or replace, `NAME.zarr`.
    shape : (k, z, y, x)
    voxel_size, offset, kind, thresholds, origin, nstart
        As in :class:`cryovox.core.volume.ScoreMap`.
    species
        One per channel.
    tomogram
        Shape and voxel size of the tomogram itself.
    """
    if len(species) != shape[0]:
        raise ValueError(f"{shape[0]} channels but {len(species)} species")
    with replacing(path) as beside, zarr_store.created(beside) as root:
        stored = root.create_array(
            "0",
            shape=shape,
            chunks=tuple(min(c, n) for c, n in zip(CHUNK, shape, strict=True)),
            dtype="uint16",
            dimension_names=["c", "z", "y", "x"],
        )
        root.attrs["ome"] = _ome(path.stem, species, voxel_size, [0.0, *(o + offset for o in origin)])
        root.attrs["cryovox"] = {
            "species": [s.model_dump() for s in species],
            "voxel_size": voxel_size,
            "offset": offset,
            "kind": kind,
            "thresholds": dict(thresholds or {}),
            "origin": list(origin),
            "nstart": list(nstart),
            "tomogram": None if tomogram is None else [list(tomogram[0]), tomogram[1]],
        }
        yield ScoreWriter(stored, path)


def write(path: Path, scores: ScoreMap) -> None:
    """Write a score map, a few planes at a time."""
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
        tomogram=_of_tomogram(scores),
    ) as out:
        for z in range(0, shape[1], CHUNK[1]):
            out.write(z, np.asarray(scores.data[:, z : z + CHUNK[1]], dtype=np.float32))


def is_scores(path: Path) -> bool:
    """Whether a path is a score map, by what the store says of itself."""
    if path.suffix.lower() != ".zarr" or not path.is_dir():
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            about: Any = zarr.open_group(path, mode="r").attrs.get("cryovox")
    except (OSError, KeyError, ValueError):
        return False
    return isinstance(about, dict) and "kind" in about


def read(path: Path) -> ScoreMap:
    """Open a score map; voxels are read when they are used."""
    check_exists(path)
    remedy = "name a folder that `cryovox segment` wrote, scores/NAME.zarr"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.open_group(path, mode="r", zarr_format=3)
            found: Any = root.attrs["cryovox"]
            stored: Any = root["0"]
        return ScoreMap(
            data=StoredScores(stored),
            voxel_size=float(found["voxel_size"]),
            species=tuple(Species.model_validate(row) for row in found["species"]),
            offset=float(found["offset"]),
            kind=str(found["kind"]),
            thresholds={str(name): float(value) for name, value in found["thresholds"].items()},
            origin=_origin(found["origin"]),
            nstart=_nstart(found.get("nstart", (0, 0, 0))),
            tomogram_shape=_shape(found.get("tomogram")),
            tomogram_voxel_size=float(found["tomogram"][1]) if found.get("tomogram") else None,
        )
    except PermissionError as error:
        raise denied(error.filename or path) from None
    except (KeyError, TypeError, AttributeError, OSError, ValueError, ValidationError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(path, f"is not a score map ({told})", remedy) from None


def _of_tomogram(scores: ScoreMap) -> tuple[tuple[int, int, int], float] | None:
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
            "color": COLOURS[i % len(COLOURS)],
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
