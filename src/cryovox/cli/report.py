"""`cryovox report`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro

from cryovox.cli.interface.screen import Meter, check_json, failures, table, write_json

Folders = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DIR...")]
SHOWN = 20
"""Tomograms in the table on the screen."""


def report(
    folders: Folders,
    /,
    *,
    out: Path = Path("project.html"),
    metadata: Path | None = None,
    membrane: Path | None = None,
    subset: Path | None = None,
    pictures: bool = True,
    quiet: bool = False,
    json: Path | None = None,
) -> int:
    """Write one page over many tomograms: table, gallery, trends, and subsets for other commands.

    The page sorts tomograms by counts, scores, thickness of the lamella and warnings, and saves the names of
    selected ones to a file, which other commands take as --subset.

    Parameters
    ----------
    folders
        Output folders of find, match or pick, or folders of such folders.
    out
        The page.
    metadata
        Table (CSV, TSV, STAR) with a column 'tomogram' and numbers such as defocus, or dataset.yaml with tilt
        ranges: adds columns, against which the page plots trends.
    membrane
        Mask of membranes, or folder of masks named after the tomograms: adds the distance of picks to them.
    subset
        File with the names of the tomograms to show.
    pictures
        Show a slice of each tomogram.
    quiet
        Suppress progress output.
    json
        Write the table to this JSON file.
    """
    from cryovox.report.project import columns_of, rows_of
    from cryovox.workflows.project.page import project_page

    check_json(json)
    command = shlex.join(["cryovox", *sys.argv[1:]])
    entries, failed = project_page(
        folders,
        out,
        metadata=metadata,
        membrane=membrane,
        subset=subset,
        pictures=pictures,
        command=command,
        on_progress=Meter(quiet),
    )
    columns = columns_of(entries)
    rows = rows_of(entries)
    shown = [c for c in columns if c in ("picks", "median score", "lamella (nm)", "warnings")]
    cells = [[row["tomogram"], *("" if row[c] is None else row[c] for c in shown)] for row in rows]
    print(table(["tomogram", *shown], cells[:SHOWN]))
    if len(rows) > SHOWN:
        print(f"... and {len(rows) - SHOWN} more")
    write_json(json, rows)
    print(f"page: {out}")
    print("next: open it, save a subset, and run cryovox find TOMOGRAMS --subset subset.txt --out OUT")
    return failures(failed)
