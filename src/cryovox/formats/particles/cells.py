"""Columns of plain tables from many rows of cells at a time, as text (str) or as bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def columns_of(
    chunks: Iterable[Sequence[Any] | None], names: Sequence[str], numbers: Collection[str], text: Any
) -> tuple[NDArray[Any], ...] | None:
    """All columns of chunks of whole rows; None if a chunk is None or a number is none.

    Parameters
    ----------
    chunks
        Cells of many rows, one row after the other.
    names
        Columns of a row.
    numbers
        Names of columns that become numbers.
    text
        Data type of the others.
    """
    parts: list[list[NDArray[Any]]] = [[] for _ in names]
    for cells in chunks:
        if cells is None:
            return None
        for i, name in enumerate(names):
            column = cells[i :: len(names)]
            values = as_numbers(column) if name in numbers else np.array(column, dtype=text)
            if values is None:
                return None
            parts[i].append(values)
    return tuple(np.concatenate(values) for values in parts)


def as_numbers(cells: Sequence[Any]) -> NDArray[np.float64] | None:
    """Cells as numbers; None if one of them is none."""
    is_bytes = bool(cells) and isinstance(cells[0], bytes)
    if b"_" in b"".join(cells) if is_bytes else "_" in "".join(cells):  # Python takes 1_000 for a number
        return None
    try:
        return np.array(list(map(float, cells)), dtype=np.float64)
    except ValueError:
        return None
