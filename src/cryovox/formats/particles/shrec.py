"""Particle locations of the SHREC challenges (.txt): name, x, y, z in voxels, and three angles, as text.

The direction and order of the angles differ between readers and simulators
(:mod:`cryovox.formats.layouts.shrec2021`), so they are kept as columns and are not used as orientations.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.formats import read_text
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows, cell
from cryovox.formats.particles.convention import Convention

ANGLES = ("angle1", "angle2", "angle3")

CONVENTION = Convention(
    program="SHREC",
    extensions=(".txt",),
    species="name",
    single=("tomogram",),
    remark="Lines are name x y z and three angles, which are kept but not used.",
)


def recognizes(text: str) -> bool:
    """Whether the first line of a text is a name and three or six numbers."""
    words = text.partition("\n")[0].split()
    return len(words) in (4, 7) and not _is_number(words[0]) and all(map(_is_number, words[1:]))


def parse(path: Path) -> Parsed:
    """Columns of the locations."""
    rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
    if len({len(row) for row in rows}) != 1 or len(rows[0]) not in (4, 7):
        raise RequestError(path, "has lines that are not name x y z [angles]", "correct the file")
    return Parsed(dict(zip(("name", "x", "y", "z", *ANGLES), zip(*rows, strict=True), strict=False)))


def render(rows: Rows) -> str:
    """Text of the locations; spaces in names become underscores."""
    columns = rows.columns | {"name": ["_".join(str(name).split()) for name in rows.columns["name"]]}
    tags = ["name", "x", "y", "z", *(tag for tag in ANGLES if set(ANGLES) <= set(columns))]
    cells = [[cell(value) for value in columns[tag]] for tag in tags]
    return "".join(f"{' '.join(row)}\n" for row in zip(*cells, strict=True))


def _is_number(word: str) -> bool:
    try:
        return isfinite(float(word))
    except ValueError:
        return False


FORMAT = ColumnFormat(CONVENTION, parse, render, recognizes)
