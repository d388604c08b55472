"""Boxes of crYOLO (.cbox): the block `data_cryolo` of a STAR file, in voxels.

x and y are the lower corner of the box, z is its center, as in napari-boxmanager
(https://github.com/MPI-Dortmund/napari-boxmanager).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import write_text
from cryovox.formats.particles.convention import Convention, Frame, columns_of, particles_of, words
from cryovox.formats.particles.star_table import read_blocks

BLOCK = "cryolo"
CORNER, SIZES = ("CoordinateX", "CoordinateY"), ("Width", "Height")
COLUMNS = words(
    "CoordinateX CoordinateY CoordinateZ Width Height Depth EstWidth EstHeight Confidence NumBoxes Angle"
)
BOX = 32.0
UNKNOWN = "<NA>"

CONVENTION = Convention(
    program="crYOLO",
    extensions=(".cbox",),
    coordinates=("CoordinateX", "CoordinateY", "CoordinateZ"),
    score="Confidence",
    remark="x and y are those of the lower corner of the box, z that of its center. "
    "Species, angles and tomograms are not stored.",
)


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read boxes; arguments are those of :func:`cryovox.formats.read_particles`."""
    blocks = read_blocks(path)
    columns: dict[str, Any] = dict(blocks.get(BLOCK, {}))
    if not {*CONVENTION.coordinates, *SIZES} <= set(columns) or UNKNOWN in columns["CoordinateZ"]:
        message = f"holds no boxes of a tomogram: data_{BLOCK} with CoordinateX to Z, Width and Height"
        raise RequestError(path, message, "name a .cbox file of a tomogram, not of micrographs")
    try:
        for corner, size in zip(CORNER, SIZES, strict=True):
            columns[corner] = np.array(columns[corner], dtype=np.float64) + np.array(columns[size], float) / 2
    except ValueError as error:
        raise RequestError(path, f"holds a box that is no number ({error})", "correct the file") from None
    if UNKNOWN in columns.get(CONVENTION.score, ()):
        del columns[CONVENTION.score]
    return particles_of(path, columns, CONVENTION, tomogram=tomogram, voxel_size=voxel_size, species=species)


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write boxes; arguments are those of :func:`cryovox.formats.write_particles`."""
    if particles.tomograms is not None and len(set(particles.tomograms.tolist())) > 1:
        raise RequestError(path, "boxes belong to one tomogram", "write one file per tomogram")
    columns, _ = columns_of(path, particles, CONVENTION, tomogram=tomogram, voxel_size=voxel_size)
    n = len(particles)
    columns |= {name: columns.get(name, np.full(n, BOX)) for name in (*SIZES, "Depth")}
    for corner, size in zip(CORNER, SIZES, strict=True):
        columns[corner] = columns[corner] - np.asarray(columns[size], dtype=np.float64) / 2
    cells = [[_cell(value) for value in columns.get(name, [UNKNOWN] * n)] for name in COLUMNS]
    rows = [" ".join(row) for row in zip(*cells, strict=True)]
    slices = [f" {z:.6f}" for z in np.unique(np.round(columns["CoordinateZ"]))]
    lines = ["", "data_global", "", "_cbox_format_version   1.0", "", f"data_{BLOCK}", "", "loop_"]
    lines += [f"_{name} #{i}" for i, name in enumerate(COLUMNS, 1)] + rows
    lines += ["", f"data_{BLOCK}_include", "", "loop_", "_slice_index #1", *slices, ""]
    write_text(path, "\n".join(lines))


def _cell(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
