"""Tables of named objects, such as networks and file formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any

from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion


class Registry:
    """A table of names whose objects are imported on first use.

    A row is ``name -> "package.module:attribute"``; listing names imports nothing.
    Other packages add rows by declaring an entry point in the group *group*.
    """

    def __init__(self, kind: str, group: str, rows: Mapping[str, str]) -> None:
        self.kind = kind
        self.rows = dict(rows)
        for point in entry_points(group=group):
            self.add(point.name, point.value)

    def add(self, name: str, target: str) -> None:
        """Add a row; names are unique."""
        if name in self.rows:
            raise ValueError(f"{self.kind} {name!r} is {self.rows[name]} already")
        self.rows[name] = target

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.rows))

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def __getitem__(self, name: str) -> Any:
        if name not in self.rows:
            raise RequestError(name, f"no {self.kind} is called {name!r}", suggestion(name, self))
        return resolve_name(self.rows[name])
