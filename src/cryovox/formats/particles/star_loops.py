"""Long loops of STAR files, split many rows at a time.

The parser of STAR keeps every cell as an object. A loop of plain cells, without quotes and comments, is cut
out of the text first; the parser then reads the rest of the file, with one placeholder row in its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.formats.particles.cells import columns_of

CHUNK = 1 << 21
"""Bytes that are split at a time."""
HEAD = re.compile(rb"loop_[^\S\n]*\n((?:[^\S\n]*_\S+[^\n]*\n)+)")
STOP = re.compile(rb"^[^\S\n]*(?:_|#|data_|loop_|save_|stop_|global_)", re.IGNORECASE | re.MULTILINE)
TAG = re.compile(rb"^[^\S\n]*(_\S+)", re.MULTILINE)
STOP_FIRST = re.compile(rb"\n[^\S\n]*[_#dlsg]", re.IGNORECASE)
"""Beginning of a line that may end a loop; much faster to find than `STOP`."""
RESERVED = re.compile(rb"_|data_|loop_|save_|stop_|global_", re.IGNORECASE)
"""Beginnings of cells that are no values."""
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
    if len(set(tags)) < len(tags):
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
        spans.append((match[1], match.end(), _end(data, match.end())))
    return spans


def _end(data: bytes, start: int) -> int:
    """First byte behind the rows that start at a line."""
    if STOP.match(data, start):
        return start
    for line in STOP_FIRST.finditer(data, start - 1):
        if STOP.match(data, line.start() + 1):
            return line.start() + 1
    return len(data)


def _columns(
    data: bytes, start: int, stop: int, tags: tuple[str, ...], numbers: Collection[str]
) -> tuple[NDArray[Any], ...] | None:
    """All columns; None if a cell is not plain, a row is incomplete or a number is none."""
    columns = columns_of(_chunks(data, start, stop), tags, numbers, None)
    return None if columns is None or any(map(_has_reserved, columns)) else columns


def _chunks(data: bytes, start: int, stop: int) -> Iterator[bytes | None]:
    """Text of many rows; None for rows that are not plain."""
    while start < stop:
        end = data.find(b"\n", min(start + CHUNK, stop - 1), stop) + 1 or stop
        text = data[start:end]
        yield None if text.translate(None, PLAIN) else text
        start = end


def _has_reserved(column: NDArray[Any]) -> bool:
    """Whether a cell of text starts as a tag or a reserved word."""
    if column.dtype.kind == "f":
        return False
    first = column.view(np.uint8).reshape(len(column), -1)[:, 0]
    suspects = column[np.isin(first, np.frombuffer(b"_dlsgDLSG", np.uint8))]
    return any(map(RESERVED.match, set(suspects.tolist())))
