"""Particle lists of PyTom (.xml), https://github.com/SBC-Utrecht/PyTom.

Attributes are columns such as `PickPosition.X`; the wedge of a particle is kept as its XML text.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from cryovox.core.particles import Particles
from cryovox.formats import write_text
from cryovox.formats.particles.convention import Convention, Frame, columns_of, particles_of
from cryovox.formats.particles.deepfinder import cell, columns_of_rows, parsed

PARTS = ("Rotation", "Shift", "PickPosition", "Score", "Class", "InfoGUI")
WEDGE = "Wedge"
DEFAULTS = {"Rotation.Paradigm": "ZXZ", "PickPosition.Binning": "1", "Score.Type": "FLCFScore"}

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


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read a particle list; arguments are those of :func:`cryovox.formats.read_particles`."""
    columns = columns_of_rows([_row(element) for element in parsed(path).iter("Particle")], CONVENTION)
    return particles_of(path, columns, CONVENTION, tomogram=tomogram, voxel_size=voxel_size, species=species)


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write a particle list; arguments are those of :func:`cryovox.formats.write_particles`."""
    columns, _ = columns_of(
        path,
        particles,
        CONVENTION,
        tomogram=tomogram,
        voxel_size=voxel_size,
        tomogram_name=tomogram_name,
    )
    n = len(particles)
    sources = particles.tomograms if particles.tomograms is not None else [tomogram_name or ""] * n
    files = {"Filename": [f"particle_{i}.em" for i in range(n)]}
    columns = files | {name: [value] * n for name, value in DEFAULTS.items()} | columns
    columns[CONVENTION.tomogram], columns[CONVENTION.species] = list(sources), particles.species.tolist()
    root = ElementTree.Element("ParticleList")
    for i in range(n):
        _add(root, {name: cell(values[i]) for name, values in columns.items()})
    ElementTree.indent(root)
    write_text(path, ElementTree.tostring(root, "unicode") + "\n")


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
