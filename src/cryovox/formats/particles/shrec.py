"""Particle locations of the SHREC challenges (.txt): name, x, y, z in voxels, and three angles, as text.

The direction and order of the angles differ between readers and simulators
(:mod:`cryovox.formats.layouts.shrec2021`), so they are kept as columns and are not used as orientations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import read_text, write_text
from cryovox.formats.particles.convention import Convention, Frame, columns_of, particles_of

ANGLES = ("angle1", "angle2", "angle3")

CONVENTION = Convention(
    program="SHREC",
    extensions=(".txt",),
    species="name",
    remark="Lines are name x y z and three angles, which are kept but not used.",
)


def recognizes(text: str) -> bool:
    """Whether the first line of a text is a name and three or six numbers."""
    words = text.partition("\n")[0].split()
    return len(words) in (4, 7) and not _is_number(words[0]) and all(map(_is_number, words[1:]))


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read locations; arguments are those of :func:`cryovox.formats.read_particles`."""
    rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
    if len({len(row) for row in rows}) != 1 or len(rows[0]) not in (4, 7):
        raise RequestError(path, "has lines that are not name x y z [angles]", "correct the file")
    columns: dict[str, Any] = dict(
        zip(("name", "x", "y", "z", *ANGLES), zip(*rows, strict=True), strict=False)
    )
    return particles_of(path, columns, CONVENTION, tomogram=tomogram, voxel_size=voxel_size, species=species)


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write locations; arguments are those of :func:`cryovox.formats.write_particles`."""
    columns, _ = columns_of(path, particles, CONVENTION, tomogram=tomogram, voxel_size=voxel_size)
    columns["name"] = ["_".join(str(name).split()) for name in particles.species]
    tags = ["name", "x", "y", "z", *(tag for tag in ANGLES if set(ANGLES) <= set(columns))]
    rows = zip(*([_cell(value) for value in columns[tag]] for tag in tags), strict=True)
    write_text(path, "".join(f"{' '.join(row)}\n" for row in rows))


def _cell(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False
