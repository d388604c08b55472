"""Commands of ChimeraX (.cxc) that place markers in Å; one model a species.

Lines are `marker #1 position X,Y,Z radius R color C` and `rename #1 NAME`; other commands are ignored on
reading (https://www.rbvi.ucsf.edu/chimerax/docs/user/commands/marker.html).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.formats import read_text
from cryovox.formats.particles.chimerax import COLORS, RADIUS
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows
from cryovox.formats.particles.convention import Columns, Convention

MARKER = re.compile(
    r"^\s*marker\s+#([\d.]+)\s+position\s+(\S+?),(\S+?),(\S+)(?:.*?\sradius\s+(\S+))?", re.MULTILINE
)
NAME = re.compile(r"^\s*rename\s+#([\d.]+)\s+(?:\"([^\"]*)\"|(\S+))", re.MULTILINE)

CONVENTION = Convention(
    program="ChimeraX commands",
    extensions=(".cxc",),
    unit="Å",
    species="model",
    single=("tomogram",),
    remark="Open it with `open picks.cxc`. Only positions, species and radii are stored.",
)


def parse(path: Path) -> Parsed:
    """Markers of a script."""
    text = read_text(path)
    markers = MARKER.findall(text)
    if not markers and "marker" not in text:
        raise RequestError(path, "holds no markers", "name a script with `marker #1 position X,Y,Z`")
    names = {number: quoted or plain for number, quoted, plain in NAME.findall(text)}
    models, *cells = zip(*markers, strict=True) if markers else [()] * 5
    columns: Columns = dict(zip(("x", "y", "z", "radius"), cells, strict=True))
    if not all(columns["radius"]):
        del columns["radius"]
    return Parsed(columns | {"model": [names.get(model, model) for model in models]})


def render(rows: Rows) -> str:
    """Text of a script."""
    n, columns = len(rows), rows.columns
    kinds = list(dict.fromkeys(columns["model"].tolist()))
    radii = np.broadcast_to(np.asarray(columns.get("radius", RADIUS), dtype=np.float64), n)
    xyz = np.stack([columns[axis] for axis in "xyz"], axis=1)
    lines = ["# markers in Å from the center of the first voxel"]
    for kind, (x, y, z), radius in zip(columns["model"], xyz, radii, strict=True):
        i = kinds.index(str(kind))
        color = ",".join(f"{100 * value:.0f}" for value in COLORS[i % len(COLORS)])
        place = f"{x:.10g},{y:.10g},{z:.10g}"
        lines.append(f"marker #{i + 1} position {place} radius {radius:.10g} color {color}")
    lines += [f'rename #{i} "{kind}"' for i, kind in enumerate(kinds, 1)]
    return "\n".join(lines) + "\n"


FORMAT = ColumnFormat(CONVENTION, parse, render)
