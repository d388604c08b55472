"""Object lists of DeepFinder (.xml), also used by RobPicker and the Scipion plugin.

The angles phi, psi and the are those of the TOM toolbox (https://deepfinder.readthedocs.io).
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from cryovox.core.errors import RequestError
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows, cell
from cryovox.formats.particles.convention import Convention
from cryovox.formats.particles.xml_rows import columns_of_rows, parsed, text_of

CONVENTION = Convention(
    program="DeepFinder",
    extensions=(".xml",),
    eulers="ZXZ",
    angles=("psi", "the", "phi"),
    score="score",
    tomogram="tomo_idx",
    species="class_label",
    numbers="written",
    remark="DeepFinder itself writes whole voxels and no score; its cluster_size is kept.",
)


def parse(path: Path) -> Parsed:
    """Columns of an object list."""
    root = parsed(path)
    if root.tag != "objlist":
        message = f"holds <{root.tag}>, not <objlist> or <ParticleList>"
        raise RequestError(path, message, "name an object list of DeepFinder or a particle list of PyTom")
    return Parsed(columns_of_rows([dict(element.attrib) for element in root.iter("object")], CONVENTION))


def render(rows: Rows) -> str:
    """Text of an object list."""
    root = ElementTree.Element("objlist")
    tags = [name.replace(" ", "_") for name in rows.columns]
    for row in zip(*rows.columns.values(), strict=True):
        ElementTree.SubElement(root, "object", dict(zip(tags, map(cell, row), strict=True)))
    return text_of(root, declaration=True)


FORMAT = ColumnFormat(CONVENTION, parse, render)
