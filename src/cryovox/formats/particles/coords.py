"""Coordinates as text in voxels: `.coords` of crYOLO (x y z) and DeepETPicker (class x y z), `.box` of EMAN2.

`.box` files of two-dimensional boxes (x y width height) are refused.
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import ending, read_text, write_text
from cryovox.formats.particles import names, table
from cryovox.formats.particles.convention import Convention, Frame, columns_of, particles_of

CONVENTION = Convention(
    program="crYOLO, DeepETPicker",
    extensions=(".coords",),
    species="class",
    remark="Lines are x y z, or class x y z as in DeepETPicker, which is written for several species.",
)
BOX = Convention(
    program="EMAN2 boxes",
    extensions=(".box",),
    remark="Lines are x y z. Only positions are stored; two-dimensional boxes are refused.",
)


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read coordinates; arguments are those of :func:`cryovox.formats.read_particles`.

    Files with a header line are tables of :mod:`cryovox.formats.particles.table`.
    """
    rows = [line.split() for line in read_text(path).splitlines() if line.strip() and line[0] != "#"]
    is_box = ending(path) == ".box"
    if rows and not is_box and (not all(_is_number(c) for c in rows[0]) or len(rows[0]) not in (3, 4)):
        return table.read(path, voxel_size=voxel_size, species=species)
    widths = {len(row) for row in rows} - {3 if is_box else 4, 3}
    if widths or len({len(row) for row in rows}) > 1:
        message = f"has lines of {max(len(row) for row in rows)} numbers, not x y z"
        raise RequestError(path, message, "name a list of a tomogram; boxes of micrographs have no z")
    cells = list(zip(*rows, strict=True)) if rows else [()] * 3
    columns: dict[str, Any] = dict(zip(("x", "y", "z"), cells[-3:], strict=True))
    if len(cells) == 4:
        columns["class"] = cells[0]
    convention = BOX if is_box else CONVENTION
    return particles_of(path, columns, convention, tomogram=tomogram, voxel_size=voxel_size, species=species)


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write coordinates; arguments are those of :func:`cryovox.formats.write_particles`."""
    if particles.tomograms is not None and len(set(particles.tomograms.tolist())) > 1:
        raise RequestError(
            path, "a list of coordinates belongs to one tomogram", "write one file per tomogram"
        )
    convention = BOX if ending(path) == ".box" else CONVENTION
    columns, numbered = columns_of(path, particles, convention, tomogram=tomogram, voxel_size=voxel_size)
    several = "class" in columns and len(set(particles.species.tolist())) > 1
    tags = ("class", "x", "y", "z") if several else ("x", "y", "z")
    text = StringIO()
    np.savetxt(text, np.stack([columns[tag] for tag in tags], axis=1), fmt="%.10g")
    write_text(path, text.getvalue())
    names.write(path, numbered)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
