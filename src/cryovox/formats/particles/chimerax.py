"""Marker sets of ChimeraX (.cmm): XML with positions in Å; one marker set a species.

See https://www.rbvi.ucsf.edu/chimerax/docs/user/markers.html. Coordinates are those of a volume whose first
voxel lies at 0; a volume with another origin is moved by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows, cell
from cryovox.formats.particles.convention import Convention
from cryovox.formats.particles.xml_rows import columns_of_rows, parsed, text_of

COLORS = (
    (0.9, 0.3, 0.3),
    (0.3, 0.7, 0.3),
    (0.3, 0.4, 0.9),
    (0.9, 0.7, 0.2),
    (0.6, 0.3, 0.8),
    (0.2, 0.7, 0.8),
)
RADIUS = 50.0
SET, MARKER = "marker_set", "marker"

CONVENTION = Convention(
    program="ChimeraX",
    extensions=(".cmm",),
    unit="Å",
    score="note",
    species=SET,
    single=("tomogram",),
    remark="Open it with `open picks.cmm`. Angles and tomograms are not stored; notes hold scores.",
)


def parse(path: Path) -> Parsed:
    """Columns of markers."""
    root = parsed(path)
    if root.tag not in (SET, f"{SET}s"):
        raise RequestError(path, f"holds <{root.tag}>, not <{SET}>", "check that this is the file you meant")
    columns = columns_of_rows(sorted(_markers(root), key=_number), CONVENTION)
    columns.pop("id", None)
    if not all(_is_number(note) for note in columns.get("note", [])):
        columns["text"] = columns.pop("note")
    return Parsed(columns)


def render(rows: Rows) -> str:
    """Text of marker sets."""
    n, columns, species = len(rows), rows.columns, rows.particles.species.tolist()
    kinds = list(dict.fromkeys(species))
    root = ElementTree.Element(f"{SET}s")
    sets = {kind: ElementTree.SubElement(root, SET, name=kind) for kind in kinds}
    radii = np.broadcast_to(columns.get("radius", RADIUS), n)
    for i, kind in enumerate(species):
        color = dict(zip("rgb", map(str, COLORS[kinds.index(kind) % len(COLORS)]), strict=True))
        values = {name: cell(float(columns[name][i])) for name in ("x", "y", "z")}
        drawn = {"radius": cell(float(radii[i])), "note": cell(float(columns["note"][i]))}
        ElementTree.SubElement(sets[kind], MARKER, {"id": str(i + 1)} | values | color | drawn)
    return text_of(root)


def _markers(root: ElementTree.Element) -> Iterator[dict[str, str]]:
    for group in root.iter(SET):
        for marker in group.iter(MARKER):
            kept = {name: value for name, value in marker.attrib.items() if name not in "rgb"}
            yield kept | {SET: group.get("name") or "particle"}


def _number(row: dict[str, str]) -> int:
    """Number of a marker, so that particles keep their order whatever their species."""
    return int(row.get("id", 0)) if row.get("id", "0").isdigit() else 0


def _is_number(text: object) -> bool:
    try:
        return bool(np.isfinite(float(str(text))))
    except ValueError:
        return False


FORMAT = ColumnFormat(CONVENTION, parse, render)
