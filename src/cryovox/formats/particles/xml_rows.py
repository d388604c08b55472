"""Rows of particles in XML files, as attributes of elements."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from cryovox.core.errors import RequestError
from cryovox.formats import read_bytes
from cryovox.formats.particles.convention import Columns, Convention


def parsed(path: Path) -> ElementTree.Element:
    """The root of an XML file."""
    try:
        return ElementTree.fromstring(read_bytes(path))
    except ElementTree.ParseError as error:
        message = f"is not an XML file ({error})"
        raise RequestError(path, message, "check that this is the file you meant") from None


def columns_of_rows(rows: list[dict[str, str]], convention: Convention) -> Columns:
    """Columns from rows of attributes; attributes that some rows lack are left out."""
    if not rows:
        return {name: [] for name in convention.coordinates}
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: [row[name] for row in rows] for name in shared}


def text_of(root: ElementTree.Element, declaration: bool = False) -> str:
    """The text of a file with this root."""
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode", xml_declaration=declaration) + "\n"
