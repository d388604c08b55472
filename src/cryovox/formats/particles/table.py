"""Particle lists as plain tables: CSV, TSV and columns of numbers.

`x`, `y`, `z` are in Å from the center of voxel 0, as in the CryoET Data Portal and the CZII challenge.
Files without a header have the columns x, y, z and optionally a score, or, in `.coords` files of DeepETPicker
with four columns, class, x, y, z. If the first column may be a class or an index, the file is an error. The
unit is unknown, so it is taken as Å too, unless coordinates are multiplied by a voxel size.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import ending, read_text, write_text
from cryovox.formats.angles import eulers_of, rotations_of
from cryovox.formats.particles.convention import Convention
from cryovox.formats.particles.relion import CARRIED

SPECIES = ("particle_type", "species", "particle", "class_name")
SCORE = ("score", "confidence", "probability")
TOMOGRAM = ("tomogram", "experiment", "tomo_id", "run_name")
CLASS = "class_number"
XYZ = ("x", "y", "z")
ANGLES = ("rot", "tilt", "psi")
CONVENTION = Convention(
    program="CSV, TSV, TXT",
    extensions=(".csv", ".tsv", ".txt"),
    unit="Å",
    eulers="ZYZ",
    angles=ANGLES,
    passive=True,
    score="score",
    tomogram="tomogram",
    species="particle_type",
    remark="Angles as in RELION. Other names of columns are read too; `--voxel-size` reads voxels.",
)
DELIMITERS = ("\t", ",", ";")


@dataclass(frozen=True)
class _Rows:
    """Cells of a file with the line number of each row."""

    path: Path
    names: list[str]
    cells: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """Cells of a column."""
        index = self.names.index(name)
        return [row[index] for row in self.cells]

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of several names that is a column."""
        return next((name for name in names if name in self.names), None)

    def numbers(self, names: tuple[str, ...]) -> NDArray[np.float64]:
        """Columns as finite numbers, (n, len(names))."""
        values = np.empty((len(self.cells), len(names)))
        for j, name in enumerate(names):
            cells = self.column(name)
            try:
                values[:, j] = np.array(cells, dtype=np.float64)
                usable = bool(np.isfinite(values[:, j]).all())
            except ValueError:
                usable = False
            if not usable:  # cell by cell, to name the cell in the error
                values[:, j] = [self._number(c, name, i) for c, i in zip(cells, self.lines, strict=True)]
        return values

    def _number(self, cell: str, name: str, line: int) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            message = f"line {line}, column {name}: {cell!r} is not a number"
            raise RequestError(self.path, message, "correct the file")
        return value


def read(
    path: Path,
    *,
    tomogram: Volume | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Read a table.

    Parameters
    ----------
    path
        File whose cells are separated by tabs, commas, semicolons or spaces.
    tomogram
        Not used.
    voxel_size
        Å per unit of x, y and z; 1 by default.
    species
        Species if no column names it; "particle" by default.
    """
    rows = _rows(path)
    missing = [name for name in XYZ if name not in rows.names]
    if missing:
        message = f"has no column {missing[0]} (columns: {', '.join(rows.names)})"
        raise RequestError(path, message, "name the columns x, y, z, in Å")
    score, kind, source = rows.first(SCORE), rows.first(SPECIES), rows.first(TOMOGRAM)
    has_angles = all(name in rows.names for name in ANGLES)
    picks = Particles.of(
        rows.numbers(XYZ)[:, ::-1] * (1.0 if voxel_size is None else voxel_size),
        _species(rows, kind, species),
        scores=None if score is None else rows.numbers((score,))[:, 0],
        rotations=rotations_of(rows.numbers(ANGLES)) if has_angles else None,
        tomograms=None if source is None else rows.column(source),
    )
    used = {*XYZ, score, kind, source} | (set(ANGLES) if has_angles else set())
    extra = {n: np.asarray(rows.column(n), dtype=np.str_) for n in rows.names if n not in used}
    return replace(picks, extra=extra)


def _species(rows: _Rows, kind: str | None, species: str | None) -> str | list[str]:
    if kind is not None:
        return rows.column(kind)
    if species is None and CLASS in rows.names:
        return [f"class{number}" for number in rows.column(CLASS)]
    return species or "particle"


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Volume | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> None:
    """Write x, y, z in Å with four decimals, particle_type, score and all other columns.

    Parameters
    ----------
    path
        Output file; cells are separated by tabs in .tsv files and by commas in others.
    particles
        Particles to write.
    tomogram
        Not used.
    voxel_size
        Å per unit of x, y and z; 1 by default.
    tomogram_name
        Tomogram of particles that name none.
    """
    units = particles.positions[:, ::-1] / (1.0 if voxel_size is None else voxel_size)
    columns: dict[str, list[Any]] = {n: [f"{v:.4f}" for v in units[:, i]] for i, n in enumerate(XYZ)}
    columns["particle_type"] = particles.species.tolist()
    columns["score"] = [f"{float(score):.9g}" for score in particles.scores]
    if particles.rotations is not None:
        eulers = eulers_of(particles.rotations)
        columns |= {name: [f"{v:.6f}" for v in eulers[:, i]] for i, name in enumerate(ANGLES)}
    if particles.tomograms is not None:
        columns["tomogram"] = particles.tomograms.tolist()
    elif tomogram_name is not None:
        columns["tomogram"] = [tomogram_name] * len(particles)
    written = {*columns, *SPECIES, *SCORE, *TOMOGRAM, *CARRIED}
    columns |= {name: list(values) for name, values in particles.extra.items() if name not in written}
    text = StringIO()
    is_tsv = ".tsv" in [suffix.lower() for suffix in path.suffixes]
    writer = csv.writer(text, delimiter="\t" if is_tsv else ",", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_text(path, text.getvalue())


def _rows(path: Path) -> _Rows:
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip() and line[0] != "#"), "")
    if not first or "\0" in text:
        raise RequestError(
            path, "is empty" if not text.strip() else "is not a table", "write a line `x,y,z` first"
        )
    rows, lines = _cells(path, text, next((d for d in DELIMITERS if d in first), None))
    if _is_number(rows[0][0]):
        names = _default_names(path, rows)
    else:
        names = [name.lower() if name.lower() in (*XYZ, *ANGLES) else name for name in rows[0]]
        rows, lines = rows[1:], lines[1:]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise RequestError(path, f"has two columns {duplicate!r}", "rename one of them")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise RequestError(
                path, f"line {line} has {len(row)} cells, not {len(names)}", "correct the file"
            )
    return _Rows(path, names, rows, lines)


def _default_names(path: Path, rows: list[list[str]]) -> list[str]:
    """Names of the columns of a file without a header."""
    width = len(rows[0])
    if width == 4 and ending(path) == ".coords":
        return [CLASS, *XYZ]
    scores = [row[3] for row in rows if len(row) > 3]
    in_range = all(_is_number(cell) and abs(float(cell)) <= 1 for cell in scores)
    if scores and not in_range and all(_is_integer(row[0]) for row in rows):
        message = (
            f"has {width} columns of numbers and no header line: the first may be x, a class or an index"
        )
        raise RequestError(path, message, "write a line such as `x,y,z,score` or `class_number,x,y,z` first")
    return ([*XYZ, "score"] + [f"column{i}" for i in range(5, width + 1)])[:width]


def _is_integer(cell: str) -> bool:
    return _is_number(cell) and float(cell).is_integer()


def _cells(path: Path, text: str, delimiter: str | None) -> tuple[list[list[str]], list[int]]:
    """Cells of all lines that are neither blank nor comments, and the line numbers."""
    if delimiter is None:
        rows = [(i, line.split()) for i, line in enumerate(text.splitlines(), 1)]
    else:
        reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
        except csv.Error as error:
            raise RequestError(path, f"line {reader.line_num}: {error}", "correct the file") from None
    kept = [(i, row) for i, row in rows if any(row) and not row[0].startswith("#")]
    return [row for _, row in kept], [i for i, _ in kept]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
