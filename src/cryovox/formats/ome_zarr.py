"""Tomograms as OME-Zarr 0.4 and 0.5: a folder with one array per resolution.

The finest one is read, or the one with a voxel size that is asked for. OME-Zarr 0.5 is written, with the
coarser resolutions of :mod:`cryovox.formats.pyramid`.
The CZII challenge, copick and the CryoET Data Portal use this format. Axes are identified by their names, in
any order; time and channel axes of length 1 are dropped. The voxel size is the scale of the array in the unit
of each axis; a scale without a unit is relative, so the voxel size is unknown. The translation is the origin.
NSTART of MRC is stored in the attribute `cryovox`. Specification: https://ngff.openmicroscopy.org
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.reading import check_readable, denied
from cryovox.core.volume import ZYX, Start, Volume, VolumeHeader, voxel_size_problem
from cryovox.formats import pyramid, usable_voxel_size, zarr_store
from cryovox.formats.stored import StoredVolume, reason_of

CHUNK = pyramid.CHUNK
SAME_SIZE = 1e-3
"""Relative difference of voxel sizes that are the same."""
UNITS = {
    "angstrom": 1.0,
    "picometer": 1e-2,
    "nanometer": 10.0,
    "micrometer": 1e4,
    "millimeter": 1e7,
    "meter": 1e10,
}


@dataclass(frozen=True)
class _Scale:
    """Steps and shifts along z, y, x, and the units in Å; None for axes without a unit."""

    steps: tuple[float, ...]
    shifts: tuple[float, ...]
    units: tuple[float | None, ...]
    problem: str | None = None

    @property
    def voxel_sizes(self) -> ZYX:
        """Voxel size (z, y, x) in Å; 0 for axes without a known unit."""
        z, y, x = (step * (unit or 0.0) for step, unit in zip(self.steps, self.units, strict=True))
        return z, y, x


@dataclass(frozen=True)
class _Level:
    """One resolution: its array, the indices of its axes z, y and x, and its scale."""

    stored: Any
    axes: tuple[int, int, int]
    scale: _Scale

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(self.stored.shape[axis]) for axis in self.axes)


def header(path: Path, unit: str | None = None) -> VolumeHeader:
    """Read the metadata of a store, without voxels.

    Parameters
    ----------
    path
        Folder `NAME.zarr`.
    unit
        Unit of axes that have none, if it is known from elsewhere.
    """
    return _open(path, unit)[0]


def read(path: Path, voxel_size: float | None = None, stored_voxel_size: float | None = None) -> Volume:
    """Open a tomogram; voxels are read on access.

    Parameters
    ----------
    path
        Folder `NAME.zarr`.
    voxel_size
        Voxel size in Å, instead of that of the store.
    stored_voxel_size
        Read the resolution with this voxel size in Å, instead of the finest one.
    """
    info, stored, scale = _open(path, stored_voxel_size=stored_voxel_size)
    size = usable_voxel_size(path, info, voxel_size)
    origin = info.origin
    if None in scale.units:  # shifts are relative as steps are
        z, y, x = (shift / step * size for shift, step in zip(scale.shifts, scale.steps, strict=True))
        origin = (z, y, x)
    return Volume(stored, size, origin, info.nstart)


def voxel_sizes(path: Path) -> list[float]:
    """Voxel size in Å along x of every resolution, the finest first; 0 where unknown."""
    return [level.scale.voxel_sizes[2] for level in _levels(path)[0]]


def write(path: Path, volume: Volume) -> None:
    """Write OME-Zarr 0.5 with all resolutions, slab by slab and atomically."""
    shapes = pyramid.shapes(volume.shape, volume.data.dtype)
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    datasets = [
        {"path": str(level), "coordinateTransformations": _transformations(volume, level)}
        for level in range(len(shapes))
    ]
    with replacing(path) as temporary, zarr_store.created(temporary) as root:
        levels = [_array(root, str(i), shape, volume.data.dtype) for i, shape in enumerate(shapes)]
        scales = [{"name": path.stem, "axes": axes, "datasets": datasets}]
        root.attrs["ome"] = {"version": "0.5", "multiscales": scales}
        if any(volume.nstart):
            root.attrs["cryovox"] = {"nstart": list(volume.nstart)}
        for z in range(0, volume.shape[0], CHUNK):
            levels[0][z : z + CHUNK] = np.asarray(volume.data[z : z + CHUNK])
        for fine, coarse in pairwise(levels):
            pyramid.fill(fine, coarse)


def _array(root: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    return root.create_array(
        name,
        shape=shape,
        chunks=tuple(min(CHUNK, n) for n in shape),
        dtype=np.dtype(dtype).name,
        dimension_names=list("zyx"),
    )


def _transformations(volume: Volume, level: int) -> list[dict[str, Any]]:
    """Scale and, if it is not 0, translation in Å to the center of the first voxel."""
    size = volume.voxel_size
    shift = [origin + pyramid.offset(level) * size for origin in volume.origin]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [size * 2**level] * 3}]
    return [*steps, {"type": "translation", "translation": shift}] if any(shift) else steps


def _open(
    path: Path, unit: str | None = None, stored_voxel_size: float | None = None
) -> tuple[VolumeHeader, StoredVolume, _Scale]:
    levels, nstart = _levels(path, unit)
    level = levels[0]
    if stored_voxel_size is not None:
        level = _chosen(path, levels, stored_voxel_size)
        nstart = nstart if level is levels[0] else (0, 0, 0)  # counts voxels of the finest one
    volume = StoredVolume(level.stored, level.axes)
    return _header(volume, level.scale, nstart), volume, level.scale


def _levels(path: Path, unit: str | None = None) -> tuple[list[_Level], Start]:
    """All resolutions, the finest first, and NSTART."""
    check_readable(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.open_group(path, mode="r")
            own: Any = root.attrs.get("cryovox", {})
            _check_kind(path, own)
            metadata: Any = root.attrs.get("ome", root.attrs)
            scales = metadata["multiscales"][0]
            levels = [_level(path, root, scales, dataset, unit) for dataset in scales["datasets"]]
            return sorted(levels, key=lambda level: -int(np.prod(level.shape))), _nstart(own)
    except PermissionError as error:
        raise denied(error.filename or path) from None
    except (KeyError, IndexError, TypeError, AttributeError, OSError, ValueError) as error:
        raise RequestError(
            path, f"is not an OME-Zarr image ({reason_of(error)})", "name the folder NAME.zarr"
        ) from None


def _level(path: Path, root: Any, scales: Any, dataset: Any, unit: str | None) -> _Level:
    stored: Any = root[dataset["path"]]
    names, units = _axes(scales.get("axes"), len(stored.shape))
    axes = _spatial(path, names, stored.shape)
    known = [axis_unit or unit for axis_unit in units]
    return _Level(stored, axes, _scale(scales, dataset, len(stored.shape), axes, known))


def _chosen(path: Path, levels: list[_Level], size: float) -> _Level:
    """The resolution with a voxel size in Å."""
    for level in levels:
        if all(abs(own / size - 1) <= SAME_SIZE for own in level.scale.voxel_sizes):
            return level
    if problem := levels[0].scale.problem:
        raise RequestError(path, problem, "leave out --stored-voxel-size: only the finest one can be read")
    sizes = ", ".join(f"{level.scale.voxel_sizes[2]:g}" for level in levels)
    message = f"has no resolution with voxels of {size:g} Å, only of {sizes} Å"
    raise RequestError(path, message, f"--resample {size:g} computes it from the finest one")


def _check_kind(path: Path, own: Any) -> None:
    """Raise an error for a score map or a set of subtomograms."""
    if isinstance(own, dict) and "kind" in own:
        raise RequestError(path, "is a score map, not a tomogram", "name a tomogram, or use `cryovox pick`")
    if isinstance(own, dict) and "sources" in own:
        message = "is a set of subtomograms, not a tomogram"
        raise RequestError(
            path, message, "name a tomogram; `segment`, `train` and `evaluate labels` take sets"
        )


def _axes(axes: Any, ndim: int) -> tuple[list[str], list[str | None]]:
    """Name and unit of every axis; early versions of the format have no axes, or names only."""
    if axes is None:
        return list("tczyx")[-ndim:], [None] * ndim
    rows = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    if len(rows) != ndim:
        raise ValueError(f"names {len(rows)} axes of an array of {ndim}")
    units = [str(row["unit"]).lower() if row.get("unit") else None for row in rows]
    return [str(row["name"]).lower() for row in rows], units


def _spatial(path: Path, names: list[str], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Indices of the axes z, y and x; all other axes have length 1."""
    if any(names.count(axis) != 1 for axis in "zyx"):
        message = f"has the axes {', '.join(names)}; a tomogram has z, y and x"
        raise RequestError(path, message, "name a tomogram")
    for name, length in zip(names, shape, strict=True):
        if name not in "zyx" and length != 1:
            message = f"has {length} entries along the axis {name!r}; a tomogram has one"
            raise RequestError(path, message, "write one of them to a store of its own")
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
        problem = f"says a voxel size of x {x:g}, y {y:g}, z {z:g} {names}, an unknown unit"
    factors = tuple(None if unit is None else UNITS.get(unit) for unit in chosen)
    return _Scale((z, y, x), tuple(float(shifts[axis]) for axis in axes), factors, problem)


def _nstart(own: Any) -> Start:
    z, y, x = own.get("nstart", (0, 0, 0)) if isinstance(own, dict) else (0, 0, 0)
    return int(z), int(y), int(x)


def _header(volume: StoredVolume, scale: _Scale, nstart: Start) -> VolumeHeader:
    factors, sizes = [unit or 0.0 for unit in scale.units], scale.voxel_sizes
    origin = tuple(float(shift * unit) for shift, unit in zip(scale.shifts, factors, strict=True))
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    problem = scale.problem or voxel_size_problem(sizes, shape)
    return VolumeHeader(
        shape=shape,
        dtype=volume.dtype,
        voxel_sizes=sizes,
        origin=(origin[0], origin[1], origin[2]),
        nstart=nstart,
        size_problem=problem,
        problems=(problem,) if problem else (),
    )
