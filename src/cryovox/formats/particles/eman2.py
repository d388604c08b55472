"""Info files of EMAN2 tomograms (`info/NAME_info.json`) with `boxes_3d`.

With `apix_unbin`, boxes are relative to the center of the tomogram, voxel n // 2, in pixels of this size
(`SaveJson` of https://github.com/cryoem/eman2/blob/master/programs/e2spt_boxer.py); without it, they are in
voxels from the first one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.formats import read_text
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows
from cryovox.formats.particles.convention import Columns, Convention

BOXES, CLASSES, SIZE = "boxes_3d", "class_list", "apix_unbin"
FIELDS = ("x", "y", "z", "method", "score", "class")
BOX_SIZE = 32

CONVENTION = Convention(
    program="EMAN2",
    extensions=(".json",),
    origin="center",
    center="n // 2",
    score="score",
    species="class",
    pixel_size=SIZE,
    single=("tomogram",),
    remark="Files without apix_unbin count from the first voxel. Angles and tomograms are not stored.",
)


def recognizes(text: str) -> bool:
    """Whether the text of a JSON file is an info file with boxes."""
    return f'"{BOXES}"' in text


def parse(path: Path) -> Parsed:
    """Columns of the boxes of an info file."""
    try:
        info = json.loads(read_text(path))
        boxes = [[*box, *("manual", 1.0, 0)[len(box) - 3 :]][:6] for box in info[BOXES]]
        named = {int(key): str(kind["name"]) for key, kind in info.get(CLASSES, {}).items()}
        size = float(info.get(SIZE, 0.0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"holds no boxes_3d of EMAN2 ({type(error).__name__}: {error})"
        raise RequestError(path, message, "check that this is the file you meant") from None
    columns = {name: [box[i] for box in boxes] for i, name in enumerate(FIELDS)}
    columns["class"] = [named.get(int(number), f"class{int(number)}") for number in columns["class"]]
    columns[SIZE] = [size] * len(boxes)
    return Parsed(columns, CONVENTION if size > 0 else replace(CONVENTION, origin="voxel"))


def render(rows: Rows) -> str:
    """Text of an info file with boxes only."""
    columns: Columns = {"method": np.full(len(rows), "cryovox")} | rows.columns
    kinds = list(dict.fromkeys(rows.particles.species.tolist()))
    columns["class"] = [kinds.index(kind) for kind in columns["class"]]
    boxes = zip(*(np.asarray(columns[name]).tolist() for name in FIELDS), strict=True)
    info = {
        SIZE: float(np.ravel(columns[SIZE])[0]) if len(rows) else 1.0,
        BOXES: [list(box) for box in boxes],
        CLASSES: {str(i): {"name": kind, "boxsize": BOX_SIZE} for i, kind in enumerate(kinds)},
    }
    return json.dumps(info, indent=1) + "\n"


FORMAT = ColumnFormat(CONVENTION, parse, render, recognizes)
