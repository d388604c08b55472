"""STAR particle lists as RELION 3, 4 and 5, Warp and M write them.

Conventions, all turned into ours (Å from the centre of voxel 0) here and nowhere else:

- `rlnCenteredCoordinate{X,Y,Z}Angst` (RELION 5) counts Å from the centre of the tomogram: n / 2 voxels
  on an axis of n by default, as in RELION's C++ programs; its Python pickers use n / 2 - 1, which is
  `centre="half-1"`. What we wrote is recorded in the block `data_cryovox` and honoured on reading. Where one
  file spans several tomograms, all are taken to have the shape of the one that is given.
- `rlnCoordinate{X,Y,Z}` counts pixels, in RELION 4 and 5 those of the tilt series before any binning.
- `rlnOrigin{X,Y,Z}Angst` (Å) or `rlnOrigin{X,Y,Z}` (pixels) is subtracted.
- Angles are those of :mod:`cryovox.formats.angles`; `rlnTomoSubtomogram{Rot,Tilt,Psi}` turns the
  subtomogram, with its shift, into the tomogram.

`rlnPixelSize` is not taken for the pixel of the coordinates: programs disagree on what it means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gemmi import cif
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_text, write_text
from cryovox.formats.angles import eulers_of, rotations_of

Flavour = Literal["relion5", "relion4", "relion3"]
Centre = Literal["half", "half-1"]
Columns = dict[str, list[str]]

VERSIONS = {"relion5": "50001", "relion4": "30001", "relion3": "30001"}
PIXELS = [f"rlnCoordinate{axis}" for axis in "XYZ"]
CENTRED = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
SHIFTS = [f"rlnOrigin{axis}Angst" for axis in "XYZ"]
PIXEL_SHIFTS = [f"rlnOrigin{axis}" for axis in "XYZ"]
ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
FRAMES = [f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]
SIZES = ["rlnTomoTiltSeriesPixelSize", "rlnMicrographPixelSize", "rlnImagePixelSize"]
DETECTOR = ["rlnDetectorPixelSize", "rlnMagnification"]
SCORE, SPECIES, GROUP = "rlnAutopickFigureOfMerit", "cryovoxSpecies", "rlnOpticsGroup"
GEOMETRY = {*PIXELS, *CENTRED, *SHIFTS, *PIXEL_SHIFTS, *ANGLES, *FRAMES, *SIZES, *DETECTOR}
PLAIN = re.compile(r"(?!data_|loop_|save_|stop_|global_|[.?]$)[^\s'\"#$_;]\S*", re.IGNORECASE)
ESCAPED = re.compile(r"&#(\d+);")


@dataclass(frozen=True)
class _Table:
    """The particles of a file and what its other blocks say of them."""

    path: Path
    columns: Columns
    optics: Columns
    centre: Centre

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def has(self, tags: list[str]) -> bool:
        """Whether all columns are there; some of several is an error of the file."""
        found = [tag for tag in tags if tag in self.columns]
        if found and len(found) < len(tags):
            missing = ", ".join(sorted(set(tags) - set(found)))
            raise RequestError(self.path, f"has {found[0]} but no {missing}", "add the missing column")
        return bool(found)

    def numbers(self, tags: list[str]) -> NDArray[np.float64]:
        """(n, len(tags)) values."""
        return np.stack([_numbers(self.path, tag, self.columns[tag]) for tag in tags], axis=1)


def read(
    path: Path,
    *,
    tomogram: Volume | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
    centre: Centre | None = None,
) -> Particles:
    """Read a particle list.

    Parameters
    ----------
    path
        A file with `rlnCoordinate` or `rlnCenteredCoordinate` columns in any block.
    tomogram
        Needed where the file counts from the centre.
    voxel_size
        Å per pixel of `rlnCoordinate`; wins over the file, which wins over *tomogram*.
    species
        Name, where the file has no column `cryovoxSpecies`; without it several values of
        `rlnClassNumber` become `class1`, `class2` ..., and one becomes `particle`.
    centre
        What counts as the centre, where the file does not say so; "half" by default.
    """
    table = _table(path, centre)
    if table.has(CENTRED):
        positions = table.numbers(CENTRED) + _centre(path, tomogram, table.centre)
        pixels = None
    else:
        table.has(PIXELS)
        pixels = _pixel_sizes(table, tomogram, voxel_size)
        positions = table.numbers(PIXELS) * pixels
    frames = rotations_of(table.numbers(FRAMES)) if table.has(FRAMES) else None
    shifts = _shifts(table, pixels)
    if shifts is not None:
        positions = positions - (shifts if frames is None else np.einsum("nij,nj->ni", frames, shifts))
    rotations = rotations_of(table.numbers(ANGLES)) if table.has(ANGLES) else None
    if frames is not None:
        rotations = frames if rotations is None else frames @ rotations
    _check_finite(path, positions)
    score = next((tag for tag in (SCORE, "rlnLCCmax") if tag in table.columns), None)
    name = next((tag for tag in ("rlnTomoName", "rlnMicrographName") if tag in table.columns), None)
    found = Particles.of(
        positions[:, ::-1],
        _species(table, species),
        scores=None if score is None else table.numbers([score])[:, 0],
        rotations=rotations,
        tomograms=None if name is None else table.columns[name],
    )
    used = GEOMETRY | {SCORE, SPECIES, GROUP, name}
    extra = {tag: np.asarray(v, dtype=np.str_) for tag, v in table.columns.items() if tag not in used}
    return replace(found, extra=extra)


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Volume | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
    flavour: Flavour = "relion5",
    centre: Centre = "half",
) -> None:
    """Write a particle list.

    Parameters
    ----------
    path
        Where to.
    particles
        Their extra columns are written as they are, except those that would speak of the geometry again.
    tomogram
        Needed for "relion5", which counts from its centre.
    voxel_size
        Å per pixel of `rlnCoordinate`, for RELION 4 that of the tilt series; that of *tomogram* by default.
    tomogram_name
        Name for particles that name none; `rec_`, which RELION puts before file names, is taken off.
    flavour
        "relion5": Å from the centre and `rlnTomoName`. "relion4": pixels and `rlnTomoName`. "relion3":
        pixels and `rlnMicrographName`, which Warp and M read too.
    centre
        "half" or "half-1", see above.
    """
    if flavour not in VERSIONS:
        raise RequestError("--flavour", f"is {flavour!r}", f"there are: {', '.join(VERSIONS)}")
    if centre not in ("half", "half-1"):
        raise RequestError("--centre", f"is {centre!r}", "there are: half, half-1")
    xyz = particles.positions[:, ::-1]
    blocks: dict[str, Columns] = {}
    if flavour == "relion5":
        blocks["cryovox"] = {"cryovoxCentre": [centre]}
        columns = _formatted(CENTRED, xyz - _centre(path, tomogram, centre), 4)
    else:
        pixel = voxel_size if voxel_size is not None else tomogram.voxel_size if tomogram else None
        if pixel is None:
            told = f"{flavour} STAR counts in pixels, whose size is not known"
            raise RequestError(path, told, "pass --voxel-size A, the size of those pixels in Å")
        blocks["optics"] = _optics(flavour, pixel)
        columns = _formatted(PIXELS, xyz / pixel, 6)
        columns[GROUP] = ["1"] * len(particles)
    name = "rlnMicrographName" if flavour == "relion3" else "rlnTomoName"
    columns = _named(name, particles, tomogram_name, flavour) | columns
    if particles.rotations is not None:
        columns |= _formatted(ANGLES, eulers_of(particles.rotations), 6)
    columns[SCORE] = [f"{float(score):.9g}" for score in particles.scores]
    columns[SPECIES] = [str(species) for species in particles.species]
    for tag, values in particles.extra.items():
        if tag not in GEOMETRY and tag not in columns and tag != GROUP:
            columns[tag.replace(" ", "_")] = [str(value) for value in values]
    blocks["particles"] = columns
    text = "".join(_block(block, table, VERSIONS[flavour]) for block, table in blocks.items())
    write_text(path, text)


def _table(path: Path, centre: Centre | None) -> _Table:
    text = read_text(path)
    try:  # the parser takes ASCII only
        document = cif.read_string(text.encode("ascii", "xmlcharrefreplace").decode())
    except (ValueError, RuntimeError) as error:
        raise RequestError(
            path, f"is not a STAR file ({error})", "check that this is the file you meant"
        ) from None
    blocks = {block.name.strip(): _columns(block, escaped=not text.isascii()) for block in document}
    recorded: Any = blocks.get("cryovox", {}).get("cryovoxCentre", ["half"])[0]
    for columns in blocks.values():
        if set(columns) & {*PIXELS, *CENTRED}:
            table = _Table(path, columns, blocks.get("optics", {}), centre or recorded)
            if table.centre not in ("half", "half-1"):
                raise RequestError(path, f"counts from the centre {table.centre!r}", "it is half or half-1")
            return table
    listed = ", ".join(f"data_{name}" for name in blocks) or "none"
    told = f"holds no particle coordinates (blocks: {listed})"
    raise RequestError(path, told, "name the file with rlnCoordinateX or rlnCenteredCoordinateXAngst")


def _columns(block: Any, escaped: bool = False) -> Columns:
    raw: Columns = {}
    for item in block:
        if item.pair is not None:
            raw[item.pair[0].lstrip("_")] = [item.pair[1]]
        elif item.loop is not None:
            values, width = item.loop.values, item.loop.width()
            raw |= {tag.lstrip("_"): values[i::width] for i, tag in enumerate(item.loop.tags)}
    return {tag: [_plain(value, escaped) for value in values] for tag, values in raw.items()}


def _plain(value: str, escaped: bool) -> str:
    if value[:1] in ("'", '"', ";"):
        value = cif.as_string(value)
    return ESCAPED.sub(lambda match: chr(int(match[1])), value) if escaped else value


def _numbers(path: Path, tag: str, values: list[str]) -> NDArray[np.float64]:
    try:
        return np.array(values, dtype=np.float64)
    except ValueError:
        for row, value in enumerate(values, 1):
            try:
                float(value)
            except ValueError:
                told = f"particle {row}: {tag} is {value!r}, not a number"
                raise RequestError(path, told, "mend the file") from None
        raise


def _centre(path: Path, tomogram: Volume | None, centre: Centre) -> NDArray[np.float64]:
    """(x, y, z) of the centre of the tomogram in Å."""
    if tomogram is None:
        told = "counts coordinates from the centre of the tomogram, whose size is not known"
        raise RequestError(path, told, "pass --tomogram T, the tomogram or its header")
    voxels = np.array(tomogram.shape[::-1]) / 2 - (1 if centre == "half-1" else 0)
    return np.asarray(voxels * tomogram.voxel_size, dtype=np.float64)


def _pixel_sizes(table: _Table, tomogram: Volume | None, voxel_size: float | None) -> Any:
    """Å per pixel, one for all or (n, 1)."""
    if voxel_size is not None:
        return voxel_size
    for tag in SIZES:
        sizes = _of_particles(table, tag)
        if sizes is not None:
            return sizes
    detector, magnification = (_of_particles(table, tag) for tag in DETECTOR)
    if detector is not None:  # in µm at the detector, or, without a magnification, in Å
        return detector if magnification is None else detector * 1e4 / magnification
    if tomogram is not None:
        return tomogram.voxel_size
    told = "counts coordinates in pixels and does not say their size"
    raise RequestError(table.path, told, "pass --voxel-size A, the size of those pixels in Å")


def _of_particles(table: _Table, tag: str) -> NDArray[np.float64] | None:
    """(n, 1) values of a column of the particles, or of their optics groups; None unless all positive."""
    if tag in table.columns:
        values = table.numbers([tag])
    elif tag in table.optics:
        given = _numbers(table.path, tag, table.optics[tag])
        groups = table.optics.get(GROUP, [str(i + 1) for i in range(len(given))])
        of_group = dict(zip(groups, given, strict=True))
        chosen = table.columns.get(GROUP, groups[:1] * len(table))
        unknown = set(chosen) - set(of_group)
        if unknown:
            told = f"particles name optics group {min(unknown)}, which data_optics lacks"
            raise RequestError(table.path, told, "pass --voxel-size A, the size of a pixel in Å")
        values = np.array([of_group[group] for group in chosen], dtype=np.float64).reshape(-1, 1)
    else:
        return None
    return values if (values > 0).all() and np.isfinite(values).all() else None


def _shifts(table: _Table, pixels: Any) -> NDArray[np.float64] | None:
    if table.has(SHIFTS):
        return table.numbers(SHIFTS)
    if pixels is not None and table.has(PIXEL_SHIFTS):
        return np.asarray(table.numbers(PIXEL_SHIFTS) * pixels)
    return None


def _check_finite(path: Path, positions: NDArray[np.float64]) -> None:
    broken = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(broken):
        raise RequestError(path, f"particle {broken[0] + 1} has no finite coordinates", "mend the file")


def _species(table: _Table, species: str | None) -> list[str]:
    if SPECIES in table.columns:
        return table.columns[SPECIES]
    classes = table.columns.get("rlnClassNumber", [])
    if species is None and len(set(classes)) > 1:
        return [f"class{number}" for number in classes]
    return [species or "particle"] * len(table)


def _optics(flavour: Flavour, pixel: float) -> Columns:
    tag = "rlnImagePixelSize" if flavour == "relion3" else "rlnTomoTiltSeriesPixelSize"
    size = f"{pixel:.8g}"
    return {GROUP: ["1"], "rlnOpticsGroupName": ["opticsGroup1"], tag: [size]}


def _named(tag: str, particles: Particles, given: str | None, flavour: Flavour) -> Columns:
    if particles.tomograms is not None:
        return {tag: [str(name) for name in particles.tomograms]}
    if given is None:
        return {}
    return {tag: [given if flavour == "relion3" else given.removeprefix("rec_")] * len(particles)}


def _formatted(tags: list[str], values: NDArray[np.float64], digits: int) -> Columns:
    return {tag: [f"{v:.{digits}f}" for v in values[:, i]] for i, tag in enumerate(tags)}


def _block(name: str, columns: Mapping[str, list[str]], version: str) -> str:
    lines = [f"# version {version}", "", f"data_{name}", "", "loop_"]
    lines += [f"_{tag} #{i}" for i, tag in enumerate(columns, 1)]
    quoted = [[v if PLAIN.fullmatch(v) else cif.quote(v) for v in column] for column in columns.values()]
    lines += ["  ".join(row) for row in zip(*quoted, strict=True)]
    return "\n".join([*lines, "", ""])
