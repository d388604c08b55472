"""Points of the CryoET Data Portal (.ndjson): one JSON object a line, in voxels.

Types are `point`, `orientedPoint` with a rotation matrix and `instancePoint`
(https://chanzuckerberg.github.io/cryoet-data-portal). The species is in the file name,
`OBJECT-VERSION_SHAPE.ndjson`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.formats import read_text, stem
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows
from cryovox.formats.particles.convention import Columns, Convention

FILE = re.compile(r"(.+)-\d+(\.\d+)?_(point|orientedpoint|instancepoint|instanceseg)", re.IGNORECASE)
ROTATION, SPECIES, SCORE, INSTANCE = "xyz_rotation_matrix", "species", "score", "instance_id"

CONVENTION = Convention(
    program="CryoET Data Portal",
    extensions=(".ndjson",),
    coordinates=("location.x", "location.y", "location.z"),
    eulers="matrix",
    angles=(ROTATION,),
    score=SCORE,
    species=SPECIES,
    single=("tomogram",),
    remark="The portal itself stores no score, and the species in the file name only.",
)


def parse(path: Path) -> Parsed:
    """Columns of the points of a file."""
    try:
        points = [json.loads(line) for line in read_text(path).splitlines() if line.strip()]
        columns: Columns = {
            f"location.{axis}": [point["location"][axis] for point in points] for axis in "xyz"
        }
        for name in (SCORE, SPECIES, INSTANCE, ROTATION):
            if points and all(name in point for point in points):
                columns[name] = [point[name] for point in points]
        if ROTATION in columns and np.array(columns[ROTATION], dtype=np.float64).shape[1:] != (3, 3):
            raise ValueError(f"{ROTATION} is not 3 x 3")
    except (KeyError, TypeError, ValueError) as error:
        message = f"holds no points of the CryoET Data Portal ({type(error).__name__}: {error})"
        raise RequestError(path, message, "check that this is the file you meant") from None
    match = FILE.fullmatch(stem(path)) or FILE.fullmatch(path.name.removesuffix(".ndjson"))
    return Parsed(columns, species=match[1] if match else None)


def render(rows: Rows) -> str:
    """Text of a file; points are oriented if there are rotations."""
    xyz = np.stack([rows.columns[name] for name in CONVENTION.coordinates], axis=1).tolist()
    rotations = rows.columns.get(ROTATION)
    lines = []
    for i, place in enumerate(xyz):
        point: dict[str, Any] = {"type": "point" if rotations is None else "orientedPoint"}
        point["location"] = dict(zip("xyz", place, strict=True))
        if rotations is not None:
            point[ROTATION] = rotations[i].tolist()
        if INSTANCE in rows.columns:
            point[INSTANCE] = int(rows.columns[INSTANCE][i])
        point |= {SCORE: float(rows.columns[SCORE][i]), SPECIES: str(rows.columns[SPECIES][i])}
        lines.append(json.dumps(point) + "\n")
    return "".join(lines)


FORMAT = ColumnFormat(CONVENTION, parse, render)
