"""The command line of this process, which manifests record."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Invocation:
    """A command and the folder in which it was started.

    Attributes
    ----------
    words
        The command line after `cryovox`.
    folder
        Working directory, to which paths are relative.
    """

    words: tuple[str, ...]
    folder: str

    @property
    def id(self) -> str:
        """Short name in a manifest."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:8]

    def to_dict(self) -> dict[str, Any]:
        return {"words": list(self.words), "folder": self.folder}


_current: list[Invocation] = []


def record(words: list[str]) -> None:
    """Remember the command that runs now."""
    _current[:] = [Invocation(tuple(words), os.getcwd())]


def forget() -> None:
    """The command has ended."""
    _current.clear()


def current() -> Invocation | None:
    """The command that runs now; None where the package is used from Python."""
    return _current[0] if _current else None


def use(invocation: Invocation | None) -> None:
    """Work for a command of another process."""
    _current[:] = [] if invocation is None else [invocation]
