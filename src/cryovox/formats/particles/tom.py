"""Motive lists of the TOM and AV3 toolboxes (.em): an array of 20 numbers a particle.

The EM format has a header of 512 bytes: machine, unused, unused, data type, then the dimensions x, y and z as
32-bit integers (https://github.com/dtegunov/tom/blob/master/IOfun/tom_emread.m).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import read_bytes
from cryovox.formats.particles import names
from cryovox.formats.particles.convention import Convention, Frame, columns_of, particles_of, words

COLUMNS = words(
    "ccc column2 column3 subtomo_num tomo_num object column7 x y z x_shift y_shift z_shift column14 "
    "column15 column16 phi psi the class"
)
HEADER = 512
PC = 6
"""Machine code of little-endian files; those of other machines are big-endian."""
TYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}

CONVENTION = Convention(
    program="TOM, AV3",
    extensions=(".em",),
    first=(1, 1, 1),
    shifts=("x_shift", "y_shift", "z_shift"),
    eulers="ZXZ",
    angles=("psi", "the", "phi"),
    score="ccc",
    tomogram="tomo_num",
    species="class",
    remark="Stored in single precision, so coordinates are whole voxels and shifts hold the rest.",
)


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read a motive list; arguments are those of :func:`cryovox.formats.read_particles`."""
    columns = dict(zip(COLUMNS, _rows(path), strict=True))
    return particles_of(path, columns, CONVENTION, tomogram=tomogram, voxel_size=voxel_size, species=species)


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write a motive list; arguments are those of :func:`cryovox.formats.write_particles`.

    Coordinates are whole voxels, with the remainder as shifts.
    """
    columns, numbered = columns_of(
        path,
        particles,
        CONVENTION,
        tomogram=tomogram,
        voxel_size=voxel_size,
        tomogram_name=tomogram_name,
        whole=True,
    )
    n = len(particles)
    columns = {"subtomo_num": np.arange(1, n + 1), "object": np.ones(n)} | columns
    cells = np.array([np.broadcast_to(columns.get(name, 0), n) for name in COLUMNS], dtype="<f4")
    header = np.zeros(HEADER, np.uint8)
    header[[0, 3]] = PC, 5
    header[4:16] = np.array([len(COLUMNS), n, 1], dtype="<i4").view(np.uint8)
    with replacing(path) as temporary:
        temporary.write_bytes(header.tobytes() + cells.T.tobytes())
    names.write(path, numbered)


def _rows(path: Path) -> NDArray[np.float64]:
    """The array as 20 rows of n numbers."""
    data = read_bytes(path)
    if len(data) < HEADER or data[3] not in TYPES:
        raise RequestError(path, "is no EM file", "check that this is the file you meant")
    order = "<" if data[0] == PC else ">"
    width, n, depth = np.frombuffer(data[4:16], dtype=f"{order}i4").tolist()
    if (width, depth) != (len(COLUMNS), 1) or n < 0:
        message = f"holds {width} x {n} x {depth} numbers, not 20 a particle"
        raise RequestError(path, message, "name a motive list, not a volume")
    values = np.frombuffer(data[HEADER:], dtype=order + TYPES[data[3]])
    if len(values) < width * n:
        raise RequestError(path, f"ends after {len(values)} of {width * n} numbers", "copy the file again")
    return np.asarray(values[: width * n].reshape(n, width).T, dtype=np.float64)
