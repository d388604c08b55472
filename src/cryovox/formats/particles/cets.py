"""Annotations of CETS (.json), the cryo-ET standards: sets of points, also with a rotation matrix each.

A document has regions with tomograms and annotations. Coordinates are in Å in the frame `physical` of the
tomogram, whose origin is voxel n // 2, or at the first voxel if the transform `array_to_physical` of the
tomogram has a scale only; or in voxels, in an array frame. `annotation_to_tomogram` is applied. A matrix
turns the particle into the tomogram. The name of an annotation is the species. Read and written as
https://github.com/TomoBabel/cets-data-models defines it, with the frames of `examples/mock_named_transforms`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import read_text
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows
from cryovox.formats.particles.convention import Columns, Convention
from cryovox.formats.tomogram_names import volume_of

Float = NDArray[np.float64]
KINDS = {"point_set_3D", "point_vector_set_3D", "point_matrix_set_3D"}
MATRIX = "matrix3D"
UNITS = {"angstrom": 1.0, "nanometer": 10.0}

CONVENTION = Convention(
    program="CETS",
    extensions=(".json",),
    unit="Å",
    origin="center",
    center="n // 2",
    eulers="matrix",
    angles=(MATRIX,),
    tomogram="source_tomogram_id",
    species="name",
    numbers="never",
    remark="Point sets of the cryo-ET standards, without a score. Directions alone are no orientation.",
)


@dataclass(frozen=True)
class _Frame:
    """Voxel size and position of the first voxel, as (x, y, z) in Å, in the frame of a tomogram."""

    size: Float
    first: Float


def recognizes(text: str) -> bool:
    """Whether the text of a JSON file is a document of CETS, or a part of one."""
    return '"regions"' in text or '"origin3D"' in text


def parse(path: Path) -> Parsed:
    """Points of all annotations, from the first voxel if the file describes the tomograms."""
    try:
        document = json.loads(read_text(path))
        sets = [_points(note, region) for region in _regions(document) for note in _notes(region)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        message = f"holds no points of CETS ({type(error).__name__}: {error})"
        raise RequestError(path, message, "name a dataset, region or annotation with origin3D") from None
    is_known = {known for known, _ in sets}
    if len(is_known) > 1:
        message = "describes the tomograms of some of its annotations only"
        raise RequestError(path, message, "write the others to a file of their own")
    convention = replace(CONVENTION, origin="voxel") if is_known <= {True} else CONVENTION
    return Parsed(_joined([columns for _, columns in sets]), convention)


def _regions(document: Any) -> list[Any]:
    if "regions" in document:
        return list(document["regions"] or [])
    return [document if "annotations" in document else {"annotations": [document]}]


def _notes(region: Any) -> Iterator[Any]:
    for note in region.get("annotations") or []:
        if note.get("annotation_type", "point_set_3D") in KINDS and note.get("origin3D"):
            yield note


def _points(note: Any, region: Any) -> tuple[bool, Columns]:
    """Whether coordinates are from the first voxel, and the columns of an annotation."""
    xyz = np.array(note["origin3D"], dtype=np.float64).reshape(-1, 3)
    tomogram = _tomogram(note, region)
    frame = None if tomogram is None else _frame(tomogram)
    unit = _unit(note)
    matrix = _folded(_named(note, "annotation_to_tomogram"))
    xyz = xyz @ matrix[:3, :3].T + matrix[:3, 3]
    if unit is None and frame is None:
        raise ValueError("counts in voxels of a tomogram that the file does not describe")
    if frame is not None:
        xyz = xyz * (frame.size if unit is None else unit) - (0.0 if unit is None else frame.first)
    columns: Columns = dict(zip("xyz", (xyz * (unit or 1.0) if frame is None else xyz).T, strict=True))
    n = len(xyz)
    if note.get(MATRIX):
        turns = np.array(note[MATRIX], dtype=np.float64).reshape(n, 3, 3)
        columns[MATRIX] = _rotation(matrix[:3, :3]) @ turns
    columns["name"] = [str(note.get("name") or "particle")] * n
    source = note.get("source_tomogram_id") or (tomogram or {}).get("id")
    return frame is not None, columns | ({"source_tomogram_id": [str(source)] * n} if source else {})


def _tomogram(note: Any, region: Any) -> Any:
    """The tomogram of an annotation, if the region describes it."""
    tomograms = region.get("tomograms") or []
    source = note.get("source_tomogram_id")
    if source is None:
        return tomograms[0] if len(tomograms) == 1 else None
    return next((tomogram for tomogram in tomograms if tomogram.get("id") == source), None)


def _frame(tomogram: Any) -> _Frame | None:
    """Voxel size and first voxel of a tomogram; None if it has no transform from voxels."""
    steps = _named(tomogram, "array_to_physical") or _scales(tomogram)
    if not steps:
        return None
    matrix = _folded(steps)
    size = np.diag(matrix)[:3]
    if not np.allclose(matrix[:3, :3], np.diag(size)) or not (size > 0).all():
        raise ValueError("a tomogram whose axes are turned")
    return _Frame(size, matrix[:3, 3])


def _named(item: Any, name: str) -> list[Any]:
    return [step for step in item.get("coordinate_transformations") or [] if step.get("name") == name]


def _scales(item: Any) -> list[Any]:
    """A single scale of another name, as in documents without canonical names."""
    steps = item.get("coordinate_transformations") or []
    return steps if [step.get("transformation_type") for step in steps] == ["scale"] else []


def _unit(note: Any) -> float | None:
    """Å per unit of an annotation; None for voxels."""
    systems = note.get("coordinate_systems") or []
    units = {
        str(axis.get("axis_unit") or "angstrom").lower() for system in systems[:1] for axis in system["axes"]
    }
    if len(units) != 1:
        raise ValueError("an annotation without the unit of its coordinates")
    unit = units.pop()
    if unit in ("pixel", "voxel", "pixel/voxel"):
        return None
    return UNITS[unit]


def _folded(steps: list[Any]) -> Float:
    """All transforms as one homogeneous matrix (4, 4)."""
    matrix = np.eye(4)
    for step in steps:
        matrix = _step(step) @ matrix
    return matrix


def _step(step: Any) -> Float:
    kind, matrix = step["transformation_type"], np.eye(4)
    if kind == "sequence":
        return _folded(step["sequence"])
    if kind == "translation":
        matrix[:3, 3] = step["translation"]
    elif kind == "scale":
        matrix[:3, :3] = np.diag(np.broadcast_to(step["scale"], 3))
    elif kind == "affine":
        rows = np.array(step["affine"], dtype=np.float64)
        matrix[: len(rows), : rows.shape[1]] = rows
    elif kind != "identity":
        raise ValueError(f"the transform {kind}")
    return matrix


def _rotation(matrix: Float) -> Float:
    """Rotation of a transform, which may scale all axes alike."""
    scale = np.cbrt(np.linalg.det(matrix))
    if not (scale > 0 and np.allclose(matrix @ matrix.T, scale**2 * np.eye(3))):
        raise ValueError("a transform that is no rotation")
    return np.asarray(matrix / scale)


def _joined(sets: list[Columns]) -> Columns:
    """Columns of all annotations; rotations and tomograms if all of them have them."""
    empty: Columns = {name: np.zeros(0) for name in "xyz"} | {"name": []}
    if not sets:
        return empty
    names = set.intersection(*(set(columns) for columns in sets))
    joined: Columns = {}
    for name in names:
        parts = [columns[name] for columns in sets]
        is_text = isinstance(parts[0], list)
        joined[name] = [value for part in parts for value in part] if is_text else np.concatenate(parts)
    return joined


def render(rows: Rows) -> str:
    """Text of a dataset of one region: the tomograms, and an annotation per tomogram and species."""
    sources = rows.columns.get("source_tomogram_id", ["tomogram"] * len(rows))
    groups: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(map(str, sources), map(str, rows.columns["name"]), strict=True)):
        groups.setdefault(key, []).append(i)
    tomograms = [_described(name, rows.tomogram) for name in dict.fromkeys(name for name, _ in groups)]
    notes = [_note(rows, name, species, np.array(index)) for (name, species), index in groups.items()]
    region = {"id": "region", "tomograms": tomograms, "annotations": notes}
    return json.dumps({"name": "cryovox", "regions": [region]}, indent=1) + "\n"


def _note(rows: Rows, tomogram: str, species: str, index: NDArray[np.intp]) -> dict[str, Any]:
    xyz = np.stack([np.asarray(rows.columns[axis], dtype=np.float64)[index] for axis in "xyz"], axis=1)
    turns = rows.columns.get(MATRIX)
    kind = "point_set_3D" if turns is None else "point_matrix_set_3D"
    step = {"transformation_type": "identity", "name": "annotation_to_tomogram"}
    return {
        "id": f"{tomogram}_ann_{species}",
        "annotation_type": kind,
        "name": species,
        "source_tomogram_id": tomogram,
        "coordinate_systems": [_system("physical", "angstrom", "space")],
        "coordinate_transformations": [{**step, "input": "physical", "output": "physical"}],
        "origin3D": np.round(xyz, 6).tolist(),
        **({} if turns is None else {MATRIX: np.asarray(turns)[index].tolist()}),
    }


def _described(name: str, frame: Volume | Mapping[str, Volume] | None) -> dict[str, Any]:
    """A tomogram with its size and frames."""
    volume = frame if isinstance(frame, Volume) else volume_of(Path(name), name, frame or {})
    shape = volume.shape[::-1]
    shift = {"translation": [-float(n // 2) for n in shape]}
    scale = {"scale": [volume.voxel_size] * 3}
    steps = [
        {"transformation_type": "translation", "name": "center_array_origin", **shift},
        {"transformation_type": "scale", "name": "scale_to_physical", **scale},
    ]
    ends = {"input": "array", "output": "physical"}
    chain = {"transformation_type": "sequence", "name": "array_to_physical", **ends, "sequence": steps}
    return {
        "id": name,
        **dict(zip(("width", "height", "depth"), shape, strict=True)),
        "coordinate_systems": [_system("array", "voxel", "array"), _system("physical", "angstrom", "space")],
        "coordinate_transformations": [chain],
    }


def _system(name: str, unit: str, kind: str) -> dict[str, Any]:
    return {"name": name, "axes": [{"name": a, "axis_unit": unit, "axis_type": kind} for a in "xyz"]}


FORMAT = ColumnFormat(CONVENTION, parse, render, recognizes)
