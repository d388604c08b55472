"""Picks of copick projects: JSON files of one kind of particle each, with places in Å.

Only the places are taken: what the matrix of a point means depends on who wrote it (that of the CZII
challenge is the identity throughout).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, concatenate
from cryovox.formats import read_text


def read(path: Path) -> Particles:
    """Read a file of picks, or all of a folder (`Picks`).

    Returns
    -------
    Particles
        Species are the `pickable_object_name` of the files.
    """
    if not path.is_dir():
        return _file(path)
    files = sorted(p for p in path.glob("*.json") if not p.name.startswith("."))
    if not files:
        raise RequestError(path, "holds no picks (NAME.json)", "name a folder Picks of a copick project")
    return concatenate(_file(file) for file in files)


def _file(path: Path) -> Particles:
    try:
        found = json.loads(read_text(path))
        name = str(found["pickable_object_name"])
        unit = str(found.get("unit") or "angstrom").lower()
        places = [[float(point["location"][axis]) for axis in "zyx"] for point in found["points"] or ()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        told = f"holds no picks of copick ({type(error).__name__}: {error})"
        raise RequestError(path, told, "name a JSON file of a folder Picks") from None
    if unit != "angstrom":
        raise RequestError(path, f"counts in {unit}", "give picks in angstrom")
    if not np.isfinite(places).all():
        raise RequestError(path, "holds places that are not finite", "mend the file")
    return Particles.of(np.array(places).reshape(-1, 3), name)
