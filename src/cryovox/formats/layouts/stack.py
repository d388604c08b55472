"""Lazy stacks of cubes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LazyStack:
    """Stack (n, z, y, x) whose cubes are loaded on access, by index, slice or list of indices.

    Attributes
    ----------
    shape : (n, z, y, x)
    dtype
    load
        Function from an index to a (z, y, x) array.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    load: Callable[[int], NDArray[Any]]
    ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        index = np.arange(len(self))[first]
        if index.ndim == 0:
            return np.asarray(self._cube(int(index))[rest])
        cubes = np.empty((len(index), *self.shape[1:]), self.dtype)
        for row, i in enumerate(index):
            cubes[row] = self._cube(int(i))
        return cubes[(slice(None), *rest)]

    def _cube(self, i: int) -> NDArray[Any]:
        return np.asarray(self.load(i), dtype=self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("cubes are always copied")
        return self[:].astype(dtype or self.dtype, copy=False)
