"""Rows of particle lists for download from a page, made by the writers of the package."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import Volume
from cryovox.formats import write_particles

UNKNOWN = "nan"
"""Cell of a column that a list lacks and another one has."""


@dataclass(frozen=True, slots=True)
class ListText:
    """A particle list in parts, so that any of its rows make a list.

    Attributes
    ----------
    head
        Text before the first row.
    rows
        One line for each particle, in their order.
    columns
        Number of columns.
    """

    head: str
    rows: Sequence[str]
    columns: int


def list_texts(picks: Mapping[str, Particles], frames: Mapping[str, Volume]) -> dict[str, ListText]:
    """One list of the picks of several tomograms, as STAR file of RELION 5 and as CSV.

    Parameters
    ----------
    picks
        By name of the tomogram.
    frames
        Tomograms by name.
    """
    named = {name: name.removeprefix("rec_") for name in picks}
    filled = _with_same_columns(list(picks.values()))
    lists = [
        replace(own, tomograms=np.full(len(own), named[name]))
        for name, own in zip(picks, filled, strict=True)
    ]
    whole = concatenate(lists)
    used = {named[name]: frames[name] for name in picks}
    if not len(whole):
        return {}
    with tempfile.TemporaryDirectory(prefix="cryovox-") as folder:
        star, table = Path(folder) / "picks.star", Path(folder) / "picks.csv"
        write_particles(star, whole, tomogram=used)
        write_particles(table, whole, tomogram=used)
        return {
            "star": _parts(star.read_text(encoding="utf-8"), len(whole)),
            "csv": _parts(table.read_text(encoding="utf-8"), len(whole)),
        }


def _parts(text: str, count: int) -> ListText:
    """A text whose last lines are the rows."""
    lines = text.rstrip("\n").split("\n")
    head, rows = lines[:-count], lines[-count:]
    is_star = head[-1].startswith("_")
    columns = int(head[-1].rpartition("#")[2]) if is_star else len(head[-1].split(","))
    return ListText("\n".join(head) + "\n", rows, columns)


def _with_same_columns(lists: Sequence[Particles]) -> list[Particles]:
    """Lists with the columns of all of them; unknown cells are `UNKNOWN`."""
    names = list(dict.fromkeys(name for own in lists if len(own) for name in own.extra))
    return [replace(own, extra={name: _column(own, name) for name in names}) for own in lists]


def _column(own: Particles, name: str) -> NDArray[np.str_]:
    if name in own.extra:
        return np.asarray(own.extra[name], dtype=np.str_)
    return np.full(len(own), UNKNOWN)
