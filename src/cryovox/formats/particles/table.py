"""Particle lists as plain tables: CSV, TSV and columns of numbers.

`x`, `y`, `z` are in Å from the center of voxel 0, as in the CryoET Data Portal and the CZII challenge.
Files without a header have the columns x, y, z and optionally a score, or, in `.coords` files of DeepETPicker
with four columns, class, x, y, z. If the first column may be a class or an index, the file is an error. The
unit is unknown, so it is taken as Å too, unless coordinates are multiplied by a voxel size.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from itertools import chain, islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.formats import ending, read_text
from cryovox.formats.particles.cells import columns_of, decoded, rows_text
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows
from cryovox.formats.particles.convention import Columns, Convention
from cryovox.formats.particles.relion import CARRIED

XYZ, ANGLES = ("x", "y", "z"), ("rot", "tilt", "psi")
SYNONYMS = {
    "particle_type": ("particle_type", "species", "particle", "class_name"),
    "score": ("score", "confidence", "probability"),
    "tomogram": ("tomogram", "experiment", "tomo_id", "run_name"),
}
"""Names of a column; the first one that a file has is used."""
CLASS = "class_number"
CONVENTION = Convention(
    program="CSV, TSV, TXT",
    extensions=(".csv", ".tsv", ".txt"),
    unit="Å",
    scaled=True,
    eulers="ZYZ",
    angles=ANGLES,
    passive=True,
    score="score",
    tomogram="tomogram",
    species="particle_type",
    numbers="never",
    remark="Angles as in RELION. Other names of columns are read too; `--voxel-size` reads voxels.",
)
DIGITS = dict.fromkeys(XYZ, ".4f") | dict.fromkeys(ANGLES, ".6f") | {"score": ".9g"}
"""Columns of numbers, and how they are written."""
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
DELIMITERS = ("\t", ",", ";")
CHUNK = 1 << 15
"""Lines that are in memory as text at a time."""
CHUNK_TEXT = 1 << 21
"""The same in characters."""
UNUSUAL = ('"', "'", "#", "\r", "\t", "\0", ";", " ", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e")
"""Characters of files that are read line by line."""

Line = tuple[int, list[str]]
"""Number of a line, and its cells."""


def parse(path: Path) -> Parsed:
    """Columns of a table whose cells are separated by tabs, commas, semicolons or spaces."""
    text = read_text(path)
    if (columns := _plain_columns(path, text)) is not None:
        return _parsed(columns)
    first = next((line for line in _text_lines(text) if line.strip() and line[0] != "#"), "")
    if not first or "\0" in text:
        raise RequestError(
            path, "is empty" if not text.strip() else "is not a table", "write a line `x,y,z` first"
        )
    lines = _lines(path, text, next((d for d in DELIMITERS if d in first), None))
    head = next(lines)
    if _is_number(head[1][0]):
        beginning = [head, *islice(lines, CHUNK)]
        names = _default_names(path, [cells for _, cells in beginning])
        lines = chain(beginning, lines)
    else:
        names = [name.lower() if name.lower() in (*XYZ, *ANGLES) else name for name in head[1]]
    _check(path, names)
    used = {next((n for n in options if n in names), ""): own for own, options in SYNONYMS.items()}
    return _parsed(_columns(path, lines, [used.get(name, name) for name in names]))


def _parsed(columns: Columns) -> Parsed:
    if "particle_type" not in columns and CLASS in columns:
        return Parsed(columns | {"particle_type": columns[CLASS]}, replace(CONVENTION, numbers="read"))
    return Parsed(columns)


def render(rows: Rows) -> Iterator[str]:
    """Text with commas, in parts: Å with four decimals, degrees with six."""
    return _parts(rows, ",")


def render_tabs(rows: Rows) -> Iterator[str]:
    """Text with tabs, in parts."""
    return _parts(rows, "\t")


def _parts(rows: Rows, delimiter: str) -> Iterator[str]:
    others = {*chain(*SYNONYMS.values()), *CARRIED} - set(SYNONYMS)
    columns = {name: values for name, values in rows.columns.items() if name not in others}
    first = [name for name in (*XYZ, "particle_type", "score", *ANGLES, "tomogram") if name in columns]
    columns = {name: columns[name] for name in (*first, *(n for n in columns if n not in first))}
    yield delimiter.join(_quoted(list(columns), delimiter)) + "\n"
    row = delimiter.join(f"%{DIGITS.get(name, 's')}" for name in columns) + "\n"
    for start in range(0, len(rows), CHUNK):
        cells = [_cells(name, values[start : start + CHUNK], delimiter) for name, values in columns.items()]
        yield rows_text(row, cells)


def _cells(name: str, values: Any, delimiter: str) -> list[Any]:
    """Cells of a column: numbers as such, others as text with quotes where it needs them."""
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return plain if name in DIGITS else _quoted(plain, delimiter)


def _quoted(cells: list[Any], delimiter: str) -> list[Any]:
    """Text of cells as the module csv writes it, each distinct one quoted once."""
    text = "".join(map(str, cells))
    if not any(mark in text for mark in (delimiter, '"', "\n", "\r")):
        return cells
    known: dict[Any, str] = {}
    for cell in {*cells}:
        out = StringIO()
        csv.writer(out, delimiter=delimiter, lineterminator="").writerow([cell, ""])
        known[cell] = out.getvalue()[:-1]
    return [known[cell] for cell in cells]


def _columns(path: Path, lines: Iterator[Line], names: list[str]) -> Columns:
    """Columns of the remaining lines, those of the convention as numbers."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    while some := list(islice(lines, CHUNK)):
        for line, row in some:
            if len(row) != len(names):
                message = f"line {line} has {len(row)} cells, not {len(names)}"
                raise RequestError(path, message, "correct the file")
        for name, cells in zip(names, zip(*(row for _, row in some), strict=True), strict=True):
            if name in DIGITS:
                parts[name].append(_numbers(path, name, cells, some))
            else:
                parts[name].append(np.array(cells, dtype=np.str_))
    empty = np.zeros(0, dtype="<U1")
    return {name: np.concatenate(values) if values else empty for name, values in parts.items()}


def _plain_columns(path: Path, text: str) -> Columns | None:
    """Columns of a file with commas and without quotes, blanks, comments and empty lines; None for others.

    Many rows are split at a time, which takes less time. A file with an error is read again by line.
    """
    head, _, body = text.partition("\n")
    names = head.split(",")
    plain = text.isascii() and not any(mark in text for mark in UNUSUAL)
    if not plain or not body or not set(XYZ) <= set(names) or len({*names}) < len(names):
        return None
    used = {next((n for n in options if n in names), ""): own for own, options in SYNONYMS.items()}
    names = [used.get(name, name) for name in names]
    columns = columns_of(_chunks(body), names, DIGITS, ",")
    if columns is None:
        return None
    known = {
        name: column if column.dtype.kind == "f" else decoded(column)
        for name, column in zip(names, columns, strict=True)
    }
    return known if all(np.isfinite(known[name]).all() for name in names if name in DIGITS) else None


def _chunks(body: str) -> Iterator[bytes]:
    """Text of many lines."""
    start = 0
    while start < len(body):
        stop = body.find("\n", start + CHUNK_TEXT) + 1 or len(body)
        yield body[start:stop].encode("ascii")
        start = stop


def _numbers(path: Path, name: str, cells: Sequence[str], lines: list[Line]) -> NDArray[np.float64]:
    try:
        values = np.array(cells, dtype=np.float64)
        if np.isfinite(values).all() and "_" not in "".join(cells):
            return values
    except ValueError:
        pass
    line, cell = next((line, c) for (line, _), c in zip(lines, cells, strict=True) if not _is_finite(c))
    raise RequestError(path, f"line {line}, column {name}: {cell!r} is not a number", "correct the file")


def _check(path: Path, names: list[str]) -> None:
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise RequestError(path, f"has two columns {duplicate!r}", "rename one of them")
    missing = [name for name in XYZ if name not in names]
    if missing:
        message = f"has no column {missing[0]} (columns: {', '.join(names)})"
        raise RequestError(path, message, "name the columns x, y, z, in Å")


def _default_names(path: Path, rows: list[list[str]]) -> list[str]:
    """Names of the columns of a file without a header."""
    width = len(rows[0])
    if width == 4 and ending(path) == ".coords":
        return [CLASS, *XYZ]
    scores = [row[3] for row in rows if len(row) > 3]
    in_range = all(_is_number(cell) and abs(float(cell)) <= 1 for cell in scores)
    if scores and not in_range and all(_is_integer(row[0]) for row in rows):
        message = (
            f"has {width} columns of numbers and no header line: the first may be x, a class or an index"
        )
        raise RequestError(path, message, "write a line such as `x,y,z,score` or `class_number,x,y,z` first")
    return ([*XYZ, "score"] + [f"column{i}" for i in range(5, width + 1)])[:width]


def _lines(path: Path, text: str, delimiter: str | None) -> Iterator[Line]:
    """Number and cells of all lines that are neither blank nor comments."""
    if delimiter is None:
        rows: Iterator[Line] = ((i, line.split()) for i, line in enumerate(_text_lines(text), 1))
    else:
        rows = _csv_lines(path, text, delimiter)
    return (row for row in rows if any(row[1]) and not row[1][0].startswith("#"))


def _text_lines(text: str) -> Iterator[str]:
    """Lines with their ends, one by one."""
    return (match[0] for match in LINE.finditer(text))


def _csv_lines(path: Path, text: str, delimiter: str) -> Iterator[Line]:
    reader = csv.reader(_text_lines(text), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            yield reader.line_num, list(map(str.strip, row))
    except csv.Error as error:
        raise RequestError(path, f"line {reader.line_num}: {error}", "correct the file") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_finite(cell: str) -> bool:
    return _is_number(cell) and "_" not in cell and isfinite(float(cell))


def _is_integer(cell: str) -> bool:
    return _is_number(cell) and float(cell).is_integer()


FORMAT = ColumnFormat(CONVENTION, parse, render)
TSV_FORMAT = ColumnFormat(CONVENTION, parse, render_tabs)
