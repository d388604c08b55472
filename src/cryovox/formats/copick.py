"""Picks of copick projects: one JSON file per species, with positions in Å.

Only positions are read: the meaning of the matrix of a point depends on the program that wrote it (it is the
identity in the CZII challenge).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, concatenate
from cryovox.formats import read_text


def read(path: Path) -> Particles:
    """Read one file of picks, or all files of a folder (`Picks`).

    Returns
    -------
    Particles
        The species is the `pickable_object_name` of each file.
    """
    if not path.is_dir():
        return _file(path)
    files = sorted(p for p in path.glob("*.json") if not p.name.startswith("."))
    if not files:
        raise RequestError(path, "holds no picks (NAME.json)", "name a folder Picks of a copick project")
    return concatenate(_file(file) for file in files)


def _file(path: Path) -> Particles:
    try:
        picks = json.loads(read_text(path))
        name = str(picks["pickable_object_name"])
        unit = str(picks.get("unit") or "angstrom").lower()
        positions = [[float(point["location"][axis]) for axis in "zyx"] for point in picks["points"] or ()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"holds no picks of copick ({type(error).__name__}: {error})"
        raise RequestError(path, message, "name a JSON file of a folder Picks") from None
    if unit != "angstrom":
        raise RequestError(path, f"counts in {unit}", "give picks in angstrom")
    if not np.isfinite(positions).all():
        raise RequestError(path, "holds positions that are not finite", "correct the file")
    return Particles.of(np.array(positions).reshape(-1, 3), name)
