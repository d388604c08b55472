"""Numbers per tomogram from a table: tilt range, defocus, dose, or whatever else may explain a trend."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.formats import dataset as dataset_files
from cryovox.formats import ending, read_text
from cryovox.formats.particles.star_table import read_blocks
from cryovox.formats.tomogram_names import plain_name

NAMES = ("tomogram", "name", "tomo_id", "experiment", "run_name", "rlnTomoName", "rlnMicrographName")
"""Columns that may name the tomogram, best first."""


def read_metadata(path: Path) -> dict[str, dict[str, float]]:
    """Columns with numbers, by plain name of the tomogram.

    Parameters
    ----------
    path
        CSV or TSV with a column `tomogram`; a STAR file such as tomograms.star of RELION 5; or a
        dataset.yaml, which gives the tilt range.
    """
    if ending(path) in (".yaml", ".yml") or path.is_dir():
        return _tilt_ranges(path)
    columns = _star(path) if ending(path) == ".star" else _table(path)
    name = next((name for name in NAMES if name in columns), None)
    if name is None:
        message = f"has no column that names tomograms; it has {', '.join(columns) or 'none'}"
        raise RequestError(path, message, "name the column 'tomogram'")
    numbers = {
        key: values
        for key, cells in columns.items()
        if key != name
        and (values := [_number(cell) for cell in cells])
        and any(v is not None for v in values)
    }
    if not numbers:
        raise RequestError(path, "has no column with numbers", "add a column such as defocus")
    return {
        plain_name(str(source)): {k: v for k, own in numbers.items() if (v := own[row]) is not None}
        for row, source in enumerate(columns[name])
    }


def _tilt_ranges(path: Path) -> dict[str, dict[str, float]]:
    ranges = {plain_name(e.name): e.tilt_range for e in dataset_files.read(path).entries if e.tilt_range}
    if not ranges:
        raise RequestError(path, "states no tilt_range", "add it to the entries, or name a table")
    return {
        name: {"lowest tilt (°)": low, "highest tilt (°)": high, "tilt range (°)": high - low}
        for name, (low, high) in ranges.items()
    }


def _star(path: Path) -> Mapping[str, Sequence[object]]:
    """The first block with a column of names."""
    blocks = read_blocks(path)
    return next((own for own in blocks.values() if set(NAMES) & set(own)), {})


def _table(path: Path) -> dict[str, list[str]]:
    text = read_text(path)
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    head = [cell.strip() for cell in rows[0]] if rows else []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(head):
            message = f"row {number} has {len(row)} cells, the first has {len(head)}"
            raise RequestError(path, message, "correct the table")
    return {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(head)}


def _number(cell: object) -> float | None:
    try:
        value = float(str(cell))
    except ValueError:
        return None
    return value if isfinite(value) else None
