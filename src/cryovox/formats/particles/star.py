"""STAR particle lists of RELION 3, 4 and 5, Warp and M.

Only this module converts between the following conventions and ours (Å from the center of voxel 0):

- `rlnCenteredCoordinate{X,Y,Z}Angst` (RELION 5) is in Å from the center of the tomogram of the particle. The
  center is at n / 2 voxels on an axis of n by default, as in the C++ programs of RELION; its Python pickers
  use n / 2 - 1, which is `center="half-1"`. Files that we write record the center in the block
  `data_cryovox`, which is used on reading.
- `rlnCoordinate{X,Y,Z}` is in pixels, in RELION 4 and 5 those of the unbinned tilt series.
- `rlnOrigin{X,Y,Z}Angst` (Å) or `rlnOrigin{X,Y,Z}` (pixels of the extracted images) is subtracted.
- Angles are those of :mod:`cryovox.formats.angles`; `rlnTomoSubtomogram{Rot,Tilt,Psi}` rotates the
  subtomogram, with its shift, into the tomogram.

Positions and rotations include shifts and subtomogram angles. Both are written back unchanged for RELION 4
and 5, with the blocks `data_optics` and `data_general`, since extracted images and priors refer to them.

`rlnPixelSize` is not used as the pixel size of coordinates: programs disagree on its meaning.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import Volume
from cryovox.formats import stem, write_text
from cryovox.formats.angles import eulers_of, rotations_of
from cryovox.formats.particles import relion_project
from cryovox.formats.particles.convention import Convention
from cryovox.formats.particles.relion import (
    ANGLE_PRIORS,
    ANGLES,
    CARRIED,
    CENTERED,
    DETECTOR,
    FRAMES,
    GEOMETRY,
    GROUP,
    IMAGE_SIZE,
    PIXEL_SHIFTS,
    PIXELS,
    SERIES_SIZE,
    SHIFT_PRIORS,
    SHIFTS,
    SIZES,
)
from cryovox.formats.particles.star_table import (
    Columns,
    Table,
    block_text,
    formatted,
    read_blocks,
    read_table,
)
from cryovox.formats.tomogram_names import listed, plain_name, rows_of, volume_of

StarVersion = Literal["relion5", "relion4", "relion3"]
Center = Literal["half", "half-1"]
Frame = Volume | Mapping[str, Volume]
"""A tomogram, or tomograms by name; only shape and voxel size are used."""

RELION = Convention(
    program="RELION 5",
    extensions=(".star",),
    coordinates=tuple(CENTERED),
    unit="Å",
    origin="center",
    center="n / 2",
    shifts=tuple(SHIFTS),
    shift_sign=-1,
    eulers="ZYZ",
    angles=tuple(ANGLES),
    passive=True,
    score="rlnAutopickFigureOfMerit",
    tomogram="rlnTomoName",
    species="cryovoxSpecies",
    pixel_size="rlnTomoTiltSeriesPixelSize",
    remark="Its Python pickers count from n / 2 - 1, which `read_particles` takes as "
    '`center="half-1"`; it is recorded in `data_cryovox`. '
    "`rlnTomoSubtomogramRot`, `Tilt` and `Psi` turn the subtomogram, with its shift.",
)
CONVENTIONS = {
    "relion5": RELION,
    "relion4": replace(
        RELION,
        program="RELION 4",
        coordinates=tuple(PIXELS),
        unit="voxel",
        origin="voxel",
        remark="Voxels are those of the unbinned tilt series.",
    ),
    "relion3": replace(
        RELION,
        program="RELION 3, Warp, M",
        coordinates=tuple(PIXELS),
        unit="voxel",
        origin="voxel",
        tomogram="rlnMicrographName",
        pixel_size="rlnImagePixelSize",
        remark="Shifts `rlnOriginX` to `Z` without `Angst` are in voxels of the extracted images. "
        "PySeg lists are of this kind.",
    ),
}
"""`--star-version` -> convention."""

VERSIONS = {"relion5": "50001", "relion4": "30001", "relion3": "30001"}
SCORE, SPECIES = "rlnAutopickFigureOfMerit", "cryovoxSpecies"
OWN, CENTER = "cryovox", "cryovoxCentre"


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
        metadata[OWN] = {CENTER: [_center_kind(table, center)]}
        positions = table.numbers(CENTERED) + _centers(path, tomogram, table.names, metadata)
        pixels = None
    else:
        table.has(PIXELS)
        pixels = _pixel_sizes(table, tomogram, voxel_size)
        positions = table.numbers(PIXELS) * pixels
    frames = rotations_of(table.numbers(FRAMES)) if table.has(FRAMES) else None
    shifts = _shifts(table, voxel_size if pixels is None else pixels)
    if shifts is not None:
        positions = positions - _rotated(frames, shifts)
    _check_finite(path, positions)
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
    extra = {tag: np.asarray(v, dtype=np.str_) for tag, v in columns.items() if tag not in used}
    return replace(picks, extra=extra, metadata=metadata)


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


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
    star_version: StarVersion = "relion5",
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
    star_version
        "relion5": Å from the center and `rlnTomoName`. "relion4": pixels and `rlnTomoName`. "relion3":
        pixels and `rlnMicrographName`, also for Warp and M.
    center
        "half" or "half-1", see above; by default that of the file from which the particles were read.
    """
    if star_version not in VERSIONS:
        raise RequestError("--star-version", f"is {star_version!r}", suggestion(star_version, VERSIONS))
    carried = {tag: [str(value) for value in values] for tag, values in particles.extra.items()}
    table = Table(path, {SCORE: _scores(particles), **carried}, particles.metadata)
    frames, shifts = _carried(table, star_version)
    xyz = particles.positions[:, ::-1] + (0.0 if shifts is None else _rotated(frames, shifts))
    blocks = _blocks(table, star_version)
    names = None if particles.tomograms is None else particles.tomograms.tolist()
    if star_version == "relion5":
        blocks[OWN] = {CENTER: [_center_kind(table, center, "center")]}
        columns = formatted(CENTERED, xyz - _centers(path, tomogram, names, blocks))
    else:
        pixels = _written_pixels(table, tomogram, voxel_size, star_version)
        blocks["optics"] = _optics(blocks.get("optics"), star_version, pixels)
        columns = formatted(PIXELS, xyz / pixels)
    columns = _named(particles, tomogram_name, star_version) | columns
    columns |= _written_angles(table, particles.rotations, frames)
    if frames is not None:
        columns |= {tag: table.columns[tag] for tag in FRAMES}
    if shifts is not None:
        columns |= {tag: table.columns[tag] for tag in SHIFTS}
    if "optics" in blocks:
        own = GROUP in table.columns and "optics" in table.blocks and star_version != "relion3"
        columns[GROUP] = table.columns[GROUP] if own else blocks["optics"][GROUP][:1] * len(particles)
    columns[SCORE] = _scores(particles)
    columns[SPECIES] = [str(species) for species in particles.species]
    written = {*GEOMETRY, GROUP, *_stale(table, frames, shifts), *columns}
    columns |= {tag.replace(" ", "_"): values for tag, values in table.columns.items() if tag not in written}
    blocks["particles"] = columns
    write_text(path, "".join(_text(name, block, VERSIONS[star_version]) for name, block in blocks.items()))


def _text(name: str, columns: Columns, version: str) -> str:
    rows = {len(column) for column in columns.values()}
    return block_text(name, columns, version, pairs=rows == {1} and name not in (OWN, "optics", "particles"))


def _blocks(table: Table, star_version: StarVersion) -> dict[str, Columns]:
    """Blocks other than the particles; optics only for RELION 4 and 5, and if the groups are known."""
    blocks = {name: {t: list(c) for t, c in block.items()} for name, block in table.blocks.items()}
    blocks.pop(OWN, None)
    optics = blocks.get("optics", {})
    groups = optics.get(GROUP, [])
    used = set(table.columns.get(GROUP, groups if len(groups) == 1 else [""]))
    if star_version == "relion3" or not groups or not used <= set(groups):
        blocks.pop("optics", None)
    if star_version == "relion3":
        blocks.pop("general", None)
    return blocks


def _carried(
    table: Table, star_version: StarVersion
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Rotations of subtomograms, and shifts, that were read and are written back."""
    if star_version == "relion3":
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


def _rotated(frames: NDArray[np.float64] | None, shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    return shifts if frames is None else np.asarray(np.einsum("nij,nj->ni", frames, shifts))


def _rotations(table: Table, frames: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    rotations = rotations_of(table.numbers(ANGLES)) if table.has(ANGLES) else None
    if frames is None or rotations is None:
        return frames if rotations is None else rotations
    return np.asarray(frames @ rotations)


def _center_kind(table: Table, center: str | None, where: object = None) -> str:
    """Origin of centered coordinates: that of the caller, else that of the file, else half."""
    kind = center or table.blocks.get(OWN, {}).get(CENTER, ["half"])[0]
    if kind not in ("half", "half-1"):
        raise RequestError(
            where or table.path, f"has coordinates from the center {kind!r}", "it is half or half-1"
        )
    return kind


def _centers(
    path: Path,
    tomogram: Frame | None,
    names: list[str] | None,
    metadata: Mapping[str, Mapping[str, list[str]]],
) -> NDArray[np.float64]:
    """Center (x, y, z) in Å of the tomogram of each particle, or of the single tomogram."""
    offset = 1 if metadata[OWN][CENTER] == ["half-1"] else 0
    if tomogram is None:
        message = "has coordinates from the center of the tomogram, whose size is not known"
        raise RequestError(path, message, "pass --tomogram T, the tomogram or its header")
    if isinstance(tomogram, Volume):
        _check_single(path, names)
        return np.asarray((np.array(tomogram.shape[::-1]) / 2 - offset) * tomogram.voxel_size)
    if names is None:  # the list has the name of its tomogram
        volume = volume_of(path, stem(path), tomogram)
        return np.asarray((np.array(volume.shape[::-1]) / 2 - offset) * volume.voxel_size)
    volumes = {name: volume_of(path, name, tomogram) for name in set(names)}
    center = {n: (np.array(v.shape[::-1]) / 2 - offset) * v.voxel_size for n, v in volumes.items()}
    return np.array([center[name] for name in names], dtype=np.float64).reshape(-1, 3)


def _check_single(path: Path, names: list[str] | None) -> None:
    """Raise an error if a list of several tomograms is read with a single tomogram."""
    if len({plain_name(name) for name in names or ()}) > 1:
        message = f"names several tomograms ({listed(names or ())}), each of which has its own center"
        raise RequestError(path, message, "pass --tomogram FOLDER, the folder that holds all of them")


def _pixel_sizes(table: Table, tomogram: Frame | None, voxel_size: float | None) -> Any:
    """Å per pixel of the coordinates, one for all or (n, 1)."""
    if voxel_size is not None:
        return voxel_size
    sizes = _file_sizes(table, SIZES)
    if sizes is not None:
        return sizes
    if isinstance(tomogram, Volume):
        _check_single(table.path, table.names)
        return tomogram.voxel_size
    if tomogram is not None:
        names = table.names or [stem(table.path)] * len(table)
        voxels = [volume_of(table.path, name, tomogram).voxel_size for name in names]
        return np.array(voxels, dtype=np.float64).reshape(-1, 1)
    message = "has coordinates in pixels of unknown size"
    raise RequestError(table.path, message, "pass --voxel-size A, the size of those pixels in Å")


def _file_sizes(table: Table, tags: list[str]) -> NDArray[np.float64] | None:
    """The first pixel size in the file, (n, 1) in Å."""
    for tag in tags:
        sizes = table.per_particle(tag)
        if sizes is not None:
            return sizes
    detector, magnification = (table.per_particle(tag) for tag in DETECTOR)
    # in µm at the detector with a magnification, in Å without
    return detector if detector is None or magnification is None else detector * 1e4 / magnification


def _shifts(table: Table, pixels: Any) -> NDArray[np.float64] | None:
    """Shifts in Å, (n, 3)."""
    if table.has(SHIFTS):
        return table.numbers(SHIFTS)
    if not table.has(PIXEL_SHIFTS):
        return None
    shifts = table.numbers(PIXEL_SHIFTS)
    sizes = _file_sizes(table, [IMAGE_SIZE, *SIZES])
    sizes = pixels if sizes is None else sizes
    if sizes is None and shifts.any():
        message = "has shifts rlnOriginX in pixels of unknown size"
        raise RequestError(table.path, message, "pass --voxel-size A, the size of those pixels in Å")
    return np.asarray(shifts * (1.0 if sizes is None else sizes))


def _check_finite(path: Path, positions: NDArray[np.float64]) -> None:
    invalid = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(invalid):
        raise RequestError(path, f"particle {invalid[0] + 1} has no finite coordinates", "correct the file")


def _species(table: Table, species: str | None) -> list[str]:
    if SPECIES in table.columns:
        return table.columns[SPECIES]
    classes = table.columns.get("rlnClassNumber", [])
    if species is None and len(set(classes)) > 1:
        return [f"class{number}" for number in classes]
    return [species or "particle"] * len(table)


def _written_pixels(
    table: Table, tomogram: Frame | None, voxel_size: float | None, star_version: StarVersion
) -> Any:
    """Å per pixel of the coordinates to write."""
    if voxel_size is not None:
        return voxel_size
    sizes = None
    if star_version == "relion4" and "optics" in _blocks(table, star_version):
        sizes = table.per_particle(SERIES_SIZE)
    if sizes is not None:
        return sizes
    volumes = [tomogram] if isinstance(tomogram, Volume) else list((tomogram or {}).values())
    if len({volume.voxel_size for volume in volumes}) == 1:
        return volumes[0].voxel_size
    problem = "whose size is not known" if not volumes else "of which the tomograms have several sizes"
    message = f"{star_version} STAR has coordinates in pixels, {problem}"
    raise RequestError(table.path, message, "pass --voxel-size A, the size of those pixels in Å")


def _optics(optics: Columns | None, star_version: StarVersion, pixels: Any) -> Columns:
    """The optics groups with the pixel size of the written coordinates."""
    if optics is None:
        tag = IMAGE_SIZE if star_version == "relion3" else SERIES_SIZE
        return {GROUP: ["1"], "rlnOpticsGroupName": ["opticsGroup1"], tag: [f"{pixels:.8g}"]}
    if np.ndim(pixels):  # sizes of the groups
        return optics
    return optics | {SERIES_SIZE: [f"{pixels:.8g}"] * len(optics[GROUP])}


def _scores(particles: Particles) -> list[str]:
    return [f"{float(score):.9g}" for score in particles.scores]


def _named(particles: Particles, name: str | None, star_version: StarVersion) -> Columns:
    tag = "rlnMicrographName" if star_version == "relion3" else "rlnTomoName"
    if particles.tomograms is not None:
        return {tag: [str(name) for name in particles.tomograms]}
    if name is None:
        return {}
    return {tag: [name if star_version == "relion3" else name.removeprefix("rec_")] * len(particles)}
