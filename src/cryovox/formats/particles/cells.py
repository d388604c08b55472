"""Columns of long tables, many rows of text at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST = 128
"""Characters of a cell; tables with longer ones are left to other readers."""


def columns_of(
    chunks: Iterable[bytes | None], names: Sequence[str], numbers: Collection[str], delimiter: str | None
) -> tuple[NDArray[Any], ...] | None:
    """All columns of a table; None if a chunk is None, a row is not complete or a number is none.

    Parameters
    ----------
    chunks
        ASCII text of whole rows, one row a line.
    names
        Columns of a row.
    numbers
        Names of columns that become numbers; others are text as bytes.
    delimiter
        Character between cells; None is any space.
    """
    row = np.dtype([(f"c{i}", "f8" if name in numbers else f"S{LONGEST}") for i, name in enumerate(names)])
    parts = []
    for text in chunks:
        cells = None if text is None else _cells(text, row, delimiter)
        if cells is None:
            return None
        columns = [_narrow(cells[field]) for field in row.names or ()]
        if any(column.itemsize == LONGEST for column in columns):
            return None
        parts.append(columns)
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def _cells(text: bytes, row: np.dtype[Any], delimiter: str | None) -> NDArray[Any] | None:
    """Rows of text as an array of *row*; None if they are others."""
    lines = BytesIO(text)
    try:
        return np.loadtxt(lines, row, comments=None, delimiter=delimiter, ndmin=1, encoding="latin1")
    except ValueError:
        return None


def _narrow(column: NDArray[Any]) -> NDArray[Any]:
    """A column, of text with as many characters as its longest cell."""
    if column.dtype.kind == "f":
        return column.copy()  # the array of rows is let go
    longest = max(1, int(np.strings.str_len(column).max(initial=0)))
    return column.astype(f"S{longest}")


def decoded(column: NDArray[np.bytes_]) -> NDArray[np.str_]:
    """A column of ASCII bytes as text, without a loop over its cells."""
    width = column.itemsize
    codes = np.ascontiguousarray(column).view(np.uint8).astype(np.uint32)
    return codes.view(f"U{width}").reshape(column.shape)


def as_numbers(column: NDArray[np.bytes_]) -> NDArray[np.float64]:
    """A column of bytes as numbers; empty if one of them is none."""
    try:
        # Python and NumPy take 1_000 for 1000, other programs for 1
        return np.zeros(0) if (np.strings.find(column, b"_") >= 0).any() else column.astype(np.float64)
    except ValueError:
        return np.zeros(0)


def rows_text(row: str, columns: Sequence[Sequence[Any]]) -> str:
    """Text of rows, from the format of one row, as before `%`, and its columns."""
    return row * len(columns[0]) % tuple(chain.from_iterable(zip(*columns, strict=True)))
