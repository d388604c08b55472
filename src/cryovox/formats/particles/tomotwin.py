"""Picks of TomoTwin (.tloc): a pickled table of pandas, read without running code of the file.

Only the classes and functions that such a table needs are recognized, and each is replaced by a function of
this module that builds plain arrays; any other name in the file is an error.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.formats import read_bytes, stem
from cryovox.formats.particles.column_format import ColumnFormat, Parsed
from cryovox.formats.particles.convention import Convention

CONVENTION = Convention(
    program="TomoTwin",
    extensions=(".tloc",),
    coordinates=("X", "Y", "Z"),
    score="metric_best",
    species="predicted_class_name",
    written=False,
    remark="Read without running the code that a pickle may contain.",
)


def parse(path: Path) -> Parsed:
    """Columns of a table of picks."""
    try:
        table = _Unpickler(io.BytesIO(read_bytes(path))).load()
        columns, attributes = _columns(table)
    except RequestError:
        raise
    except Exception as error:  # a damaged pickle raises errors of any kind
        message = f"is no table of TomoTwin ({type(error).__name__}: {error})"
        raise RequestError(path, message, "check that this is the file you meant") from None
    if "predicted_class" in columns and CONVENTION.species not in columns:
        files = [stem(str(name)) for name in attributes.get("references", [])]
        columns[CONVENTION.species] = [
            files[int(i)] if 0 <= int(i) < len(files) else f"class{int(i)}"
            for i in columns["predicted_class"]
        ]
    return Parsed(columns)


class _Record:
    """Stands for an object of pandas: arguments and state, nothing that runs."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _dtype(name: Any, *_: Any) -> _Dtype:
    if not isinstance(name, str) or name[:1] not in "fiubO":
        raise ValueError(f"data type {name!r}")
    return _Dtype(name)


class _Dtype:
    """A numpy data type of numbers, or of objects ("O8")."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        self.name = (state[1] if state[1] in "<>" else "") + self.name

    @property
    def plain(self) -> np.dtype[Any]:
        return np.dtype("O") if "O" in self.name else np.dtype(self.name)


class _Array:
    """An array that is described first and filled by its state, as numpy pickles it."""

    values: NDArray[Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        flat = np.array(data, dtype="O") if dtype.plain == "O" else np.frombuffer(data, dtype=dtype.plain)
        self.values = flat.reshape(shape, order="F" if fortran else "C")


def _from_buffer(data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str, *_: Any) -> NDArray[Any]:
    return np.frombuffer(data, dtype=dtype.plain).reshape(shape, order="F" if order == "F" else "C")


def _array(*_: Any) -> _Array:
    return _Array()


def _axis(_: Any, state: dict[str, Any]) -> Any:
    return state.get("data", range(int(state.get("start") or 0), int(state.get("stop") or 0)))


KNOWN: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("pandas.core.frame", "DataFrame"): _Record,
    ("pandas.core.internals.managers", "BlockManager"): _Record,
    ("pandas._libs.internals", "_unpickle_block"): _Record,
    ("pandas.core.indexes.base", "_new_Index"): _axis,
    ("pandas", "DataFrame"): _Record,
    ("pandas", "Index"): _Record,
    ("pandas", "RangeIndex"): _Record,
    ("pandas.core.indexes.base", "Index"): _Record,
    ("pandas.core.indexes.range", "RangeIndex"): _Record,
    ("pandas.core.indexes.numeric", "Int64Index"): _Record,
    ("builtins", "slice"): slice,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _Record,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("numeric", "_frombuffer", _from_buffer),
            ("multiarray", "_reconstruct", _array),
        )
    },
}
"""Names in a pickled table, and what stands for them here."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise ValueError(f"it names {module}.{name}, which is not part of a table")
        return KNOWN[(module, name)]


def _columns(table: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns and attributes of an unpickled table."""
    manager = table.state["_mgr"]
    blocks, axes = manager.arguments[0], manager.arguments[1]
    names = [str(name) for name in _plain(axes[0])]
    columns: dict[str, Any] = {}
    for block in blocks:
        values, placement = block.arguments[:2]
        rows = range(len(names))[placement] if isinstance(placement, slice) else _plain(placement)
        for row, column in zip(rows, _plain(values), strict=True):
            columns[names[int(row)]] = column
    return {name: columns[name] for name in names}, table.state.get("attrs") or {}


def _plain(values: Any) -> Any:
    return values.values if isinstance(values, _Array) else values


FORMAT = ColumnFormat(CONVENTION, parse)
