"""Particle lists of PyTom (.xml), https://github.com/SBC-Utrecht/PyTom.

Attributes are columns such as `PickPosition.X`; the wedge of a particle is kept as its XML text.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows, cell
from cryovox.formats.particles.convention import Convention
from cryovox.formats.particles.xml_rows import columns_of_rows, parsed, text_of

PARTS = ("Rotation", "Shift", "PickPosition", "Score", "Class", "InfoGUI")
WEDGE = "Wedge"
DEFAULTS = dict.fromkeys(("Rotation.Z1", "Rotation.Z2", "Rotation.X"), "0")
DEFAULTS |= {
    "Rotation.Paradigm": "ZXZ",
    "PickPosition.Origin": "",
    "PickPosition.Binning": "1",
    "Score.Type": "FLCFScore",
}

CONVENTION = Convention(
    program="PyTom",
    extensions=(".xml",),
    coordinates=("PickPosition.X", "PickPosition.Y", "PickPosition.Z"),
    shifts=("Shift.X", "Shift.Y", "Shift.Z"),
    eulers="ZXZ",
    angles=("Rotation.Z2", "Rotation.X", "Rotation.Z1"),
    score="Score.Value",
    tomogram="PickPosition.Origin",
    species="Class.Name",
    remark="Voxels are those of the tomogram in which particles were picked, whatever the attribute Binning.",
)


def recognizes(text: str) -> bool:
    """Whether the text of an XML file starts as one of PyTom."""
    return "<ParticleList" in text


def parse(path: Path) -> Parsed:
    """Columns of a particle list."""
    return Parsed(columns_of_rows([_row(element) for element in parsed(path).iter("Particle")], CONVENTION))


def render(rows: Rows) -> str:
    """Text of a particle list."""
    n = len(rows)
    files = {"Filename": [f"particle_{i}.em" for i in range(n)]}
    columns = files | {name: [value] * n for name, value in DEFAULTS.items()} | rows.columns
    root = ElementTree.Element("ParticleList")
    for i in range(n):
        _add(root, {name: cell(values[i]) for name, values in columns.items()})
    return text_of(root)


def _row(element: ElementTree.Element) -> dict[str, str]:
    row = dict(element.attrib)
    for part in element:
        if part.tag == WEDGE:
            row[WEDGE] = " ".join(ElementTree.tostring(part, "unicode").split())
        else:
            row |= {f"{part.tag}.{name}": value for name, value in part.attrib.items()}
    return row


def _add(root: ElementTree.Element, row: dict[str, str]) -> None:
    particle = ElementTree.SubElement(root, "Particle", Filename=row["Filename"])
    for part in PARTS:
        prefix = f"{part}."
        values = {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}
        if values:
            ElementTree.SubElement(particle, part, values)
    if WEDGE in row:
        particle.append(ElementTree.fromstring(row[WEDGE]))


FORMAT = ColumnFormat(CONVENTION, parse, render, recognizes)
