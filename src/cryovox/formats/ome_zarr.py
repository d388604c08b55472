"""Tomograms as OME-Zarr 0.4 and 0.5: a folder with one array per resolution, of which the finest is read.

What the CZII challenge, copick and the CryoET Data Portal hand out. The voxel size is the scale of that
array; a unit that is not told is taken as Å. The format: https://ngff.openmicroscopy.org
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import check_exists, zarr_store

CHUNK = 64
UNITS = {"angstrom": 1.0, "nanometer": 10.0, "micrometer": 1e4}


class StoredVolume:
    """A stored (z, y, x) array of which only the part that is asked for is read."""

    ndim = 3

    def __init__(self, stored: Any) -> None:
        self._stored = stored
        self.shape: tuple[int, ...] = tuple(stored.shape)
        self.dtype: np.dtype[Any] = np.dtype(stored.dtype)
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._stored[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("stored voxels are always copied")
        return self[...].astype(dtype or self.dtype, copy=False)

    def astype(self, dtype: Any) -> NDArray[Any]:
        """All voxels in memory, as another type."""
        return self[...].astype(dtype)


def read(path: Path, voxel_size: float | None = None) -> Volume:
    """Open a tomogram; voxels are read when they are used.

    Parameters
    ----------
    path
        Folder `NAME.zarr`.
    voxel_size
        In Å; wins over what the store says.
    """
    check_exists(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.open_group(path, mode="r")
            about: Any = root.attrs.get("ome", root.attrs)
            scales = about["multiscales"][0]
            finest = scales["datasets"][0]
            stored: Any = root[finest["path"]]
    except (KeyError, IndexError, TypeError, OSError, ValueError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(path, f"is not an OME-Zarr image ({told})", "name the folder NAME.zarr") from None
    if len(stored.shape) != 3:
        told = f"holds an array of shape {tuple(stored.shape)}, not a tomogram (z, y, x)"
        raise RequestError(path, told, "name a tomogram; `cryovox pick` takes score maps")
    size = voxel_size if voxel_size is not None else _voxel_size(path, scales, finest)
    data: Any = StoredVolume(stored)
    return Volume(data, size)


def write(path: Path, volume: Volume) -> None:
    """Write OME-Zarr 0.5 with one resolution, a slab at a time; the store appears whole or not at all."""
    steps = [{"type": "scale", "scale": [volume.voxel_size] * 3}]
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
        for z in range(0, volume.shape[0], CHUNK):
            stored[z : z + CHUNK] = np.asarray(volume.data[z : z + CHUNK])


def _voxel_size(path: Path, scales: Any, finest: Any) -> float:
    """Edge of a voxel in Å."""
    steps = np.ones(3)
    for step in (*finest.get("coordinateTransformations", ()), *scales.get("coordinateTransformations", ())):
        if step.get("type") == "scale":
            steps = steps * np.asarray(step["scale"], dtype=np.float64)[-3:]
    axes = [axis if isinstance(axis, dict) else {} for axis in scales.get("axes", ())][-3:]
    unit = next((str(axis["unit"]).lower() for axis in axes if axis.get("unit")), "angstrom")
    if unit not in UNITS or not (steps > 0).all() or steps.max() / steps.min() > 1.01:
        z, y, x = steps
        told = f"says a voxel size of x {x:g}, y {y:g}, z {z:g} {unit}"
        raise RequestError(path, told, "pass --voxel-size A with the edge of a voxel in Å")
    return round(float(steps.mean()) * UNITS[unit], 5)
