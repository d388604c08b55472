"""Lists of tomograms of TOMOMAN, which number them for STOPGAP, TOM and Dynamo.

TOMOMAN keeps its tomolist as a file of MATLAB, which is not read. Read are the text forms that it and STOPGAP
use: lines with a number and the file of a tomogram, or a STAR file with a column of numbers (`tomo_num`) and
one of names (`tomo_name`, `stack_dir`, `stack_name`), with or without the prefix `tomoman_`. They follow
public descriptions (https://github.com/wan-lab-vanderbilt/TOMOMAN); no file of others was at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import ending, read_text
from cryovox.formats.particles.star_table import read_blocks
from cryovox.formats.tomogram_names import listed, plain_name

PREFIX = "tomoman_"
NUMBER = "tomo_num"
NAMES = ("tomo_name", "stack_dir", "stack_name", "dose_filtered_stack_name")
COLUMNS = (NUMBER, "tomo")
"""Columns of particle lists with numbers of tomograms."""
REMEDY = "write lines with a number and the file of a tomogram, as `sg_extract_make_tomolist` of TOMOMAN does"


def read(path: Path) -> dict[int, str]:
    """Names of tomograms by number."""
    if ending(path) == ".mat":
        raise RequestError(path, "is a file of MATLAB, which is not read", REMEDY)
    pairs = _of_star(path) if ending(path) == ".star" else _of_text(path)
    names: dict[int, str] = {}
    for number, name in pairs:
        if not number.isdigit():
            raise RequestError(path, f"has {number!r} where the number of a tomogram is expected", REMEDY)
        if names.setdefault(int(number), name) != name:
            message = f"gives tomogram {number} two names: {names[int(number)]} and {name}"
            raise RequestError(path, message, "correct the file")
    if not names:
        raise RequestError(path, "lists no tomograms", REMEDY)
    return names


def _of_text(path: Path) -> Iterable[tuple[str, str]]:
    for i, line in enumerate(read_text(path).splitlines(), 1):
        cells = line.split(maxsplit=1)
        if not cells or cells[0].startswith("#"):
            continue
        if len(cells) == 1:
            raise RequestError(path, f"line {i} has no name after the number", REMEDY)
        yield cells[0], plain_name(cells[1].strip())


def _of_star(path: Path) -> Iterable[tuple[str, str]]:
    for block in read_blocks(path).values():
        columns = {tag.removeprefix(PREFIX): values for tag, values in block.items()}
        name = next((tag for tag in NAMES if tag in columns), None)
        if NUMBER in columns and name is not None:
            return zip(columns[NUMBER], map(_folder_name, columns[name]), strict=True)
    raise RequestError(path, f"has no block with {NUMBER} and one of {', '.join(NAMES)}", REMEDY)


def _folder_name(name: str) -> str:
    return plain_name(name.rstrip("/"))


def numbered(frames: Mapping[str, Volume], names: Mapping[int, str]) -> dict[str, Volume]:
    """Tomograms by name and by number."""
    known = {plain_name(key): volume for key, volume in frames.items()}
    by_number = {str(number): known[name] for number, name in names.items() if name in known}
    return {**frames, **by_number}


def named(path: Path, particles: Particles, names: Mapping[int, str]) -> Particles:
    """Particles with the names of their tomograms instead of numbers."""
    numbers = particles.tomograms
    if numbers is None:  # one number stands for all
        column = next((tag for tag in COLUMNS if tag in particles.extra), None)
        if column is None:
            return particles
        numbers = np.array([f"{float(value):g}" for value in particles.extra[column]])
    missing = sorted({n for n in numbers.tolist() if n.isdigit() and int(n) not in names})
    if missing:
        message = f"has particles of the tomograms {listed(missing)}, which the tomolist does not name"
        raise RequestError(path, message, "name the tomolist of this project")
    renamed = [names[int(n)] if n.isdigit() else n for n in numbers.tolist()]
    extra = {tag: values for tag, values in particles.extra.items() if tag not in COLUMNS}
    return replace(particles, tomograms=np.array(renamed, dtype=np.str_), extra=extra)
