"""STOPGAP motive lists: the block `data_stopgap_motivelist` of a STAR file.

Conventions are those of STOPGAP (https://github.com/wan-lab-vanderbilt/STOPGAP), which continues the TOM
toolbox: MATLAB indices, and angles phi, psi, theta.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import write_text
from cryovox.formats.particles import names
from cryovox.formats.particles.convention import Convention, Frame, columns_of, particles_of, words
from cryovox.formats.particles.star_table import read_blocks

BLOCK = "stopgap_motivelist"
COLUMNS = words(
    "motl_idx tomo_num object subtomo_num halfset orig_x orig_y orig_z score x_shift y_shift z_shift "
    "phi psi the class"
)

CONVENTION = Convention(
    program="STOPGAP",
    extensions=(".star",),
    coordinates=("orig_x", "orig_y", "orig_z"),
    first=(1, 1, 1),
    shifts=("x_shift", "y_shift", "z_shift"),
    eulers="ZXZ",
    angles=("psi", "the", "phi"),
    score="score",
    tomogram="tomo_num",
    species="class",
    remark="The motive lists of STOPGAP as .em are those of TOM.",
)


def recognizes(text: str) -> bool:
    """Whether the text of a STAR file starts as one of STOPGAP."""
    return f"data_{BLOCK}" in text


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read a motive list; arguments are those of :func:`cryovox.formats.read_particles`."""
    blocks = read_blocks(path)
    if BLOCK not in blocks:
        raise RequestError(path, f"holds no block data_{BLOCK}", "check that this is the file you meant")
    return particles_of(
        path, blocks[BLOCK], CONVENTION, tomogram=tomogram, voxel_size=voxel_size, species=species
    )


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write a motive list; arguments are those of :func:`cryovox.formats.write_particles`.

    Coordinates are whole voxels, with the remainder as shifts.
    """
    columns, numbered = columns_of(
        path,
        particles,
        CONVENTION,
        tomogram=tomogram,
        voxel_size=voxel_size,
        tomogram_name=tomogram_name,
        whole=True,
    )
    index = np.arange(1, len(particles) + 1)
    halves = np.where(index % 2, "A", "B")
    columns = {
        "motl_idx": index,
        "subtomo_num": index,
        "object": np.ones_like(index),
        "halfset": halves,
    } | columns
    cells = [[_cell(value) for value in columns[name]] for name in COLUMNS]
    rows = ["  ".join(row) for row in zip(*cells, strict=True)]
    head = [f"data_{BLOCK}", "", "loop_", *(f"_{name}" for name in COLUMNS)]
    write_text(path, "\n".join(["", *head, *rows, "", ""]))
    names.write(path, numbered)


def _cell(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
