"""Many cubes that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Stack:
    """(n, z, y, x), of which ``stack[i]``, ``stack[a:b]`` and ``stack[[i, j]]`` make only what they name.

    Attributes
    ----------
    shape : (n, z, y, x)
    dtype
    make
        From an index to a (z, y, x) array.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    make: Callable[[int], NDArray[Any]]
    ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        which = np.arange(len(self))[first]
        if which.ndim == 0:
            return np.asarray(self._one(int(which))[rest])
        cubes = np.empty((len(which), *self.shape[1:]), self.dtype)
        for place, i in enumerate(which):
            cubes[place] = self._one(int(i))
        return cubes[(slice(None), *rest)]

    def _one(self, i: int) -> NDArray[Any]:
        return np.asarray(self.make(i), dtype=self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("cubes are always made anew")
        return self[:].astype(dtype or self.dtype, copy=False)
