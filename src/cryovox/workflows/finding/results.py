"""Scores and picks that an earlier run of `find`, or another process, has written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import read_particles, read_volume, scores
from cryovox.workflows.manifest import stamp
from cryovox.workflows.pick import tomogram_frame


def score_file(out: Path, name: str) -> Path:
    """Where the scores of a tomogram are in the output folder *out*."""
    return out / "scores" / f"{name}.zarr"


def recorded_picks(
    name: str, out: Path, entry: Mapping[str, Any], key: Mapping[str, Any]
) -> Particles | None:
    """Picks that an earlier run made with the same settings, where their file is as it was written."""
    record, stamps = entry.get("particles", {}), entry.get("stamps", {})
    if record.get("key") != json.loads(json.dumps(key)):
        return None
    files = {"particles": record["file"], "labels": entry["outputs"]["labels"]}
    if any(
        not (out / file).exists() or stamps.get(kind) != stamp(out / file) for kind, file in files.items()
    ):
        return None
    return read_picks(name, out, entry)


def read_picks(name: str, out: Path, entry: Mapping[str, Any]) -> Particles | None:
    """Picks of an earlier run or of another process; None where its files are gone."""
    try:
        frame = tomogram_frame(scores.read(score_file(out, name)))
        read_volume(Path(entry["key"]["input"]), entry["voxel_size"])
        return read_particles(out / entry["particles"]["file"], tomogram=frame)
    except (RequestError, OSError):
        return None
