"""Names of tomograms and species in formats that number them.

Dynamo, STOPGAP and TOM number tomograms and classes. A number is written for each name, and where it does not
say the name, the names are written beside the file as `FILE.names.yaml`, which is read with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.safe_yaml import load_yaml
from cryovox.formats import write_text

if TYPE_CHECKING:
    from cryovox.formats.particles.convention import Convention

Kind = Literal["tomograms", "species"]
CLASS = re.compile(r"class(\d+)")
UNNAMED = "particle"
"""Species of particles in a list that names none."""


@dataclass(frozen=True)
class Names:
    """Number -> name of tomograms and species."""

    tomograms: Mapping[int, str] = field(default_factory=dict)
    species: Mapping[int, str] = field(default_factory=dict)


def beside(path: Path) -> Path:
    """The file with the names of a particle list."""
    return path.with_name(path.name + ".names.yaml")


def read(path: Path) -> Names:
    """Names beside a list; empty if there are none."""
    file = beside(path)
    if not file.is_file():
        return Names()
    try:
        content = load_yaml(file.read_text("utf-8"))
        return Names(**{kind: {int(k): str(v) for k, v in content[kind].items()} for kind in content})
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise RequestError(file, f"holds no names ({error})", "delete it, or correct it") from None


def write(path: Path, numbered: Names) -> None:
    """Write the names beside a list; names from an earlier list of that name are removed."""
    content = {kind: dict(table) for kind in ("tomograms", "species") if (table := getattr(numbered, kind))}
    if content:
        write_text(beside(path), yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    else:
        beside(path).unlink(missing_ok=True)


def tomograms_of(column: Any, numbered: Names, numbers: str) -> list[str] | None:
    """Tomogram of each particle; None if a single unnamed number stands for all of them."""
    if column is not None and numbers == "never":
        return _texts(column)
    if column is None or not len(column):
        return None
    plain = [_plain(value) for value in column]
    known = {str(number): name for number, name in numbered.tomograms.items()}
    if not known and len(set(plain)) == 1 and plain[0].isdigit():
        return None
    return [known.get(value, value) for value in plain]


def numbers_in(column: Any, tomograms: Mapping[str, Any]) -> list[str] | None:
    """Tomogram of each particle, if their numbers are the names of tomograms at hand."""
    plain = [] if column is None else [_plain(value) for value in column]
    return plain if plain and set(plain) <= set(tomograms) else None


def species_of(column: Any, numbered: Names, species: str | None, n: int, numbers: str) -> list[str]:
    """Species of each particle: named, by class if there are several, else *species* or "particle"."""
    if numbers == "never" and column is not None:
        return _texts(column)
    plain = [""] * n if column is None else [_plain(value) for value in column]
    known = {str(number): name for number, name in numbered.species.items()}
    if column is None and len(known) == 1:
        return list(known.values()) * n
    if known or any(value and not value.lstrip("-").isdigit() for value in plain):
        return [known.get(value, value) for value in plain]
    if species is None and len(set(plain)) > 1:
        return [f"class{value}" for value in plain]
    return [species or UNNAMED] * n


def listed(particles: Particles, tomogram_name: str | None) -> list[str] | None:
    """Tomogram of each particle, or the name of all of them."""
    if particles.tomograms is not None:
        return particles.tomograms.tolist()
    return None if tomogram_name is None else [tomogram_name] * len(particles)


def columns(
    particles: Particles, sources: list[str] | None, convention: Convention
) -> tuple[dict[str, Any], Names]:
    """Columns of tomograms and species as a convention has them, and the names behind their numbers."""
    n, result, numbered = len(particles), {}, Names()
    kinds: list[str] = particles.species.tolist()
    rows: tuple[tuple[Kind, str, list[str] | None], ...] = (
        ("tomograms", convention.tomogram, sources),
        ("species", convention.species, kinds),
    )
    for kind, tag, values in rows:
        if tag and convention.numbers == "written":
            previous = particles.extra.get(tag) if values is None else None
            result[tag], numbered = numbers_of(values, previous, kind, numbered, n)
        elif tag and values is not None:
            result[tag] = np.array(values, dtype=np.str_)
    return result, numbered


def numbers_of(
    values: Sequence[str] | None,
    previous: NDArray[Any] | None,
    kind: Kind,
    numbered: Names,
    n: int,
) -> tuple[NDArray[np.int64], Names]:
    """A number for each name, and *numbered* with the names that the numbers do not say."""
    if values is None:
        kept = np.ones(n) if previous is None else np.asarray(previous, dtype=np.float64)
        return kept.astype(np.int64), numbered
    unique = list(dict.fromkeys(values))
    plain = {name: _number(name, kind) for name in unique}
    distinct = None not in plain.values() and len(unique) == len(set(plain.values()))
    if distinct and (len(unique) > 1 or unique == [UNNAMED]):
        numbers = {name: int(number or 0) for name, number in plain.items()}
    else:
        numbers = {name: i for i, name in enumerate(unique, 1)}
        numbered = replace(numbered, **{kind: {number: name for name, number in numbers.items()}})
    return np.array([numbers[value] for value in values], dtype=np.int64), numbered


def _number(name: str, kind: str) -> int | None:
    """The number that a name stands for without a table: tomogram "160", species "class3"."""
    match = CLASS.fullmatch(name) if kind == "species" else re.fullmatch(r"(\d+)", name)
    return int(match[1]) if match else 1 if (kind, name) == ("species", "particle") else None


def _texts(column: Any) -> list[str]:
    texts: list[str] = np.asarray(column, dtype=np.str_).tolist()
    return texts


def _plain(value: Any) -> str:
    """Text of a value; whole numbers without decimals."""
    text = str(value)
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text
