"""Info files of EMAN2 tomograms (`info/NAME_info.json`) with `boxes_3d`.

With `apix_unbin`, boxes are relative to the center of the tomogram, voxel n // 2, in pixels of this size
(`SaveJson` of https://github.com/cryoem/eman2/blob/master/programs/e2spt_boxer.py); without it, they are in
voxels from the first one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import read_text, write_text
from cryovox.formats.particles.convention import Convention, Frame, columns_of, particles_of

BOXES, CLASSES, SIZE = "boxes_3d", "class_list", "apix_unbin"
FIELDS = ("x", "y", "z", "method", "score", "class")
BOX_SIZE = 32

CONVENTION = Convention(
    program="EMAN2",
    extensions=(".json",),
    coordinates=("x", "y", "z"),
    origin="center",
    center="n // 2",
    score="score",
    species="class",
    pixel_size=SIZE,
    remark="Files without apix_unbin count from the first voxel. Angles and tomograms are not stored.",
)


def recognizes(text: str) -> bool:
    """Whether the text of a JSON file is an info file with boxes."""
    return f'"{BOXES}"' in text


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read the boxes; arguments are those of :func:`cryovox.formats.read_particles`."""
    try:
        info = json.loads(read_text(path))
        boxes = [[*box, *("manual", 1.0, 0)[len(box) - 3 :]][:6] for box in info[BOXES]]
        named = {int(key): str(kind["name"]) for key, kind in info.get(CLASSES, {}).items()}
        size = float(info.get(SIZE, 0.0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"holds no boxes_3d of EMAN2 ({type(error).__name__}: {error})"
        raise RequestError(path, message, "check that this is the file you meant") from None
    columns: dict[str, Any] = (
        dict(zip(FIELDS, map(list, zip(*boxes, strict=True)), strict=True)) if boxes else {}
    )
    columns = columns or {name: [] for name in FIELDS}
    columns["class"] = [named.get(int(number), f"class{int(number)}") for number in columns["class"]]
    convention = CONVENTION if size > 0 else replace(CONVENTION, origin="voxel")
    columns[SIZE] = [size] * len(boxes)
    return particles_of(path, columns, convention, tomogram=tomogram, voxel_size=voxel_size, species=species)


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write an info file with boxes only; arguments are those of :func:`cryovox.formats.write_particles`."""
    if particles.tomograms is not None and len(set(particles.tomograms.tolist())) > 1:
        raise RequestError(path, "an info file belongs to one tomogram", "write one file per tomogram")
    columns, _ = columns_of(
        path,
        particles,
        CONVENTION,
        tomogram=tomogram,
        voxel_size=voxel_size,
        tomogram_name=tomogram_name,
    )
    kinds = list(dict.fromkeys(particles.species.tolist()))
    columns["class"] = [kinds.index(kind) for kind in particles.species.tolist()]
    columns.setdefault("method", np.full(len(particles), "cryovox"))
    rows = zip(*(np.asarray(columns[name]).tolist() for name in FIELDS), strict=True)
    size = float(np.ravel(columns[SIZE])[0]) if len(particles) else 1.0
    info = {
        SIZE: size,
        BOXES: [list(row) for row in rows],
        CLASSES: {str(i): {"name": kind, "boxsize": BOX_SIZE} for i, kind in enumerate(kinds)},
    }
    write_text(path, json.dumps(info, indent=1) + "\n")
