"""Points of the CryoET Data Portal (.ndjson): one JSON object a line, in voxels.

Types are `point`, `orientedPoint` with a rotation matrix and `instancePoint`
(https://chanzuckerberg.github.io/cryoet-data-portal). The species is in the file name,
`OBJECT-VERSION_SHAPE.ndjson`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import read_text, stem, write_text
from cryovox.formats.particles.convention import Convention, Frame, columns_of, particles_of

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
    remark="The portal itself stores no score, and the species in the file name only.",
)


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read points; arguments are those of :func:`cryovox.formats.read_particles`."""
    try:
        points = [json.loads(line) for line in read_text(path).splitlines() if line.strip()]
        columns: dict[str, Any] = {
            f"location.{axis}": [point["location"][axis] for point in points] for axis in "xyz"
        }
        for name in (SCORE, SPECIES, INSTANCE):
            if points and all(name in point for point in points):
                columns[name] = [point[name] for point in points]
        oriented = bool(points) and all(ROTATION in point for point in points)
        turned = np.array([point[ROTATION] for point in points], dtype=np.float64) if oriented else None
        if turned is not None and turned.shape != (len(points), 3, 3):
            raise ValueError(f"{ROTATION} is not 3 x 3")
    except (KeyError, TypeError, ValueError) as error:
        message = f"holds no points of the CryoET Data Portal ({type(error).__name__}: {error})"
        raise RequestError(path, message, "check that this is the file you meant") from None
    match = FILE.fullmatch(stem(path)) or FILE.fullmatch(path.name.removesuffix(".ndjson"))
    kind = species or (match[1] if match else None)
    picks = particles_of(path, columns, CONVENTION, tomogram=tomogram, voxel_size=voxel_size, species=kind)
    return replace(picks, rotations=turned)


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write points, oriented if there are rotations.

    Arguments are those of :func:`cryovox.formats.write_particles`.
    """
    if particles.tomograms is not None and len(set(particles.tomograms.tolist())) > 1:
        raise RequestError(path, "an annotation belongs to one tomogram", "write one file per tomogram")
    unnamed = replace(CONVENTION, angles=(), species="")
    columns, _ = columns_of(path, particles, unnamed, tomogram=tomogram, voxel_size=voxel_size)
    xyz = np.stack([columns[name] for name in CONVENTION.coordinates], axis=1)
    lines = []
    for i, position in enumerate(xyz):
        point: dict[str, Any] = {"type": "point" if particles.rotations is None else "orientedPoint"}
        point["location"] = dict(zip("xyz", position.tolist(), strict=True))
        if particles.rotations is not None:
            point[ROTATION] = particles.rotations[i].tolist()
        if INSTANCE in columns:
            point[INSTANCE] = int(columns[INSTANCE][i])
        point |= {SCORE: float(particles.scores[i]), SPECIES: str(particles.species[i])}
        lines.append(json.dumps(point))
    write_text(path, "".join(f"{line}\n" for line in lines))
