"""Writing of the particle lists of :mod:`cryovox.formats.particles.star`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import write_text
from cryovox.formats.angles import eulers_of, rotations_of
from cryovox.formats.particles.convention import Frame
from cryovox.formats.particles.relion import (
    ANGLE_PRIORS,
    ANGLES,
    CENTER,
    CENTERED,
    FRAMES,
    GEOMETRY,
    GROUP,
    IMAGE_SIZE,
    OWN,
    PIXELS,
    SCORE,
    SERIES_SIZE,
    SHIFT_PRIORS,
    SHIFTS,
    SPECIES,
    VERSIONS,
    Center,
    StarVersion,
)
from cryovox.formats.particles.star_geometry import center_kind, centers, rotated
from cryovox.formats.particles.star_table import NUMBERS, Columns, Numbers, Table, block_text, formatted


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
    convention: StarVersion = "relion5",
    center: Center | None = None,
) -> None:
    """Write a particle list.

    Parameters
    ----------
    path
        Output file.
    particles
        Particles to write. Extra columns are written unchanged, except those that describe the geometry.
    tomogram
        Needed for "relion5", whose coordinates are centered; tomograms by name if there are several.
    voxel_size
        Å per pixel of `rlnCoordinate`, for RELION 4 that of the tilt series; by default that of the optics
        groups of the particles, else that of *tomogram*.
    tomogram_name
        Tomogram of particles that name none; the prefix `rec_` of RELION is removed.
    convention
        "relion5": Å from the center and `rlnTomoName`. "relion4": pixels and `rlnTomoName`. "relion3":
        pixels and `rlnMicrographName`, also for Warp and M.
    center
        "half" or "half-1", see above; by default that of the file from which the particles were read.
    """
    if convention not in VERSIONS:
        raise RequestError("--convention", f"is {convention!r}", suggestion(convention, VERSIONS))
    carried = {tag: _carried_column(tag, values) for tag, values in particles.extra.items()}
    table = Table(path, {SCORE: _scores(particles), **carried}, particles.metadata)
    frames, shifts = _carried(table, convention)
    xyz = particles.positions[:, ::-1] + (0.0 if shifts is None else rotated(frames, shifts))
    blocks = _blocks(table, convention)
    names = None if particles.tomograms is None else particles.tomograms.tolist()
    if convention == "relion5":
        kind = center_kind(table, center, "center")
        blocks[OWN] = {CENTER: [kind]}
        columns = formatted(CENTERED, xyz - centers(path, tomogram, names, kind))
    else:
        pixels = _written_pixels(table, tomogram, voxel_size, convention)
        blocks["optics"] = _optics(blocks.get("optics"), convention, pixels)
        columns = formatted(PIXELS, xyz / pixels)
    columns = _named(particles, tomogram_name, convention) | columns
    columns |= _written_angles(table, particles.rotations, frames)
    if frames is not None:
        columns |= {tag: table.columns[tag] for tag in FRAMES}
    if shifts is not None:
        columns |= {tag: table.columns[tag] for tag in SHIFTS}
    if "optics" in blocks:
        own = GROUP in table.columns and "optics" in table.blocks and convention != "relion3"
        columns[GROUP] = table.columns[GROUP] if own else blocks["optics"][GROUP][:1] * len(particles)
    columns[SCORE] = _scores(particles)
    columns[SPECIES] = particles.species.tolist()
    written = {*GEOMETRY, GROUP, *_stale(table, frames, shifts), *columns}
    columns |= {tag.replace(" ", "_"): values for tag, values in table.columns.items() if tag not in written}
    blocks["particles"] = columns
    version = VERSIONS[convention]
    write_text(path, chain.from_iterable(_text(name, block, version) for name, block in blocks.items()))


def _text(name: str, columns: Columns, version: str) -> Iterator[str]:
    rows = {len(column) for column in columns.values()}
    return block_text(name, columns, version, pairs=rows == {1} and name not in (OWN, "optics", "particles"))


def _blocks(table: Table, convention: StarVersion) -> dict[str, Columns]:
    """Blocks other than the particles; optics only for RELION 4 and 5, and if the groups are known."""
    blocks = {name: {t: list(c) for t, c in block.items()} for name, block in table.blocks.items()}
    blocks.pop(OWN, None)
    optics = blocks.get("optics", {})
    groups = optics.get(GROUP, [])
    used = set(table.columns.get(GROUP, groups if len(groups) == 1 else [""]))
    if convention == "relion3" or not groups or not used <= set(groups):
        blocks.pop("optics", None)
    if convention == "relion3":
        blocks.pop("general", None)
    return blocks


def _carried(
    table: Table, convention: StarVersion
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Rotations of subtomograms, and shifts, that were read and are written back."""
    if convention == "relion3":
        return None, None
    frames = rotations_of(table.numbers(FRAMES)) if set(FRAMES) <= set(table.columns) else None
    return frames, table.numbers(SHIFTS) if set(SHIFTS) <= set(table.columns) else None


def _stale(table: Table, frames: Any, shifts: Any) -> set[str]:
    """Priors that refer to angles or shifts that are not written."""
    stale = set(ANGLE_PRIORS) if frames is None and set(FRAMES) <= set(table.columns) else set()
    return stale | (set(SHIFT_PRIORS) if shifts is None and set(SHIFTS) <= set(table.columns) else set())


def _written_angles(table: Table, rotations: NDArray[np.float64] | None, frames: Any) -> Columns:
    """Angles within the subtomogram; those that were read if they are still correct."""
    if rotations is None:
        return {}
    within = rotations if frames is None else np.swapaxes(frames, 1, 2) @ rotations
    if set(ANGLES) <= set(table.columns):
        previous = rotations_of(table.numbers(ANGLES))
        if np.allclose(previous, within, atol=1e-6):
            return {tag: table.columns[tag] for tag in ANGLES}
    return formatted(ANGLES, eulers_of(within))


def _written_pixels(
    table: Table, tomogram: Frame | None, voxel_size: float | None, convention: StarVersion
) -> Any:
    """Å per pixel of the coordinates to write."""
    if voxel_size is not None:
        return voxel_size
    sizes = None
    if convention == "relion4" and "optics" in _blocks(table, convention):
        sizes = table.per_particle(SERIES_SIZE)
    if sizes is not None:
        return sizes
    volumes = [tomogram] if isinstance(tomogram, Volume) else list((tomogram or {}).values())
    if len({volume.voxel_size for volume in volumes}) == 1:
        return volumes[0].voxel_size
    problem = "whose size is not known" if not volumes else "of which the tomograms have several sizes"
    message = f"{convention} STAR has coordinates in pixels, {problem}"
    raise RequestError(table.path, message, "pass --voxel-size A, the size of those pixels in Å")


def _optics(optics: Columns | None, convention: StarVersion, pixels: Any) -> Columns:
    """The optics groups with the pixel size of the written coordinates."""
    if optics is None:
        tag = IMAGE_SIZE if convention == "relion3" else SERIES_SIZE
        return {GROUP: ["1"], "rlnOpticsGroupName": ["opticsGroup1"], tag: [f"{pixels:.8g}"]}
    if np.ndim(pixels):  # sizes of the groups
        return optics
    return optics | {SERIES_SIZE: [f"{pixels:.8g}"] * len(optics[GROUP])}


def _carried_column(tag: str, values: NDArray[Any]) -> Any:
    """An extra column as text, or as numbers with all digits; angles and shifts have at least six."""
    if values.dtype != np.float64:
        return [str(value) for value in values]
    is_short = tag in NUMBERS and np.array_equal(np.round(values, 6), values)
    return Numbers(values, ".6f" if is_short else "r")


def _scores(particles: Particles) -> Numbers:
    return Numbers(particles.scores.astype(np.float64), ".9g")


def _named(particles: Particles, name: str | None, convention: StarVersion) -> Columns:
    tag = "rlnMicrographName" if convention == "relion3" else "rlnTomoName"
    if particles.tomograms is not None:
        return {tag: particles.tomograms.tolist()}
    if name is None:
        return {}
    return {tag: [name if convention == "relion3" else name.removeprefix("rec_")] * len(particles)}
