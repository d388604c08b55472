"""Long loops of STAR files, split many rows at a time.

The parser of STAR keeps every cell as an object. A loop of plain cells, without quotes and comments, is cut
out of the text first; the parser then reads the rest of the file, with one placeholder row in its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 21
"""Bytes that are split at a time."""
HEAD = re.compile(rb"loop_[^\S\n]*\n((?:[^\S\n]*_\S+[^\n]*\n)+)")
STOP = re.compile(rb"^[^\S\n]*(?:_|#|data_|loop_|save_|stop_|global_)", re.IGNORECASE | re.MULTILINE)
TAG = re.compile(rb"^[^\S\n]*(_\S+)", re.MULTILINE)
RESERVED = re.compile(rb"\s(?:_|data_|loop_|save_|stop_|global_)", re.IGNORECASE)
PLAIN = bytes(set(range(33, 127)) - set(b"\"'#$;[]")) + b" \t\r\n"
"""Characters of loops that are read here."""
PLACEHOLDER = "cryovox-loop"


@dataclass(frozen=True)
class Loop:
    """A loop that was cut out.

    Attributes
    ----------
    tags
        Tags without underscore.
    columns
        Columns: floating-point numbers, or text as bytes.
    """

    tags: tuple[str, ...]
    columns: tuple[NDArray[Any], ...]


def cut(data: bytes, numbers: Collection[str], shortest: int = 1 << 10) -> tuple[bytes, Loop | None]:
    """The file with a placeholder row instead of its longest loop, and that loop; None if it is not plain.

    Parameters
    ----------
    data
        Contents of the file.
    numbers
        Tags of columns that become numbers.
    shortest
        Loops with fewer bytes are left.
    """
    found = max(_bodies(data), key=lambda span: span[2] - span[1], default=None)
    if found is None or found[2] - found[1] < shortest:
        return data, None
    head, start, stop = found
    tags = tuple(tag.decode("ascii", "replace").lstrip("_") for tag in TAG.findall(head))
    if RESERVED.search(data, start - 1, stop) or len(set(tags)) < len(tags):
        return data, None
    columns = _columns(data, start, stop, tags, numbers)
    if columns is None:
        return data, None
    row = b" ".join([PLACEHOLDER.encode()] * len(tags)) + b"\n"
    return data[:start] + row + data[stop:], Loop(tags, columns)


def _bodies(data: bytes) -> list[tuple[bytes, int, int]]:
    """Header, first and last byte of all loops."""
    spans = []
    for match in HEAD.finditer(data):
        end = STOP.search(data, match.end())
        spans.append((match[1], match.end(), len(data) if end is None else end.start()))
    return spans


def _columns(
    data: bytes, start: int, stop: int, tags: tuple[str, ...], numbers: Collection[str]
) -> tuple[NDArray[Any], ...] | None:
    """All columns; None if a cell is not plain, a row is incomplete or a number is none."""
    parts: list[list[NDArray[Any]]] = [[] for _ in tags]
    while start < stop:
        end = data.find(b"\n", min(start + CHUNK, stop - 1), stop) + 1 or stop
        text = data[start:end]
        cells = text.split()
        if text.translate(None, PLAIN) or len(cells) % len(tags):
            return None
        for i, tag in enumerate(tags):
            column = cells[i :: len(tags)]
            values = as_numbers(column) if tag in numbers else np.array(column, dtype=np.bytes_)
            if values is None:
                return None
            parts[i].append(values)
        start = end
    return tuple(np.concatenate(values) for values in parts)


def as_numbers(cells: list[bytes]) -> NDArray[np.float64] | None:
    """Cells as numbers; None if one of them is none."""
    if b"_" in b"".join(cells):  # Python takes 1_000 for a number
        return None
    try:
        return np.array(list(map(float, cells)), dtype=np.float64)
    except ValueError:
        return None
