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
from cryovox.formats import read_text, write_text
from cryovox.formats.particles import names
from cryovox.formats.particles.convention import Convention, Frame, columns_of

HEAD = {"user_id": "cryovox", "session_id": "0"}
KEPT = ("user_id", "session_id", "voxel_spacing", "trust_orientation")
"""Metadata of a file that is written back."""

CONVENTION = Convention(
    program="copick",
    extensions=(".json",),
    coordinates=("location.x", "location.y", "location.z"),
    unit="Å",
    shifts=("transformation_",),
    eulers="matrix",
    angles=("transformation_",),
    score="score",
    tomogram="run_name",
    species="pickable_object_name",
    remark="One species and one tomogram a file. Identity matrices at all points mean no orientation.",
)


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read one file of picks, or all files of a folder (`Picks`).

    Parameters
    ----------
    path
        JSON file, or folder.
    tomogram
        Not used.
    voxel_size
        An error: picks are in Å.
    species
        Not used; the species is the `pickable_object_name`.
    """
    if voxel_size is not None:
        raise RequestError("--voxel-size", f"{path}: picks of copick are in Å", "leave it out")
    if path.is_dir():
        return _folder(path)
    try:
        picks = json.loads(read_text(path))
        name = str(picks["pickable_object_name"])
        unit = str(picks.get("unit") or "angstrom").lower()
        points = picks["points"] or []
        xyz = np.array([[float(point["location"][axis]) for axis in "xyz"] for point in points]).reshape(
            -1, 3
        )
        matrices = np.array([_matrix(point) for point in points]).reshape(-1, 4, 4)
        scores = [1.0 if point.get("score") is None else float(point["score"]) for point in points]
        instances = [int(point.get("instance_id") or 0) for point in points]
        run = picks.get("run_name")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"holds no picks of copick ({type(error).__name__}: {error})"
        raise RequestError(path, message, "name a JSON file of a folder Picks") from None
    if unit != "angstrom":
        raise RequestError(path, f"counts in {unit}", "give picks in angstrom")
    if not (np.isfinite(xyz).all() and np.isfinite(matrices).all()):
        raise RequestError(path, "holds positions that are not finite", "correct the file")
    shifts = matrices[:, :3, 3] * ~np.isclose(matrices[:, :3, 3], xyz).all(axis=1, keepdims=True)
    rotations = matrices[:, :3, :3]
    turned = bool((~np.isclose(rotations, np.eye(3), atol=1e-9)).any())
    particles = Particles.of(
        (xyz + shifts)[:, ::-1], name, scores, rotations if turned else None, str(run) if run else None
    )
    extra = {"instance_id": np.array(instances)} if any(instances) else {}
    kept = {key: [str(picks[key])] for key in KEPT if picks.get(key) is not None}
    return replace(particles, extra=extra, metadata={"copick": kept} if kept else {})


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write one file of picks in Å, without shifts; lists of several species or tomograms are errors.

    Parameters
    ----------
    path
        JSON file.
    particles
        Particles of one species and tomogram.
    tomogram
        Not used.
    voxel_size
        An error: picks are in Å.
    tomogram_name
        Tomogram of particles that name none.
    """
    if voxel_size is not None:
        raise RequestError("--out-voxel-size", "picks of copick are in Å", "leave it out")
    sources = names.listed(particles, tomogram_name) or [""]
    for what, values in (("species", particles.species.tolist()), ("tomograms", sources)):
        if len(set(values)) > 1:
            listed = ", ".join(sorted(set(values))[:5])
            message = f"copick has one file per species and tomogram, and the list holds {what} {listed}"
            raise RequestError(path, message, "write one file for each")
    columns, _ = columns_of(
        path, particles, replace(CONVENTION, shifts=(), angles=(), tomogram="", species="")
    )
    xyz = np.stack([columns[name] for name in CONVENTION.coordinates], axis=1)
    instances = np.asarray(columns.get("instance_id", np.zeros(len(xyz))), dtype=np.float64)
    eye = np.broadcast_to(np.eye(3), (len(xyz), 3, 3))
    rotations = eye if particles.rotations is None else particles.rotations
    points = [
        {
            "location": dict(zip("xyz", position.tolist(), strict=True)),
            "transformation_": np.block(
                [[turn, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]
            ).tolist(),
            "instance_id": int(instance),
            "score": float(score),
        }
        for position, turn, instance, score in zip(xyz, rotations, instances, particles.scores, strict=True)
    ]
    kept: dict[str, Any] = HEAD | {
        k: v[0] for k, v in particles.metadata.get("copick", {}).items() if k in KEPT
    }
    if "voxel_spacing" in kept:
        kept["voxel_spacing"] = float(kept["voxel_spacing"])
    kept["trust_orientation"] = particles.rotations is not None
    name = str(particles.species[0]) if len(particles) else "particle"
    head = {"pickable_object_name": name, "run_name": sources[0] or None, "unit": "angstrom"}
    write_text(path, json.dumps(head | kept | {"points": points}, indent=1) + "\n")


def _folder(path: Path) -> Particles:
    """Picks of all files of a folder, positions and scores alone, since only some files may have poses."""
    files = sorted(p for p in path.glob("*.json") if not p.name.startswith("."))
    if not files:
        raise RequestError(path, "holds no picks (NAME.json)", "name a folder Picks of a copick project")
    lists = [replace(read(file), tomograms=None, rotations=None, extra={}, metadata={}) for file in files]
    return concatenate(lists)


def _matrix(point: Any) -> list[list[float]]:
    matrix = point.get("transformation_")
    return np.eye(4).tolist() if matrix is None else [[float(v) for v in row] for row in matrix]
