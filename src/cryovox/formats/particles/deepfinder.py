"""Object lists of DeepFinder (.xml), also used by RobPicker and the Scipion plugin.

The angles phi, psi and the are those of the TOM toolbox (https://deepfinder.readthedocs.io).
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import read_bytes, write_text
from cryovox.formats.particles import names
from cryovox.formats.particles.convention import Columns, Convention, Frame, columns_of, particles_of

CONVENTION = Convention(
    program="DeepFinder",
    extensions=(".xml",),
    eulers="ZXZ",
    angles=("psi", "the", "phi"),
    score="score",
    tomogram="tomo_idx",
    species="class_label",
    remark="DeepFinder itself writes whole voxels and no score; its cluster_size is kept.",
)


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read an object list; arguments are those of :func:`cryovox.formats.read_particles`."""
    root = parsed(path)
    if root.tag != "objlist":
        message = f"holds <{root.tag}>, not <objlist> or <ParticleList>"
        raise RequestError(path, message, "name an object list of DeepFinder or a particle list of PyTom")
    columns = columns_of_rows([dict(element.attrib) for element in root.iter("object")], CONVENTION)
    return particles_of(path, columns, CONVENTION, tomogram=tomogram, voxel_size=voxel_size, species=species)


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write an object list; arguments are those of :func:`cryovox.formats.write_particles`."""
    columns, numbered = columns_of(
        path,
        particles,
        CONVENTION,
        tomogram=tomogram,
        voxel_size=voxel_size,
        tomogram_name=tomogram_name,
    )
    if particles.rotations is None:
        columns = {name: values for name, values in columns.items() if name not in CONVENTION.angles}
    root = ElementTree.Element("objlist")
    tags = [name.replace(" ", "_") for name in columns]
    for row in zip(*columns.values(), strict=True):
        ElementTree.SubElement(root, "object", dict(zip(tags, map(cell, row), strict=True)))
    ElementTree.indent(root)
    write_text(path, ElementTree.tostring(root, "unicode", xml_declaration=True) + "\n")
    names.write(path, numbered)


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


def cell(value: object) -> str:
    """Text of a value with ten digits."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)
