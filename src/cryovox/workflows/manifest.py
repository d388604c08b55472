"""The manifest of an output folder: inputs, settings and versions, for repeatable and resumable runs.

Several processes may write into one folder, as the tasks of a job array do. The file is read, changed and
written under a lock, and a process works on a tomogram only while it holds the lock of its name.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock

from cryovox import __version__
from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.core.invocation import current

NAME = "manifest.json"
LOCKS = ".locks"
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
    numbers = {"cryovox": __version__, "python": platform.python_version(), "machine": platform.platform()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            numbers[name] = version(name)
    return numbers


def stamp(path: Path) -> list[int]:
    """Size and time of the last change of a file, or of all files of a folder: fast to read."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return [len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep other processes from changing a file in the meantime."""
    with _lock(file.parent, file.name):
        yield


def _lock(folder: Path, name: str) -> FileLock:
    locks = folder / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{name}.lock")


class Manifest:
    """`manifest.json` of an output folder: one entry per tomogram, written after each.

    Parameters
    ----------
    folder
        Output folder.
    facts
        What all entries have in common: command, model, options, seed.
    section
        Section of the file for commands that do not continue from the entries of `segment`.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], section: str | None = None) -> None:
        self.path, self.facts, self.section = folder / NAME, facts, section
        self.entries: dict[str, Any] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the entries again, which other processes may have changed."""
        entries = self._part(self._read()).get("entries")
        self.entries = entries if isinstance(entries, dict) else {}

    @property
    def sections(self) -> set[str]:
        """Names of all sections and facts."""
        return set(self._read())

    def check_free(self, files: Mapping[str, Path]) -> None:
        """Refuse inputs whose outputs would replace those of other inputs of the same names.

        The same file may have another path now.
        """
        for name, path in files.items():
            entry = self.entries.get(name)
            if not isinstance(entry, dict) or "input" not in entry.get("key", {}):
                continue
            first = Path(entry["key"]["input"])
            if first != path.resolve() and entry["key"].get("input_sha256") != sha256(path):
                message = f"has the name of {first}, whose outputs are in {self.path.parent}"
                remedy = "rename one of them, choose another --out, or replace the first with --overwrite"
                raise RequestError(path, message, remedy)

    def done(self, name: str, key: dict[str, Any], source: Path | None = None) -> bool:
        """Whether an earlier run finished this input with the same settings, and all outputs exist.

        Parameters
        ----------
        key
            What the outputs depend on, besides the input.
        source
            Input; its contents are read only if its size or time has changed.
        """
        entry = self.entries.get(name)
        if not isinstance(entry, dict):
            return False
        recorded = {k: v for k, v in entry.get("key", {}).items() if k not in ("input", "input_sha256")}
        if recorded != key or not all((self.path.parent / out).exists() for out in entry["outputs"].values()):
            return False
        return source is None or self._is_unchanged(name, entry, source)

    def note(
        self,
        name: str,
        key: dict[str, Any],
        outputs: dict[str, Path],
        seconds: float,
        source: Path | None = None,
        **more: Any,
    ) -> None:
        """Record an entry and write the file; parameters as in :meth:`done`."""
        relative = {kind: str(path.relative_to(self.path.parent)) for kind, path in outputs.items()}
        stamps = {kind: stamp(path) for kind, path in outputs.items()}
        entry: dict[str, Any] = {
            "key": key, "outputs": relative, "stamps": stamps, "seconds": round(seconds, 2), **more,
        }  # fmt: skip
        if source is not None:
            identity = {"input": str(source.resolve()), "input_sha256": sha256(source)}
            entry |= {"key": identity | key, "stamp": stamp(source)}
        self.write({name: entry})

    def write(
        self,
        entries: Mapping[str, Mapping[str, Any]] | None = None,
        prepare: Callable[[dict[str, Any]], None] = lambda part: None,
    ) -> None:
        """Write the facts and entries; an entry without a key is merged into the existing one.

        Parameters
        ----------
        prepare
            Receives the existing section, which it may change or refuse under the lock.
        """
        with locked(self.path):
            whole = self._read()
            part = self._part(whole)
            prepare(part)
            kept = part.get("entries")
            kept = kept if isinstance(kept, dict) else {}
            used = self._record_invocation(whole)
            for name, entry in (entries or {}).items():
                entry = {**entry, **used}
                kept[name] = dict(entry) if "key" in entry else {**kept.get(name, {}), **entry}
            part.update(self.facts)
            if kept:
                part["entries"] = kept
            whole |= {"versions": versions(), "written": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            with replacing(self.path) as beside:
                beside.write_text(json.dumps(whole, indent=1), encoding="utf-8")
        self.entries = kept

    @staticmethod
    def _record_invocation(whole: dict[str, Any]) -> dict[str, str]:
        """Note the command that runs now, and give its name for an entry."""
        invocation = current()
        if invocation is None:
            return {}
        known = whole.get("invocations")
        whole["invocations"] = known if isinstance(known, dict) else {}
        whole["invocations"][invocation.id] = invocation.to_dict()
        return {"invocation": invocation.id}

    def withdraw(self) -> None:
        """Remove the section of a refused request that has no entries."""
        if self.section is None:
            return
        with locked(self.path):
            whole = self._read()
            if whole.get(self.section, {}).get("entries"):
                return
            whole.pop(self.section, None)
            with replacing(self.path) as beside:
                beside.write_text(json.dumps(whole, indent=1), encoding="utf-8")

    def lock(self, name: str) -> FileLock:
        """Lock of an entry: who holds it works on that input."""
        return _lock(self.path.parent, f"{self.section or 'entry'}-{name}")

    def _is_unchanged(self, name: str, entry: dict[str, Any], path: Path) -> bool:
        """Whether an input is unchanged; one that was moved or touched is recorded again, a copy is not."""
        if self._matches_record(entry, path):
            return True
        if entry["key"].get("input_sha256") != sha256(path):
            return False
        first = Path(entry["key"]["input"])
        if first == path.resolve() or not first.exists():
            key = entry["key"] | {"input": str(path.resolve())}
            self.write({name: {**entry, "key": key, "stamp": stamp(path)}})
        return True

    @staticmethod
    def _matches_record(entry: dict[str, Any], path: Path) -> bool:
        is_there = entry["key"].get("input") == str(path.resolve())
        return is_there and bool(entry.get("stamp") == stamp(path))

    def _read(self) -> dict[str, Any]:
        try:
            whole = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return whole if isinstance(whole, dict) else {}

    def _part(self, whole: dict[str, Any]) -> dict[str, Any]:
        """Facts and entries of this section of the file."""
        if self.section is None:
            return whole
        part = whole.get(self.section)
        whole[self.section] = part if isinstance(part, dict) else {}
        own: dict[str, Any] = whole[self.section]
        return own
