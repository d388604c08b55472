"""Subtomograms of RELION 5 and WarpTools as 2-D stacks: the images of a particle, one per tilt.

A list with `rlnTomoSubTomosAre2DStacks 1` in its block `data_general` names a stack for each particle
(`rlnImageName`), centered at the coordinates of the particle without its shift. `rlnTomoVisibleFrames` says
in which tilts the particle is visible; stacks of RELION hold these images only, those of WarpTools all.
The directions of projection come from the `tomograms.star` of the optimisation set: as rows
`rlnTomoProjX` and `rlnTomoProjY` (RELION 4, WarpTools), or as angles `rlnTomoXTilt`, `rlnTomoYTilt` and
`rlnTomoZRot`, which rotate the tomogram about x, then y, then z (RELION 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats.particles import relion_project, star
from cryovox.formats.particles.relion import IMAGE_SIZE
from cryovox.formats.particles.star_table import Columns, Table, read_blocks, read_table

STACKS, IMAGE, VISIBLE = "rlnTomoSubTomosAre2DStacks", "rlnImageName", "rlnTomoVisibleFrames"
MATRIX = ("rlnTomoProjX", "rlnTomoProjY")
TILTS = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
SERIES = "rlnTomoTiltSeriesStarFile"


@dataclass(frozen=True, eq=False)
class ImageStacks:
    """Particles with the images of their tilts.

    Attributes
    ----------
    particles : n particles
        With shifts and orientations, as of any other list.
    centers : (n, 3)
        Centers (z, y, x) of the images in the tomogram, in Å: the particles without their shifts.
    files
        Stack of each particle.
    visible
        Whether the particle is visible in each tilt, (tilts,) for each particle.
    projections
        Directions x and y of the images in the tomogram, (tilts, 2, 3) as x, y, z for each particle.
    pixel_size : float
        Of the images in Å.
    size : int
        Edge of the images in pixels; the center is pixel ``size // 2``.
    """

    particles: Particles
    centers: NDArray[np.float64]
    files: tuple[Path, ...]
    visible: tuple[NDArray[np.bool_], ...]
    projections: tuple[NDArray[np.float64], ...]
    pixel_size: float
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def images(self, i: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Images (k, y, x) of the visible tilts of a particle, and their directions (k, 2, 3)."""
        path, visible = self.files[i], self.visible[i]
        try:
            with mrcfile.open(path) as file:
                stack = np.asarray(file.data, dtype=np.float32)
        except (ValueError, OSError) as error:
            raise RequestError(path, f"cannot be read: {error}", "extract the particles again") from None
        stack = stack[None] if stack.ndim == 2 else stack
        if stack.shape[1:] != (self.size, self.size):
            y, x = stack.shape[1:]
            message = f"has images of {y} x {x} pixels; the others have {self.size} x {self.size}"
            raise RequestError(path, message, "extract the particles again")
        if len(stack) == len(visible):
            stack = stack[visible]
        elif len(stack) != visible.sum():
            message = f"has {len(stack)} images; the particle is visible in {visible.sum()} of {len(visible)}"
            raise RequestError(path, f"{message} tilts", "extract the particles again")
        return stack, self.projections[i][visible]


def has_stacks(path: Path) -> bool:
    """Whether a list, or the list of an optimisation set, says that its subtomograms are 2-D stacks."""
    blocks = read_blocks(path)
    file = relion_project.file(path, blocks, relion_project.PARTICLES)
    return _are_stacks(read_blocks(file) if file else blocks)


def read(path: Path, tomograms: Path | None = None) -> ImageStacks:
    """Read a list of 2-D stacks; images are read on access.

    Parameters
    ----------
    path
        An optimisation set, or the list of particles if *tomograms* is given.
    tomograms
        The `tomograms.star`, if *path* does not name it.
    """
    blocks = read_blocks(path)
    tomograms = tomograms or relion_project.file(path, blocks, relion_project.TOMOGRAMS)
    file = relion_project.file(path, blocks, relion_project.PARTICLES) or path
    table = read_table(file, read_blocks(file))
    if not _are_stacks(table.blocks):
        message = f"holds no 2-D stacks: {STACKS} is not 1"
        raise RequestError(file, message, "name the tomogram, from which subtomograms are then cut")
    missing = [tag for tag in (IMAGE, VISIBLE) if tag not in table.columns]
    if missing or table.names is None:
        column = missing[0] if missing else "rlnTomoName"
        raise RequestError(file, f"has no column {column}", "extract the particles again with RELION 5")
    if tomograms is None:
        message = "does not name the tilt series, which state the directions of projection"
        raise RequestError(
            file, message, "name the optimisation_set.star instead, or tomograms.star as second"
        )
    frames = relion_project.frames(tomograms)
    particles = star.read(file, tomogram=frames)
    files = _files(file, list(table.columns[IMAGE]))
    geometry = {name: _directions(tomograms, name) for name in sorted(set(table.names))}
    visible = tuple(_flags(file, row, cell) for row, cell in enumerate(table.columns[VISIBLE], 1))
    for row, (name, flags) in enumerate(zip(table.names, visible, strict=True), 1):
        if len(flags) != len(geometry[name]):
            message = f"particle {row}: {VISIBLE} has {len(flags)} tilts, {name} has {len(geometry[name])}"
            raise RequestError(file, message, f"name the tomograms.star with which {file.name} was extracted")
    return ImageStacks(
        particles=particles,
        centers=_without_shifts(particles, table),
        files=files,
        visible=visible,
        projections=tuple(geometry[name] for name in table.names),
        pixel_size=_pixel_size(table),
        size=_size(files[0]),
    )


def _are_stacks(blocks: Mapping[str, Columns | Mapping[str, list[str]]]) -> bool:
    return list(blocks.get("general", {}).get(STACKS, [])) == ["1"]


def _files(path: Path, names: list[str]) -> tuple[Path, ...]:
    """The stacks, named relative to the folder of the list or to a folder above it."""
    single = [name for name in names if "@" in name]
    if single:
        message = f"{IMAGE} is {single[0]}, an image of a stack, not a stack"
        raise RequestError(path, message, "name a list of subtomograms of RELION 5")
    folders = path.resolve().parents
    base = next((folder for folder in folders if (folder / names[0]).is_file()), folders[0])
    missing = [name for name in names if not (base / name).is_file()]
    if missing:
        message = f"names {len(missing)} of {len(names)} stacks that are not there, such as {missing[0]}"
        raise RequestError(path, message, "start in a complete project of RELION")
    return tuple(base / name for name in names)


def _without_shifts(particles: Particles, table: Table) -> NDArray[np.float64]:
    """Positions (z, y, x) in Å without the shifts that they include."""
    from cryovox.formats.angles import rotations_of
    from cryovox.formats.particles.relion import FRAMES, SHIFTS
    from cryovox.formats.particles.star_geometry import rotated

    if not table.has(SHIFTS):
        return particles.positions
    frames = rotations_of(table.numbers(FRAMES)) if table.has(FRAMES) else None
    return np.asarray(particles.positions + rotated(frames, table.numbers(SHIFTS))[:, ::-1])


def _pixel_size(table: Table) -> float:
    sizes = table.per_particle(IMAGE_SIZE)
    if sizes is None or len(np.unique(sizes)) != 1:
        problem = "has no pixel size of the images" if sizes is None else "has images of several pixel sizes"
        raise RequestError(table.path, f"{problem} ({IMAGE_SIZE})", "extract all particles at one pixel size")
    return float(sizes[0, 0])


def _size(path: Path) -> int:
    try:
        with mrcfile.open(path, header_only=True) as file:
            return int(file.header.nx)
    except (ValueError, OSError) as error:
        raise RequestError(path, f"cannot be read: {error}", "extract the particles again") from None


def _directions(path: Path, name: str) -> NDArray[np.float64]:
    """Directions x and y of the images of a tilt series in the tomogram, (tilts, 2, 3) as x, y, z."""
    blocks = read_blocks(path)
    block = blocks.get(name) or _series(path, blocks, name).get(name)
    if block is not None and set(MATRIX) <= set(block):
        rows = [[_vector(path, cell)[:3] for cell in block[tag]] for tag in MATRIX]
        return np.array(rows, dtype=np.float64).swapaxes(0, 1)
    if block is not None and set(TILTS) <= set(block):
        angles = np.array([[_number(path, cell) for cell in block[tag]] for tag in TILTS]).T
        return np.asarray(Rotation.from_euler("xyz", angles, degrees=True).as_matrix()[:, :2])
    message = f"has no directions of projection of {name} ({MATRIX[0]} or {TILTS[0]})"
    raise RequestError(path, message, "name the tomograms.star of aligned tilt series")


def _series(path: Path, blocks: Mapping[str, Columns], name: str) -> Mapping[str, Columns]:
    """Blocks of the file of a tilt series, which the table of RELION 5 names."""
    table = next((c for c in blocks.values() if {relion_project.NAME, SERIES} <= set(c)), None)
    if table is None or name not in table[relion_project.NAME]:
        return {}
    return read_blocks(relion_project.existing(path, dict(zip(table[relion_project.NAME], table[SERIES],
                                                              strict=True))[name]))  # fmt: skip


def _flags(path: Path, row: int, cell: str) -> NDArray[np.bool_]:
    try:
        flags = np.array([{"0": False, "1": True}[part.strip()] for part in cell.strip("[]").split(",")])
    except KeyError:
        message = f"particle {row}: {VISIBLE} is {cell!r}, not [1,0,...]"
        raise RequestError(path, message, "correct the file") from None
    if not flags.any():
        message = f"particle {row} is visible in no tilt"
        raise RequestError(path, message, "leave it out of the list")
    return flags


def _vector(path: Path, cell: str) -> list[float]:
    values = [_number(path, part) for part in cell.strip("[]").split(",")]
    if len(values) != 4:
        raise RequestError(path, f"{MATRIX[0]} is {cell!r}, not four numbers", "correct the file")
    return values


def _number(path: Path, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise RequestError(path, f"{cell!r} is not a finite number", "correct the file")
    return value
