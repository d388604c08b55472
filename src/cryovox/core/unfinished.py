"""Results of the parts of a computation in progress, from which it continues after a crash."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import discard, replacing

Arrays = dict[str, NDArray[Any]]
IDENTITY = "identity.json"


@dataclass(frozen=True)
class UnfinishedParts:
    """Arrays by name of the part, one file each, which exist complete or not at all.

    Attributes
    ----------
    folder
        Hidden folder beside the outputs; None keeps nothing.
    prefix
        Beginning of the names of the files.
    facts
        What the arrays depend on besides what :meth:`begin` receives.
    """

    folder: Path | None = None
    prefix: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def beside(cls, output: Path, **facts: Any) -> UnfinishedParts:
        """Those of the computation of an output."""
        return cls(output.with_name(f".{output.stem}.unfinished"), facts=facts)

    def within(self, name: str) -> UnfinishedParts:
        """Parts of a step of the computation."""
        return UnfinishedParts(self.folder, f"{self.prefix}{name}-", self.facts)

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Discard parts that were computed from something else, or with other settings."""
        if self.folder is None:
            return
        known = json.loads(json.dumps({**self.facts, **identity}))
        if _read_json(self.folder / IDENTITY) == known:
            return
        discard(self.folder)
        with replacing(self.folder / IDENTITY) as beside:
            beside.write_text(json.dumps(known), encoding="utf-8")

    def load(self, name: str) -> Arrays | None:
        """Arrays of a part; None if it is not complete."""
        if self.folder is None:
            return None
        try:
            with self._file(name).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # after a loss of power, for example
            return None

    def store(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the arrays of a part."""
        if self.folder is None:
            return
        with replacing(self._file(name)) as beside:
            np.savez(beside, **arrays)  # type: ignore[arg-type]

    def names(self, start: str) -> list[str]:
        """Names of the complete parts that begin so."""
        if self.folder is None:
            return []
        paths = self.folder.glob(f"{self.prefix}{start}*.npz")
        return sorted(path.stem.removeprefix(self.prefix) for path in paths)

    def part(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Arrays of a part, which are computed unless they were before."""
        known = self.load(name)
        if known is None:
            known = compute()
            self.store(name, known)
        return known

    def array(self, name: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """As :meth:`part`, for a single array."""
        return self.part(name, lambda: {"values": compute()})["values"]

    def discard(self) -> None:
        """Remove what is no longer needed once the outputs are recorded."""
        if self.folder is not None:
            discard(self.folder)

    def _file(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.prefix}{name}.npz"


NO_PARTS = UnfinishedParts()
"""Keeps nothing."""


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
