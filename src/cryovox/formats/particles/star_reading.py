"""Reading of the particle lists of :mod:`cryovox.formats.particles.star`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import Volume
from cryovox.formats import stem
from cryovox.formats.angles import rotations_of
from cryovox.formats.particles import relion_project
from cryovox.formats.particles.cells import decoded
from cryovox.formats.particles.convention import Frame, check_positions
from cryovox.formats.particles.relion import (
    ANGLES,
    CARRIED,
    CENTER,
    CENTERED,
    FRAMES,
    GEOMETRY,
    IMAGE_SIZE,
    OWN,
    PIXEL_SHIFTS,
    PIXELS,
    SCORE,
    SHIFTS,
    SIZES,
    SPECIES,
    Center,
)
from cryovox.formats.particles.star_geometry import (
    center_kind,
    centers,
    check_single,
    file_sizes,
    rotated,
)
from cryovox.formats.particles.star_table import (
    Columns,
    Numbers,
    Table,
    Texts,
    formatted,
    read_blocks,
    read_table,
)
from cryovox.formats.tomogram_names import rows_of, volume_of


def read(
    path: Path,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
    center: Center | None = None,
    tomogram_names: Collection[str] = (),
) -> Particles:
    """Read a particle list.

    Parameters
    ----------
    path
        A file with `rlnCoordinate` or `rlnCenteredCoordinate` columns in any block; an optimisation set, or
        an import file of two columns, which name other files.
    tomogram
        Needed for centered coordinates; tomograms by name if the file names several. A list without names
        belongs to the tomogram with the name of its file.
    voxel_size
        Å per pixel of `rlnCoordinate`, instead of that of the file; the last choice is that of *tomogram*.
    species
        Species if the file has no column `cryovoxSpecies`; by default several values of
        `rlnClassNumber` become `class1`, `class2` ..., and a single value becomes `particle`.
    center
        Origin of centered coordinates if the file does not record it; "half" by default.
    tomogram_names
        Names of one tomogram, to read only its particles.
    """
    blocks = read_blocks(path)
    if relion_project.files(blocks, relion_project.IMPORTED):
        return _imported(path, blocks, tomogram, voxel_size, species)
    if particles_file := relion_project.file(path, blocks, relion_project.PARTICLES):
        tomograms_file = relion_project.file(path, blocks, relion_project.TOMOGRAMS)
        return read(
            particles_file,
            tomogram=tomogram or (relion_project.frames(tomograms_file) if tomograms_file else None),
            voxel_size=voxel_size,
            species=species,
            center=center,
            tomogram_names=tomogram_names,
        )
    table = read_table(path, blocks)
    rows = rows_of(path, table.names, tomogram_names)
    table = table if rows is None else table.take(rows)
    metadata = dict(table.blocks)
    if table.has(CENTERED):
        kind = center_kind(table, center)
        metadata[OWN] = {CENTER: [kind]}
        positions = table.numbers(CENTERED) + centers(path, tomogram, table.names, kind)
        pixels = None
    else:
        table.has(PIXELS)
        pixels = _pixel_sizes(table, tomogram, voxel_size)
        positions = table.numbers(PIXELS) * pixels
    frames = rotations_of(table.numbers(FRAMES)) if table.has(FRAMES) else None
    shifts = _shifts(table, voxel_size if pixels is None else pixels)
    if shifts is not None:
        positions = positions - rotated(frames, shifts)
    check_positions(path, positions[:, ::-1])
    score = next((tag for tag in (SCORE, "rlnLCCmax") if tag in table.columns), None)
    picks = Particles.of(
        positions[:, ::-1],
        _species(table, species),
        scores=None if score is None else table.numbers([score])[:, 0],
        rotations=_rotations(table, frames),
        tomograms=table.names,
    )
    columns = table.columns | ({} if shifts is None else formatted(SHIFTS, shifts))
    used = (GEOMETRY - set(CARRIED)) | {SCORE, SPECIES, table.name_tag}
    extra = {tag: _values(column) for tag, column in columns.items() if tag not in used}
    return replace(picks, extra=extra, metadata=metadata)


def _values(column: Any) -> NDArray[Any]:
    """A column as numbers or text."""
    if isinstance(column, Numbers):
        return column.values
    if isinstance(column, Texts):
        return decoded(column.values)
    return np.asarray(column, dtype=np.str_)


def _imported(
    path: Path,
    blocks: Mapping[str, Columns],
    tomogram: Frame | None,
    voxel_size: float | None,
    species: str | None,
) -> Particles:
    """Lists of an import file (`rlnTomoName`, `rlnTomoImportParticleFile`) as one."""
    lists = []
    for name, file in relion_project.imported(path, blocks):
        picks = read(file, tomogram=tomogram, voxel_size=voxel_size, species=species)
        lists.append(replace(picks, tomograms=np.full(len(picks), name)))
    return concatenate(lists)


def placeholder_tomograms(path: Path) -> Frame | None:
    """Placeholder for the tomograms of a list with centered coordinates, to read it and write it as such."""
    blocks = read_blocks(path)
    if relion_project.is_set(blocks):  # it names its tomograms
        return None
    table = read_table(path, blocks)
    if not table.has(CENTERED):
        return None
    placeholder = Volume(np.broadcast_to(np.int8(0), (2, 2, 2)), 1.0)
    return placeholder if table.names is None else dict.fromkeys(table.names, placeholder)


def recorded_center(path: Path) -> str:
    """Center of the coordinates that a file records; "half" if it records none."""
    return center_kind(Table(path, {}, read_blocks(path)), None)


def _rotations(table: Table, frames: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    rotations = rotations_of(table.numbers(ANGLES)) if table.has(ANGLES) else None
    if frames is None or rotations is None:
        return frames if rotations is None else rotations
    return np.asarray(frames @ rotations)


def _shifts(table: Table, pixels: Any) -> NDArray[np.float64] | None:
    """Shifts in Å, (n, 3)."""
    if table.has(SHIFTS):
        return table.numbers(SHIFTS)
    if not table.has(PIXEL_SHIFTS):
        return None
    shifts = table.numbers(PIXEL_SHIFTS)
    sizes = file_sizes(table, [IMAGE_SIZE, *SIZES])
    sizes = pixels if sizes is None else sizes
    if sizes is None and shifts.any():
        message = "has shifts rlnOriginX in pixels of unknown size"
        raise RequestError(table.path, message, "pass --voxel-size A, the size of those pixels in Å")
    return np.asarray(np.round(shifts * (1.0 if sizes is None else sizes), 9), dtype=np.float64)


def _species(table: Table, species: str | None) -> list[str]:
    if SPECIES in table.columns:
        return table.columns[SPECIES]
    classes = table.columns.get("rlnClassNumber", [])
    if species is None and len(set(classes)) > 1:
        return [f"class{number}" for number in classes]
    return [species or "particle"] * len(table)


def _pixel_sizes(table: Table, tomogram: Frame | None, voxel_size: float | None) -> Any:
    """Å per pixel of the coordinates, one for all or (n, 1)."""
    if voxel_size is not None:
        return voxel_size
    sizes = file_sizes(table, SIZES)
    if sizes is not None:
        return sizes
    if isinstance(tomogram, Volume):
        check_single(table.path, table.names)
        return tomogram.voxel_size
    if tomogram is not None:
        names = table.names or [stem(table.path)] * len(table)
        voxels = [volume_of(table.path, name, tomogram).voxel_size for name in names]
        return np.array(voxels, dtype=np.float64).reshape(-1, 1)
    message = "has coordinates in pixels of unknown size"
    raise RequestError(table.path, message, "pass --voxel-size A, the size of those pixels in Å")
