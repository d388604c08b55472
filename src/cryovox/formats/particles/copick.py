"""Picks of copick projects: one JSON file per species and tomogram, with positions in Å.

The matrix of a point turns the object into the tomogram, and its last column is a shift that is added to the
location (`CopickPoint` of https://github.com/copick/copick). Programs that repeat the location in this column
mean no shift.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, concatenate
from cryovox.formats import read_text
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows
from cryovox.formats.particles.convention import Columns, Convention

ROTATION, SHIFT, INSTANCE = "transformation_", ("shift.x", "shift.y", "shift.z"), "instance_id"
HEAD = {"user_id": "cryovox", "session_id": "0"}
KEPT = ("user_id", "session_id", "voxel_spacing", "trust_orientation")
"""Metadata of a file that is written back."""

CONVENTION = Convention(
    program="copick",
    extensions=(".json",),
    coordinates=("location.x", "location.y", "location.z"),
    unit="Å",
    shifts=SHIFT,
    eulers="matrix",
    angles=(ROTATION,),
    score="score",
    tomogram="run_name",
    species="pickable_object_name",
    single=("species", "tomogram"),
    remark="One species and one tomogram a file. Identity matrices at all points mean no orientation.",
)


def read_picks(path: Path) -> Particles:
    """Read a file, or all files of a folder without poses, which only some of them may have."""
    if not path.is_dir():
        return FORMAT.read(path)
    files = sorted(p for p in path.glob("*.json") if not p.name.startswith("."))
    if not files:
        raise RequestError(path, "holds no picks (NAME.json)", "name a folder Picks of a copick project")
    lists = [FORMAT.read(file) for file in files]
    return concatenate(replace(p, tomograms=None, rotations=None, extra={}, metadata={}) for p in lists)


def parse(path: Path) -> Parsed:
    """Columns of the points of a file."""
    try:
        picks = json.loads(read_text(path))
        name = str(picks["pickable_object_name"])
        unit = str(picks.get("unit") or "angstrom").lower()
        columns = _columns(picks["points"] or [])
        run = picks.get("run_name")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"holds no picks of copick ({type(error).__name__}: {error})"
        raise RequestError(path, message, "name a JSON file of a folder Picks") from None
    if unit != "angstrom":
        raise RequestError(path, f"counts in {unit}", "give picks in angstrom")
    n = len(columns["score"])
    columns |= {"pickable_object_name": [name] * n} | ({"run_name": [str(run)] * n} if run else {})
    kept = {key: [str(picks[key])] for key in KEPT if picks.get(key) is not None}
    return Parsed(columns, metadata={"copick": kept} if kept else {})


def _columns(points: list[Any]) -> Columns:
    xyz = np.array([[float(point["location"][axis]) for axis in "xyz"] for point in points]).reshape(-1, 3)
    matrices = np.array([_matrix(point) for point in points]).reshape(-1, 4, 4)
    shifts = matrices[:, :3, 3] * ~np.isclose(matrices[:, :3, 3], xyz).all(axis=1, keepdims=True)
    columns: Columns = dict(zip((*CONVENTION.coordinates, *SHIFT), [*xyz.T, *shifts.T], strict=True))
    columns["score"] = [1.0 if point.get("score") is None else float(point["score"]) for point in points]
    if not np.allclose(matrices[:, :3, :3], np.eye(3), atol=1e-9):
        columns[ROTATION] = matrices[:, :3, :3]
    instances = [int(point.get(INSTANCE) or 0) for point in points]
    return columns | ({INSTANCE: np.array(instances)} if any(instances) else {})


def _matrix(point: Any) -> list[list[float]]:
    matrix = point.get(ROTATION)
    return np.eye(4).tolist() if matrix is None else [[float(v) for v in row] for row in matrix]


def render(rows: Rows) -> str:
    """Text of a file, without shifts."""
    n, columns = len(rows), rows.columns
    matrices = np.tile(np.eye(4), (n, 1, 1))
    matrices[:, :3, :3] = columns.get(ROTATION, np.eye(3))
    xyz = np.stack([columns[name] for name in CONVENTION.coordinates], axis=1)
    instances = np.asarray(columns.get(INSTANCE, np.zeros(n)), dtype=np.float64).astype(np.int64)
    scores = np.asarray(columns["score"], dtype=np.float64)
    points = [
        {"location": dict(zip("xyz", place, strict=True)), ROTATION: m, INSTANCE: instance, "score": score}
        for place, m, instance, score in zip(
            xyz.tolist(), matrices.tolist(), instances.tolist(), scores.tolist(), strict=True
        )
    ]
    metadata = rows.particles.metadata.get("copick", {})
    kept: dict[str, Any] = HEAD | {key: values[0] for key, values in metadata.items() if key in KEPT}
    if "voxel_spacing" in kept:
        kept["voxel_spacing"] = float(kept["voxel_spacing"])
    kept["trust_orientation"] = ROTATION in columns
    name = str(rows.particles.species[0]) if n else "particle"
    run = str(columns["run_name"][0]) if n and "run_name" in columns else None
    head = {"pickable_object_name": name, "run_name": run, "unit": "angstrom"}
    return json.dumps(head | kept | {"points": points}, indent=1) + "\n"


FORMAT = ColumnFormat(CONVENTION, parse, render)
