"""Files of a RELION project that name particle lists and tomograms.

An optimisation set names a list and a `tomograms.star`, an import file one list per tomogram. Their paths are
relative to the folder of the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats.particles.star_table import Columns, read_blocks

PARTICLES, TOMOGRAMS, IMPORTED = "rlnTomoParticlesFile", "rlnTomoTomogramsFile", "rlnTomoImportParticleFile"
NAME, SIZE = "rlnTomoName", "rlnTomoTiltSeriesPixelSize"
SHAPE = ("rlnTomoSizeZ", "rlnTomoSizeY", "rlnTomoSizeX")


def is_set(blocks: Mapping[str, Columns]) -> bool:
    """Whether a file names particle lists instead of containing one."""
    return bool(files(blocks, PARTICLES) or files(blocks, IMPORTED))


def files(blocks: Mapping[str, Columns], tag: str) -> list[str]:
    """File names in a column of any block."""
    return next((columns[tag] for columns in blocks.values() if tag in columns), [])


def file(path: Path, blocks: Mapping[str, Columns], tag: str) -> Path | None:
    """The file that a column of *path* names; None without the column, an error if it is missing."""
    listed = files(blocks, tag)
    return existing(path, listed[0]) if listed else None


def imported(path: Path, blocks: Mapping[str, Columns]) -> list[tuple[str, Path]]:
    """Tomogram and particle list of each row of an import file."""
    names = files(blocks, NAME)
    if not names:
        raise RequestError(path, f"has no column {NAME}", "add the name of the tomogram to each row")
    return [(name, existing(path, f)) for name, f in zip(names, files(blocks, IMPORTED), strict=True)]


def frames(path: Path) -> dict[str, Volume]:
    """Size and voxel size of the unbinned tomograms of a `tomograms.star`, by name."""
    columns = next((c for c in read_blocks(path).values() if {NAME, SIZE, *SHAPE} <= set(c)), None)
    if columns is None:
        message = f"has no block with {NAME}, {SIZE} and {SHAPE[2]} to Z"
        raise RequestError(path, message, "name the tomograms.star of a RELION 5 project")
    try:
        shapes = np.array([columns[tag] for tag in SHAPE], dtype=np.float64).astype(np.int64).T.tolist()
        sizes = [float(size) for size in columns[SIZE]]
    except ValueError as error:
        raise RequestError(path, f"has a size that is no number ({error})", "correct the file") from None
    voxel = np.int8(0)
    return {
        name: Volume(np.broadcast_to(voxel, shape), size)
        for name, shape, size in zip(columns[NAME], shapes, sizes, strict=True)
    }


def existing(path: Path, name: str) -> Path:
    """A file named relative to the folder of *path* or to a folder above it, that of the project."""
    for folder in path.resolve().parents:
        if (folder / name).is_file():
            return folder / name
    raise RequestError(path, f"names {name}, which is not there", "start in a complete project of RELION")
