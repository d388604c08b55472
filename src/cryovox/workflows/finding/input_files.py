"""Hashes of the files besides the tomogram and the model on which picks depend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cryovox.workflows.manifest import sha256, stamp


def file_records(files: Iterable[Path], entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Stamp and hash of each file; a file that *entry* records with its present stamp is not read again."""
    known, records = entry.get("particles", {}).get("inputs", {}), {}
    for path in files:
        own = known.get(str(path.resolve()), {})
        current = stamp(path)
        digest = own["sha256"] if own.get("stamp") == current else sha256(path)
        records[str(path.resolve())] = {"stamp": current, "sha256": digest}
    return records


def are_recorded(files: Iterable[Path], entry: Mapping[str, Any]) -> bool:
    """Whether picks of a tomogram were made with these files as they are now."""
    known = entry.get("particles", {}).get("inputs", {})
    return all(known.get(str(path.resolve()), {}).get("stamp") == stamp(path) for path in files)
