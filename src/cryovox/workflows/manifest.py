"""What was run, on what, with what: the file that makes outputs repeatable and runs resumable."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cryovox import __version__
from cryovox.core.atomic import replacing

NAME = "manifest.json"
LIBRARIES = ("numpy", "scipy", "torch", "monai", "lightning-fabric", "zarr", "mrcfile")


def sha256(path: Path) -> str:
    """Hash of a file, or of the names and contents of the files in a folder."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as handle:
            for block in iter(lambda: handle.read(1 << 22), b""):
                digest.update(block)
    return digest.hexdigest()


def code_hash(package: Path = Path(__file__).parents[1]) -> str:
    """First twelve digits of the hash of all modules of the package."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that results depend on."""
    found = {"cryovox": __version__, "python": platform.python_version(), "machine": platform.platform()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Manifest:
    """`manifest.json` of an output folder: one entry per tomogram, written after each.

    Parameters
    ----------
    folder
        Where the outputs are.
    facts
        What is common to all entries: command, model, options, seed.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.path = folder / NAME
        self.entries: dict[str, Any] = self._earlier()
        self.facts = facts

    def _earlier(self) -> dict[str, Any]:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))["entries"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return entries if isinstance(entries, dict) else {}

    def done(self, name: str, key: dict[str, Any]) -> bool:
        """Whether an earlier run made this from the same input, model and options, and all of it is there."""
        entry = self.entries.get(name)
        if not isinstance(entry, dict) or entry.get("key") != key:
            return False
        return all((self.path.parent / out).exists() for out in entry.get("outputs", {}).values())

    def note(
        self, name: str, key: dict[str, Any], outputs: dict[str, Path], seconds: float, **more: Any
    ) -> None:
        """Record an entry and write the file."""
        relative = {kind: str(path.relative_to(self.path.parent)) for kind, path in outputs.items()}
        self.entries[name] = {"key": key, "outputs": relative, "seconds": round(seconds, 2), **more}
        self.write()

    def write(self) -> None:
        """Write the file, whole or not at all."""
        told = {**self.facts, "versions": versions(), "written": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        with replacing(self.path) as beside:
            beside.write_text(json.dumps({**told, "entries": self.entries}, indent=1), encoding="utf-8")
