"""Geometric segmentations of Mol* Volumes (.json): spheres in Å, as at EMPIAR and EMDB."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.formats import read_text
from cryovox.formats.particles.column_format import ColumnFormat, Parsed
from cryovox.formats.particles.convention import Convention

KEY = "shape_primitives_input"

CONVENTION = Convention(
    program="Mol* Volumes",
    extensions=(".json",),
    coordinates=("center.x", "center.y", "center.z"),
    unit="Å",
    species="segmentation_id",
    written=False,
    remark="Spheres only.",
)


def recognizes(text: str) -> bool:
    """Whether the text of a JSON file is a geometric segmentation."""
    return f'"{KEY}"' in text


def parse(path: Path) -> Parsed:
    """Centers and radii of the spheres of a file."""
    try:
        content = json.loads(read_text(path))
        shapes = [shape for shapes in content[KEY].values() for shape in shapes]
        spheres = [shape["parameters"] for shape in shapes if shape["kind"] == "sphere"]
        xyz = np.array([sphere["center"] for sphere in spheres], dtype=np.float64).reshape(-1, 3)
        radii = np.array([sphere["radius"] for sphere in spheres], dtype=np.float64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"holds no spheres ({type(error).__name__}: {error})"
        raise RequestError(path, message, "check that this is the file you meant") from None
    names = [str(content.get("segmentation_id", "particle"))] * len(xyz)
    columns = dict(zip(CONVENTION.coordinates, xyz.T, strict=True))
    return Parsed(columns | {"radius": radii, "segmentation_id": names})


FORMAT = ColumnFormat(CONVENTION, parse, recognizes=recognizes)
