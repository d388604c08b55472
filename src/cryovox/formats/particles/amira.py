"""Spatial graphs of Amira (.am) as text: the points of filaments and membranes, in Å.

Each data section `@N` belongs to a line such as `POINT { float[3] EdgePointCoordinates } @4`; edges have
their number of points in `NumEdgePoints`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.formats import read_bytes
from cryovox.formats.particles.column_format import ColumnFormat, Parsed
from cryovox.formats.particles.convention import Columns, Convention

POINTS, COUNTS = "EdgePointCoordinates", "NumEdgePoints"
SECTION = re.compile(r"\w+\s*\{\s*\w+(?:\[\d+\])?\s+(\w+)\s*\}\s*(@\d+)")

CONVENTION = Convention(
    program="Amira",
    extensions=(".am",),
    unit="Å",
    written=False,
    remark="Spatial graphs as text (ASCII). Points of all edges are read; the column edge counts from 1.",
)


def parse(path: Path) -> Parsed:
    """Points of the edges of a spatial graph."""
    data = read_bytes(path)
    if not data.startswith(b"# AmiraMesh") or b"ASCII" not in data[:64]:
        message = "is an image or a binary file of Amira, not a spatial graph as text"
        raise RequestError(path, message, "save the graph in Amira as `AmiraMesh ASCII SpatialGraph`")
    text = data.decode("utf-8", "replace")
    marks = dict(SECTION.findall(text))
    if POINTS not in marks:
        raise RequestError(path, f"holds no {POINTS}", "name a spatial graph of Amira")
    xyz = _section(path, text, marks[POINTS]).reshape(-1, 3)
    columns: Columns = dict(zip("xyz", xyz.T, strict=True))
    if COUNTS in marks:
        counts = _section(path, text, marks[COUNTS]).astype(np.int64)
        if counts.sum() != len(xyz):
            message = f"has edges of {counts.sum()} points, and {len(xyz)} points"
            raise RequestError(path, message, "save the graph again")
        columns["edge"] = np.repeat(np.arange(1, len(counts) + 1), counts)
    return Parsed(columns)


def _section(path: Path, text: str, mark: str) -> NDArray[np.float64]:
    """Numbers of a data section."""
    body = text.partition(f"\n{mark}\n")[2].partition("\n@")[0]
    try:
        return np.array(body.split(), dtype=np.float64)
    except ValueError as error:
        raise RequestError(
            path, f"holds a value that is no number ({error})", "save the graph again"
        ) from None


FORMAT = ColumnFormat(CONVENTION, parse)
