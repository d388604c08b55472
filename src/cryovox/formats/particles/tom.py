"""Motive lists of the TOM and AV3 toolboxes (.em): an array of 20 numbers a particle.

The EM format has a header of 512 bytes: machine, unused, unused, data type, then the dimensions x, y and z as
32-bit integers (https://github.com/dtegunov/tom/blob/master/IOfun/tom_emread.m).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.formats import read_bytes
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows
from cryovox.formats.particles.convention import Convention, words

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
    whole=True,
    eulers="ZXZ",
    angles=("psi", "the", "phi"),
    score="ccc",
    tomogram="tomo_num",
    species="class",
    numbers="written",
    remark="Stored in single precision, so coordinates are whole voxels and shifts hold the rest.",
)


def parse(path: Path) -> Parsed:
    """Columns of a motive list."""
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
    return Parsed(dict(zip(COLUMNS, values[: width * n].reshape(n, width).T.astype(np.float64), strict=True)))


def render(rows: Rows) -> bytes:
    """Header and array of a motive list."""
    n = len(rows)
    columns = {"subtomo_num": np.arange(1, n + 1), "object": np.ones(n)} | rows.columns
    cells = np.array([np.broadcast_to(columns.get(name, 0), n) for name in COLUMNS], dtype="<f4")
    header = np.zeros(HEADER, np.uint8)
    header[[0, 3]] = PC, 5
    header[4:16] = np.array([len(COLUMNS), n, 1], dtype="<i4").view(np.uint8)
    return header.tobytes() + cells.T.tobytes()


FORMAT = ColumnFormat(CONVENTION, parse, render)
