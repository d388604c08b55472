"""Models of IMOD (.mod), read and written with imodmodel (`pip install "cryovox[imod]"`).

In IMOD the first voxel has its center at x = y = 0.5 and z = 0
(https://bio3d.colorado.edu/imod/doc/3dmodguide.html). An object is a species, by its name.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_bytes
from cryovox.formats.particles.column_format import check_single
from cryovox.formats.particles.convention import Convention, Frame, columns_of, particles_of

ANGSTROM = -10
"""Unit of the pixel size in a model, as a power of ten in m; 0 is pixels."""

CONVENTION = Convention(
    program="IMOD",
    extensions=(".mod",),
    first=(0.5, 0.5, 0.0),
    species="object",
    single=("tomogram",),
    pixel_size="pixel_size",
    remark="Needs imodmodel. Coordinates have single precision; angles, scores and tomograms are not stored.",
)


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read the points of all contours; arguments are those of :func:`cryovox.formats.read_particles`."""
    parsers = _library(path, "parsers")
    data = read_bytes(path)
    try:
        model = parsers.parse_model(BytesIO(data))
    except Exception as error:  # of any kind, as the library does not check the file
        message = f"is no IMOD model ({type(error).__name__}: {error})"
        raise RequestError(path, message, "check that this is the file you meant") from None
    points: list[Any] = []
    kinds: list[str] = []
    contours: list[int] = []
    for i, item in enumerate(model.objects, 1):
        name = item.header.name.split("\0")[0].strip() or (f"object{i}" if len(model.objects) > 1 else "")
        for j, contour in enumerate(item.contours, 1):
            points += contour.points.tolist()
            kinds += [name] * len(contour.points)
            contours += [j] * len(contour.points)
    xyz = np.array(points, dtype=np.float64).reshape(-1, 3)
    unit = model.header.units
    size = model.header.pixelsize * 10.0 ** (unit - ANGSTROM) if unit < 0 else 0.0
    columns = dict(zip("xyz", xyz.T, strict=True)) | {"object": kinds, "pixel_size": np.full(len(xyz), size)}
    picks = particles_of(path, columns, CONVENTION, tomogram=tomogram, voxel_size=voxel_size, species=species)
    return replace(picks, extra={"contour": np.array(contours, dtype=np.int64)})


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write scattered points, one object a species.

    Arguments are those of :func:`cryovox.formats.write_particles`.
    """
    models = _library(path, "models")
    check_single(path, particles, CONVENTION)
    columns, _ = columns_of(
        path,
        particles,
        CONVENTION,
        tomogram=tomogram,
        voxel_size=voxel_size,
        tomogram_name=tomogram_name,
    )
    xyz = np.stack([columns[name] for name in "xyz"], axis=1)
    header: dict[str, Any] = {"units": ANGSTROM}
    if len(xyz):
        header["pixelsize"] = float(columns["pixel_size"][0])
    if isinstance(tomogram, Volume):
        header |= dict(zip(("zmax", "ymax", "xmax"), tomogram.shape, strict=True))
    kinds = list(dict.fromkeys(particles.species.tolist()))
    objects = [_object(models, kind, xyz[particles.species == kind]) for kind in kinds]
    header["objsize"] = len(objects)
    model = models.ImodModel(header=models.ModelHeader(**header), objects=objects)
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the library calls old names of pydantic
        model.to_file(temporary)


def _object(models: Any, name: str, points: np.ndarray) -> Any:
    item = models.Object(header=models.ObjectHeader(name=name), contours=[models.Contour(points=points)])
    item.header.flags.scattered = True
    item.update_sizes()
    return item


def _library(path: Path, module: str) -> Any:
    try:
        return import_module(f"imodmodel.{module}")
    except ModuleNotFoundError:
        message = "IMOD models are read and written with imodmodel, which is not installed"
        raise RequestError(path, message, "pip install 'cryovox[imod]'") from None
