"""Coordinates as text in voxels: `.coords` of crYOLO (x y z) and DeepETPicker (class x y z), `.box` of EMAN2.

`.box` files of two-dimensional boxes (x y width height) are refused.
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.formats import read_text
from cryovox.formats.particles import table
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows
from cryovox.formats.particles.convention import Columns, Convention

CONVENTION = Convention(
    program="crYOLO, DeepETPicker",
    extensions=(".coords",),
    species="class",
    numbers="written",
    single=("tomogram",),
    remark="Lines are x y z, or class x y z as in DeepETPicker, which is written for several species.",
)
BOX = Convention(
    program="EMAN2 boxes",
    extensions=(".box",),
    single=("tomogram",),
    remark="Lines are x y z. Only positions are stored; two-dimensional boxes are refused.",
)


def parse(path: Path) -> Parsed:
    """Columns of coordinates; a file with a header line is read as a table."""
    rows = _lines(path)
    if rows and (not all(_is_number(c) for c in rows[0]) or len(rows[0]) not in (3, 4)):
        return table.parse(path)
    return Parsed(_columns(path, rows, ("class", "x", "y", "z")))


def parse_boxes(path: Path) -> Parsed:
    """Columns of a list of boxes."""
    return Parsed(_columns(path, _lines(path), ("x", "y", "z")))


def render(rows: Rows) -> str:
    """Text of coordinates, with the class if there are several."""
    several = "class" in rows.columns and len(set(rows.particles.species.tolist())) > 1
    text = StringIO()
    tags = ("class", "x", "y", "z") if several else ("x", "y", "z")
    np.savetxt(text, np.stack([rows.columns[tag] for tag in tags], axis=1), fmt="%.10g")
    return text.getvalue()


def _lines(path: Path) -> list[list[str]]:
    return [line.split() for line in read_text(path).splitlines() if line.strip() and line[0] != "#"]


def _columns(path: Path, rows: list[list[str]], names: tuple[str, ...]) -> Columns:
    """Columns of lines with all *names*, or with x, y and z."""
    widths = {len(row) for row in rows}
    if widths - {3, len(names)} or len(widths) > 1:
        message = f"has lines of {max(widths)} numbers, not x y z"
        raise RequestError(path, message, "name a list of a tomogram; boxes of micrographs have no z")
    cells = list(zip(*rows, strict=True)) if rows else [()] * 3
    return dict(zip(names[-len(cells) :], cells, strict=True))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


FORMAT = ColumnFormat(CONVENTION, parse, render)
BOX_FORMAT = ColumnFormat(BOX, parse_boxes, render)
