"""Models of IMOD (.mod), read with imodmodel (`pip install "cryovox[imod]"`) and written here.

In IMOD the first voxel has its center at x = y = 0.5 and z = 0
(https://bio3d.colorado.edu/imod/doc/3dmodguide.html). An object is a species, by its name. The layout of the
file is that of https://bio3d.colorado.edu/imod/doc/binspec.html.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from io import BytesIO
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_bytes
from cryovox.formats.particles.chimerax import COLORS, RADIUS
from cryovox.formats.particles.column_format import check_single
from cryovox.formats.particles.convention import Convention, Frame, columns_of, particles_of

HEADER, OBJECT, CONTOUR = Struct(">128s4iI4i6f5if2i3f"), Struct(">64s64xiIii3fi8Bii"), Struct(">iIii")
"""Of a model, an object and a contour."""
OPEN_POINTS = 1 << 3 | 1 << 9
"""Flags of an object of scattered points that no line joins."""
NAME = b"IMOD-NewModel"
"""Name that IMOD gives to new models; cryoCAT reads only models whose names start with IMOD."""
ANGSTROM = -10
"""Unit of the pixel size in a model, as a power of ten in m; 0 is pixels."""

CONVENTION = Convention(
    program="IMOD",
    extensions=(".mod",),
    first=(0.5, 0.5, 0.0),
    species="object",
    single=("tomogram",),
    pixel_size="pixel_size",
    remark="Reading needs imodmodel. Coordinates have single precision; angles, scores and tomograms are not "
    "stored.",
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
    size = float(columns["pixel_size"][0]) if len(xyz) else 1.0
    shape = tomogram.shape if isinstance(tomogram, Volume) else (0, 0, 0)
    kinds = list(dict.fromkeys(particles.species.tolist()))
    objects = [
        _object(kind, COLORS[i % len(COLORS)], round(RADIUS / size), xyz[particles.species == kind])
        for i, kind in enumerate(kinds)
    ]
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join([b"IMODV1.2", _header(shape, size, len(kinds)), *objects, b"IEOF"]))


def _header(shape: tuple[int, int, int], size: float, objects: int) -> bytes:
    """Header with the size of the volume in voxels, the voxel size in Å and the number of objects."""
    limits, flags, drawing = shape[::-1], 0, (1, 2, 0, 255)
    offset, scale, chosen = (0.0,) * 3, (1.0,) * 3, (0, 0, -1)
    rest = (3, 128, size, ANGSTROM, 0, 0.0, 0.0, 0.0)
    return HEADER.pack(NAME, *limits, objects, flags, *drawing, *offset, *scale, *chosen, *rest)


def _object(name: str, color: tuple[float, float, float], radius: int, points: np.ndarray) -> bytes:
    """Scattered points, drawn as spheres with this radius in voxels."""
    symbol = (1, 3, 1, 1, 0, 0, 0, 0)
    head = OBJECT.pack(name.encode()[:63], 1, OPEN_POINTS, 0, 1, *color, max(radius, 2), *symbol, 0, 0)
    return b"OBJT" + head + b"CONT" + CONTOUR.pack(len(points), 0, 0, 0) + points.astype(">f4").tobytes()


def _library(path: Path, module: str) -> Any:
    try:
        return import_module(f"imodmodel.{module}")
    except ModuleNotFoundError:
        message = "IMOD models are read with imodmodel, which is not installed"
        raise RequestError(path, message, "pip install 'cryovox[imod]'") from None
