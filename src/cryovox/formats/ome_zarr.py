"""Tomograms as OME-Zarr 0.4 and 0.5: a folder with one array per resolution, of which the finest is read.

What the CZII challenge, copick and the CryoET Data Portal hand out. Axes are known by their names, in any
order; axes of time and channel are dropped where they have length 1. The voxel size is the scale of that
array in the unit of each axis: a scale without a unit is relative and says nothing. The translation is the
origin; what MRC calls NSTART lies in the attribute `cryovox`. The format: https://ngff.openmicroscopy.org
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.reading import denied
from cryovox.core.volume import Start, Volume, VolumeHeader, voxel_size_problem
from cryovox.formats import check_exists, usable_voxel_size, zarr_store

CHUNK = 64
UNITS = {
    "angstrom": 1.0,
    "picometer": 1e-2,
    "nanometer": 10.0,
    "micrometer": 1e4,
    "millimeter": 1e7,
    "meter": 1e10,
}


class StoredVolume:
    """A stored array seen as (z, y, x), of which only the part that is asked for is read.

    Parameters
    ----------
    stored
        Array of Zarr with the axes z, y, x in any order, and others of length 1.
    axes
        Which of its axes are z, y and x.
    """

    ndim = 3

    def __init__(self, stored: Any, axes: tuple[int, int, int] = (0, 1, 2)) -> None:
        self._stored, self._axes = stored, axes
        self.shape: tuple[int, ...] = tuple(int(stored.shape[axis]) for axis in axes)
        self.dtype: np.dtype[Any] = np.dtype(stored.dtype)
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        keys = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(k, (int, np.integer, slice)) for k in keys):  # such as masks and lists
            return self._block((0, n) for n in self.shape)[key]
        keys += (slice(None),) * (3 - len(keys))
        spans, inside = [], list[Any]()
        for n, k in zip(self.shape, keys, strict=True):
            wanted = range(n)[k]
            indices = [wanted] if isinstance(wanted, int) else wanted
            spans.append((min(indices), max(indices) + 1) if indices else (0, 0))
            inside.append(0 if isinstance(wanted, int) else slice(None, None, wanted.step))
        return self._block(spans)[tuple(inside)]

    def _block(self, spans: Iterable[tuple[int, int]]) -> NDArray[Any]:
        """(z, y, x) between low and high on each axis."""
        where: list[Any] = [0] * len(self._stored.shape)
        for axis, (low, high) in zip(self._axes, spans, strict=True):
            where[axis] = slice(low, high)
        order = [sorted(self._axes).index(axis) for axis in self._axes]
        return np.asarray(self._stored[tuple(where)]).transpose(order)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("stored voxels are always copied")
        return self[:].astype(dtype or self.dtype, copy=False)


@dataclass(frozen=True)
class _Scale:
    """Step and shift along z, y, x, and the units in Å; None where there is none."""

    steps: tuple[float, ...]
    shifts: tuple[float, ...]
    units: tuple[float | None, ...]
    problem: str | None = None


def header(path: Path, unit: str | None = None) -> VolumeHeader:
    """Look at what the store says, without reading voxels.

    Parameters
    ----------
    path
        Folder `NAME.zarr`.
    unit
        Of axes that have none, where that is known from elsewhere.
    """
    return _opened(path, unit)[0]


def read(path: Path, voxel_size: float | None = None) -> Volume:
    """Open a tomogram; voxels are read when they are used.

    Parameters
    ----------
    path
        Folder `NAME.zarr`.
    voxel_size
        In Å; wins over what the store says.
    """
    about, stored, scale = _opened(path)
    edge = usable_voxel_size(path, about, voxel_size)
    origin = about.origin
    if None in scale.units:  # shifts are relative as steps are
        z, y, x = (shift / step * edge for shift, step in zip(scale.shifts, scale.steps, strict=True))
        origin = (z, y, x)
    return Volume(stored, edge, origin, about.nstart)


def write(path: Path, volume: Volume) -> None:
    """Write OME-Zarr 0.5 with one resolution, a slab at a time; the store appears whole or not at all."""
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [volume.voxel_size] * 3}]
    if any(volume.origin):
        steps.append({"type": "translation", "translation": list(volume.origin)})
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    with replacing(path) as beside, zarr_store.created(beside) as root:
        stored: Any = root.create_array(
            "0",
            shape=volume.shape,
            chunks=tuple(min(CHUNK, n) for n in volume.shape),
            dtype=np.dtype(volume.data.dtype).name,
            dimension_names=list("zyx"),
        )
        scales = [{"name": path.stem, "axes": axes, "datasets": datasets}]
        root.attrs["ome"] = {"version": "0.5", "multiscales": scales}
        if any(volume.nstart):
            root.attrs["cryovox"] = {"nstart": list(volume.nstart)}
        for z in range(0, volume.shape[0], CHUNK):
            stored[z : z + CHUNK] = np.asarray(volume.data[z : z + CHUNK])


def _opened(path: Path, unit: str | None = None) -> tuple[VolumeHeader, StoredVolume, _Scale]:
    check_exists(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.open_group(path, mode="r")
            ours: Any = root.attrs.get("cryovox", {})
            _check_kind(path, ours)
            about: Any = root.attrs.get("ome", root.attrs)
            scales = about["multiscales"][0]
            finest = scales["datasets"][0]
            stored: Any = root[finest["path"]]
            names, units = _axes(scales.get("axes"), len(stored.shape))
            axes = _spatial(path, names, stored.shape)
            scale = _scale(scales, finest, len(stored.shape), axes, [known or unit for known in units])
            nstart = _nstart(ours)
    except PermissionError as error:
        raise denied(error.filename or path) from None
    except (KeyError, IndexError, TypeError, AttributeError, OSError, ValueError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(path, f"is not an OME-Zarr image ({told})", "name the folder NAME.zarr") from None
    volume = StoredVolume(stored, axes)
    return _header(volume, scale, nstart), volume, scale


def _check_kind(path: Path, ours: Any) -> None:
    """Refuse what this program writes that is no volume."""
    if isinstance(ours, dict) and "kind" in ours:
        raise RequestError(path, "is a score map, not a tomogram", "name a tomogram, or use `cryovox pick`")
    if isinstance(ours, dict) and "sources" in ours:
        told = "is a set of subtomograms, not a tomogram"
        raise RequestError(path, told, "name a tomogram; `segment`, `train` and `evaluate labels` take sets")


def _axes(axes: Any, ndim: int) -> tuple[list[str], list[str | None]]:
    """Name and unit of every axis; the first versions of the format have none, or names alone."""
    if axes is None:
        return list("tczyx")[-ndim:], [None] * ndim
    rows = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    if len(rows) != ndim:
        raise ValueError(f"names {len(rows)} axes of an array of {ndim}")
    units = [str(row["unit"]).lower() if row.get("unit") else None for row in rows]
    return [str(row["name"]).lower() for row in rows], units


def _spatial(path: Path, names: list[str], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Which axes are z, y and x; every other has length 1."""
    if any(names.count(axis) != 1 for axis in "zyx"):
        told = f"has the axes {', '.join(names)}; a tomogram has z, y and x"
        raise RequestError(path, told, "name a tomogram")
    for name, length in zip(names, shape, strict=True):
        if name not in "zyx" and length != 1:
            told = f"has {length} entries along the axis {name!r}; a tomogram has one"
            raise RequestError(path, told, "write one of them to a store of its own")
    return names.index("z"), names.index("y"), names.index("x")


def _scale(
    scales: Any, finest: Any, ndim: int, axes: tuple[int, int, int], units: list[str | None]
) -> _Scale:
    steps, shifts = np.ones(ndim), np.zeros(ndim)
    for row in (*finest.get("coordinateTransformations", ()), *scales.get("coordinateTransformations", ())):
        if row.get("type") == "scale":
            factor = np.asarray(row["scale"], dtype=np.float64)
            steps, shifts = steps * factor, shifts * factor
        elif row.get("type") == "translation":
            shifts = shifts + np.asarray(row["translation"], dtype=np.float64)
    if steps.shape != (ndim,) or not (np.isfinite(steps).all() and np.isfinite(shifts).all()):
        raise ValueError(f"scale of {steps.size} numbers for {ndim} axes")
    chosen = [units[axis] for axis in axes]
    z, y, x = (steps[axis] for axis in axes)
    problem = None
    if None in chosen:
        problem = f"does not say its voxel size: its scale (x {x:g}, y {y:g}, z {z:g}) has no unit"
    elif any(unit not in UNITS for unit in chosen):
        names = ", ".join(str(unit) for unit in dict.fromkeys(chosen))
        problem = f"says a voxel size of x {x:g}, y {y:g}, z {z:g} {names}, a unit that is not known"
    factors = tuple(None if unit is None else UNITS.get(unit) for unit in chosen)
    return _Scale((z, y, x), tuple(float(shifts[axis]) for axis in axes), factors, problem)


def _nstart(ours: Any) -> Start:
    z, y, x = ours.get("nstart", (0, 0, 0)) if isinstance(ours, dict) else (0, 0, 0)
    return int(z), int(y), int(x)


def _header(volume: StoredVolume, scale: _Scale, nstart: Start) -> VolumeHeader:
    factors = [unit or 0.0 for unit in scale.units]
    sizes = tuple(float(step * unit) for step, unit in zip(scale.steps, factors, strict=True))
    origin = tuple(float(shift * unit) for shift, unit in zip(scale.shifts, factors, strict=True))
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    problem = scale.problem or voxel_size_problem((sizes[0], sizes[1], sizes[2]), shape)
    return VolumeHeader(
        shape=shape,
        dtype=volume.dtype,
        voxel_sizes=(sizes[0], sizes[1], sizes[2]),
        origin=(origin[0], origin[1], origin[2]),
        nstart=nstart,
        size_problem=problem,
        problems=(problem,) if problem else (),
    )
