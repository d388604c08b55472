"""Page over many tomograms: table, gallery, trends, and subsets for other commands."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from cryovox.core.atomic import replacing
from cryovox.report.doctor import Finding
from cryovox.report.figures import COLORS
from cryovox.report.page import template, text_of


@dataclass(frozen=True, slots=True)
class ProjectEntry:
    """One tomogram of a project.

    Attributes
    ----------
    folder
        Folder of results, as the user named it.
    report
        Its report page, relative to the project page; empty without one.
    counts : species -> number of picks
    numbers : column -> value
        Further numbers; None where one is unknown. The columns of a page are those of all its entries.
    findings
        Checks that did not pass.
    picture
        JPEG image; empty where the tomogram is gone.
    """

    name: str
    folder: str
    report: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    picture: bytes = b""


def write_project_page(
    path: Path, entries: Sequence[ProjectEntry], command: str = "", title: str = "Project report"
) -> None:
    """Write the page atomically as one self-contained HTML file."""
    columns = columns_of(entries)
    rows = [_row(entry, columns) for entry in entries]
    key = sha256("\n".join(f"{e.folder}/{e.name}" for e in entries).encode()).hexdigest()[:16]
    data = {"id": key, "columns": columns, "rows": [row["values"] for row in rows]}
    page = template("project.html").render(
        title=title,
        tiles=_tiles(entries),
        columns=columns,
        rows=rows,
        several=len({entry.folder for entry in entries}) > 1,
        species=[(name, COLORS[i % len(COLORS)]) for i, name in enumerate(species_of(entries))],
        data=Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")),
        script=Markup(text_of("project.js")),
        style=Markup(text_of("project.css")),
        command=command,
    )
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8")


def species_of(entries: Sequence[ProjectEntry]) -> list[str]:
    """Names of all species, in the order in which they appear."""
    return list(dict.fromkeys(name for entry in entries for name in entry.counts))


def columns_of(entries: Sequence[ProjectEntry]) -> list[str]:
    """Columns with numbers: picks, warnings, species, and further numbers.

    Examples
    --------
    >>> columns_of([ProjectEntry("a", "f", counts={"ribosome": 3}, numbers={"median score": 0.9})])
    ['picks', 'warnings', 'median score']
    """
    species = species_of(entries)
    numbers = dict.fromkeys(name for entry in entries for name in entry.numbers)
    return ["picks", "warnings", *(species if len(species) > 1 else []), *numbers]


def rows_of(entries: Sequence[ProjectEntry]) -> list[dict[str, Any]]:
    """The table as the page shows it: name, folder and the value of each column, None where unknown."""
    columns = columns_of(entries)
    return [
        {"tomogram": e.name, "folder": e.folder, **dict(zip(columns, _values(e, columns), strict=True))}
        for e in entries
    ]


def _wrong(entry: ProjectEntry) -> list[Finding]:
    return [finding for finding in entry.findings if finding.level in ("warning", "error")]


def _values(entry: ProjectEntry, columns: Sequence[str]) -> list[float | None]:
    counts = {"picks": sum(entry.counts.values()), "warnings": len(_wrong(entry))}
    known: dict[str, float | None] = {**entry.counts, **entry.numbers, **counts}
    return [_finite(known.get(column)) for column in columns]


def _row(entry: ProjectEntry, columns: Sequence[str]) -> dict[str, Any]:
    values = _values(entry, columns)
    return {
        "name": entry.name,
        "folder": entry.folder,
        "report": entry.report,
        "values": values,
        "cells": list(zip(columns, map(_cell, values), strict=True)),
        "findings": _wrong(entry),
        "picture": base64.b64encode(entry.picture).decode("ascii"),
        "alt": f"Slice of {entry.name} with {sum(entry.counts.values())} picks",
    }


def _finite(value: float | None) -> float | None:
    if value is None or not np.isfinite(value):
        return None
    return value if isinstance(value, int) else float(value)


def _cell(value: float | None) -> str:
    if value is None:
        return "\u2013"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _tiles(entries: Sequence[ProjectEntry]) -> list[tuple[str, str]]:
    """Key numbers at the top of the page."""
    counts = {name: sum(entry.counts.get(name, 0) for entry in entries) for name in species_of(entries)}
    warned = sum(any(f.level in ("warning", "error") for f in entry.findings) for entry in entries)
    tiles = [(f"{len(entries):,}", "tomograms"), (f"{sum(counts.values()):,}", "picks in total")]
    tiles += [(f"{count:,}", name) for name, count in list(counts.items())[:4] if len(counts) > 1]
    empty = sum(not sum(entry.counts.values()) for entry in entries)
    return [*tiles, (f"{empty:,}", "without picks"), (f"{warned:,}", "with warnings")]
