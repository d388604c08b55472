"""Boxes of crYOLO (.cbox): the block `data_cryolo` of a STAR file, in voxels.

x and y are the lower corner of the box, z is its center, as in napari-boxmanager
(https://github.com/MPI-Dortmund/napari-boxmanager).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows, cell
from cryovox.formats.particles.convention import Columns, Convention, words
from cryovox.formats.particles.star_table import read_blocks

BLOCK = "cryolo"
CORNER, SIZES = ("CoordinateX", "CoordinateY"), ("Width", "Height")
COLUMNS = words(
    "CoordinateX CoordinateY CoordinateZ Width Height Depth EstWidth EstHeight Confidence NumBoxes Angle"
)
BOX = 32.0
UNKNOWN = "<NA>"

CONVENTION = Convention(
    program="crYOLO",
    extensions=(".cbox",),
    coordinates=("CoordinateX", "CoordinateY", "CoordinateZ"),
    score="Confidence",
    single=("tomogram",),
    remark="x and y are those of the lower corner of the box, z that of its center. "
    "Species, angles and tomograms are not stored.",
)


def parse(path: Path) -> Parsed:
    """Columns of the boxes, with centers instead of corners."""
    columns: Columns = dict(read_blocks(path).get(BLOCK, {}))
    if not {*CONVENTION.coordinates, *SIZES} <= set(columns) or UNKNOWN in columns["CoordinateZ"]:
        message = f"holds no boxes of a tomogram: data_{BLOCK} with CoordinateX to Z, Width and Height"
        raise RequestError(path, message, "name a .cbox file of a tomogram, not of micrographs")
    try:
        for corner, size in zip(CORNER, SIZES, strict=True):
            columns[corner] = np.array(columns[corner], dtype=np.float64) + np.array(columns[size], float) / 2
    except ValueError as error:
        raise RequestError(path, f"holds a box that is no number ({error})", "correct the file") from None
    if UNKNOWN in columns.get(CONVENTION.score, ()):
        del columns[CONVENTION.score]
    return Parsed(columns)


def render(rows: Rows) -> str:
    """Text of a file of boxes."""
    n = len(rows)
    columns = {name: np.full(n, BOX) for name in (*SIZES, "Depth")} | rows.columns
    for corner, size in zip(CORNER, SIZES, strict=True):
        columns[corner] = columns[corner] - np.asarray(columns[size], dtype=np.float64) / 2
    cells = [[cell(value) for value in columns.get(name, [UNKNOWN] * n)] for name in COLUMNS]
    slices = [f" {z:.6f}" for z in np.unique(np.round(columns["CoordinateZ"]))]
    lines = ["", "data_global", "", "_cbox_format_version   1.0", "", f"data_{BLOCK}", "", "loop_"]
    lines += [f"_{name} #{i}" for i, name in enumerate(COLUMNS, 1)]
    lines += [" ".join(row) for row in zip(*cells, strict=True)]
    lines += ["", f"data_{BLOCK}_include", "", "loop_", "_slice_index #1", *slices, ""]
    return "\n".join(lines)


FORMAT = ColumnFormat(CONVENTION, parse, render)
