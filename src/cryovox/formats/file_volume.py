"""Volumes in files without compression, whose slices are read when they are selected.

The pages of a memory map are read by the system. When the file was cut meanwhile, or its disk or share does
not answer, the system ends the process. Slices are therefore read by the process itself, which gets an error;
all other uses, such as ``volume.data.mean()``, go through the memory map.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cryovox.core.errors import RunError

Axes = tuple[int, int, int]
Ranges = list[range]


class FileVolume(np.memmap[Any, np.dtype[Any]]):
    """A memory map (z, y, x) of which slices are arrays that were read from the file."""

    _file: _File | None

    @classmethod
    def open(
        cls, path: Path, dtype: DTypeLike, offset: int, stored: Axes, order: Axes = (0, 1, 2)
    ) -> NDArray[Any]:
        """Open the array that follows *offset* bytes.

        Parameters
        ----------
        stored
            Its shape in the file.
        order
            Axes of the file that are z, y and x.
        """
        mapped = cls(path, dtype, "r", offset=offset, shape=stored)
        if not hasattr(os, "preadv"):  # on Windows
            return mapped.transpose(order)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        volume = mapped.transpose(order)
        volume._file = _File(path, descriptor, offset, mapped.dtype, stored, order)
        weakref.finalize(volume._file, os.close, descriptor)
        return volume

    def __array_finalize__(self, obj: Any) -> None:
        super().__array_finalize__(obj)
        self._file = None  # the slices of a view are others

    def __getitem__(self, key: Any) -> Any:
        ranges = None if self._file is None else _ranges(key, self.shape)
        if self._file is None or ranges is None:
            return np.asarray(self)[key]
        keys = key if isinstance(key, tuple) else (key,)
        inside = tuple(slice(None) if isinstance(k, slice) else 0 for k in keys)
        return self._file.read(ranges)[inside]


@dataclass(frozen=True, eq=False)
class _File:
    """An open file, which stays the same one when another takes its name."""

    path: Path
    descriptor: int
    offset: int
    dtype: np.dtype[Any]
    shape: Axes
    order: Axes

    def read(self, ranges: Ranges) -> NDArray[Any]:
        """Values at the indices z, y and x, which rise."""
        sections, rows, columns = (ranges[self.order.index(axis)] for axis in range(3))
        if rows == range(self.shape[1]) and columns == range(self.shape[2]) and sections.step == 1:
            whole = np.empty((len(sections), *self.shape[1:]), self.dtype)
            self._fill(whole, sections[0], 0)
            return whole.transpose(self.order)
        values = np.empty((len(sections), len(rows), len(columns)), self.dtype)
        buffer = np.empty((rows[-1] + 1 - rows[0], self.shape[2]), self.dtype)
        for section, index in zip(values, sections, strict=True):
            self._fill(buffer, index, rows[0])
            section[:] = buffer[:: rows.step, columns.start : columns.stop : columns.step]
        return values.transpose(self.order)

    def _fill(self, values: NDArray[Any], section: int, row: int) -> None:
        """Read consecutive values into an array, from the first one of a row on."""
        _, rows, columns = self.shape
        start = self.offset + (section * rows + row) * columns * self.dtype.itemsize
        target, done = values.reshape(-1).view(np.uint8).data, 0
        while done < len(target):
            try:
                count = os.preadv(self.descriptor, [target[done:]], start + done)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.path)) from None
            if count == 0:
                size, needed = os.fstat(self.descriptor).st_size, start + len(target)
                message = f"was cut off while it was read: it has {size} bytes now, {needed} were asked for"
                raise RunError(self.path, message, "copy it again, and run the same command again")
            done += count


def _ranges(key: Any, shape: tuple[int, ...]) -> Ranges | None:
    """Indices along each axis; None if the key is not made of whole numbers and rising slices."""
    keys = key if isinstance(key, tuple) else (key,)
    if len(keys) > 3 or not all(isinstance(k, (int, np.integer, slice)) for k in keys):
        return None
    if not any(isinstance(k, slice) for k in (*keys, *[slice(None)] * (3 - len(keys)))):
        return None  # a single value
    ranges = []
    for n, k in zip(shape, (*keys, *[slice(None)] * (3 - len(keys))), strict=True):
        if not isinstance(k, slice):
            if not -n <= k < n:
                return None  # an error, which the array raises
            k = slice(k % n, k % n + 1)
        ranges.append(range(n)[k])
    return ranges if all(len(r) and r.step > 0 for r in ranges) else None
