"""Blocks of STAR files as text, and the table of particles among them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.formats import decoded, read_bytes
from cryovox.formats.particles import star_loops
from cryovox.formats.particles.cells import as_numbers, rows_text
from cryovox.formats.particles.convention import usable
from cryovox.formats.particles.relion import ANGLES, CENTERED, FRAMES, GROUP, PIXELS, SCORE, SHIFTS

Columns = dict[str, Any]
"""Column -> list of text, `Texts` or `Numbers`."""
SAMPLE = 1 << 12
"""Cells of which most differ in a column that is kept as bytes."""
CHUNK = 1 << 15
"""Rows that are text at a time while a file is written."""

NUMBERS = {*PIXELS, *CENTERED, *ANGLES, *FRAMES, *SHIFTS, SCORE}
"""Columns whose text is not kept."""
NAMES = ("rlnTomoName", "rlnMicrographName")
PLAIN = re.compile(r"(?!data_|loop_|save_|stop_|global_|[.?]$)[^\s'\"#$_;]\S*", re.IGNORECASE)
ESCAPED = re.compile(r"&#(\d+);")


@dataclass(frozen=True, eq=False)
class Numbers:
    """A column of numbers, which become text where they are used.

    Attributes
    ----------
    values : (n,)
    form
        Format of a number, as behind a percent sign; "r" keeps all digits.
    """

    values: NDArray[np.float64]
    form: str = ".6f"

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> Any:
        """Text of a row, or of the rows of a slice."""
        if not isinstance(rows, slice):
            return f"%{self.form}" % float(self.values[rows])
        return list(map(f"%{self.form}".__mod__, self.values[rows].tolist()))

    def __iter__(self) -> Iterator[str]:
        return iter(self[:])


@dataclass(frozen=True, eq=False)
class Texts:
    """A column of text as bytes, which takes less memory than strings; its cells are strings."""

    values: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> Any:
        """A cell, or the cells of a slice."""
        if not isinstance(rows, slice):
            return self.values[rows].decode()
        return [value.decode() for value in self.values[rows].tolist()]

    def __iter__(self) -> Iterator[str]:
        return iter(self[:])


@dataclass(frozen=True)
class Table:
    """The table of particles of a file, and its other blocks."""

    path: Path
    columns: Columns
    blocks: Mapping[str, Mapping[str, list[str]]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def name_tag(self) -> str | None:
        """The column with the names of tomograms."""
        return next((tag for tag in NAMES if tag in self.columns), None)

    @property
    def names(self) -> list[str] | None:
        """Name of the tomogram of each particle."""
        return None if self.name_tag is None else self.columns[self.name_tag]

    def take(self, rows: NDArray[np.bool_]) -> Table:
        """The table with the selected rows."""
        kept = {
            tag: Numbers(column.values[rows], column.form)
            if isinstance(column, Numbers)
            else Texts(column.values[rows])
            if isinstance(column, Texts)
            else [value for value, keep in zip(column, rows, strict=True) if keep]
            for tag, column in self.columns.items()
        }
        return replace(self, columns=kept)

    def has(self, tags: list[str]) -> bool:
        """Whether all columns are present; an incomplete set of columns is an error."""
        present = [tag for tag in tags if tag in self.columns]
        if present and len(present) < len(tags):
            missing = ", ".join(sorted(set(tags) - set(present)))
            raise RequestError(self.path, f"has {present[0]} but no {missing}", "add the missing column")
        return bool(present)

    def numbers(self, tags: list[str]) -> NDArray[np.float64]:
        """Columns as finite numbers, (n, len(tags))."""
        return np.stack([_numbers(self.path, tag, self.columns[tag]) for tag in tags], axis=1)

    def per_particle(self, tag: str) -> NDArray[np.float64] | None:
        """Values (n, 1), above 0, of a column of particles or of their optics groups; None without it."""
        optics = self.blocks.get("optics", {})
        if tag in self.columns:
            values = self.numbers([tag])
        elif tag in optics:
            sizes = _numbers(self.path, tag, optics[tag])
            groups = optics.get(GROUP, [str(i + 1) for i in range(len(sizes))])
            if len(groups) != len(sizes) or len(set(groups)) < len(groups):
                message = f"data_optics has {len(sizes)} rows and {len(set(groups))} optics groups"
                raise RequestError(self.path, message, "correct the file")
            size_of_group = dict(zip(groups, sizes, strict=True))
            used = self.columns.get(GROUP, groups[:1] * len(self))
            unknown = set(used) - set(size_of_group)
            if unknown:
                message = f"particles name optics group {min(unknown)}, which data_optics lacks"
                raise RequestError(self.path, message, "pass --voxel-size A, the size of a pixel in Å")
            values = np.array([size_of_group[group] for group in used], dtype=np.float64).reshape(-1, 1)
        else:
            return None
        if not (values > 0).all():
            message = f"{tag} is {values.min():g}, which is no size"
            raise RequestError(self.path, message, "pass --voxel-size A, the size of a pixel in Å")
        return values


def read_blocks(path: Path) -> dict[str, Columns]:
    """Read all blocks of a file by name."""
    data = read_bytes(path)
    rest, loop = star_loops.cut(data, NUMBERS)
    if loop is None:
        return _parsed(path, data)
    blocks = _parsed(path, rest)
    marked = [b for b in blocks.values() if star_loops.PLACEHOLDER in b.get(loop.tags[0], ())]
    if len(marked) != 1 or any(len(column) != 1 for column in marked[0].values()):
        return _parsed(path, data)  # rows follow after a comment
    marked[0] |= {tag: _cut_column(tag, c) for tag, c in zip(loop.tags, loop.columns, strict=True)}
    return blocks


def _parsed(path: Path, data: bytes) -> dict[str, Columns]:
    from gemmi import cif

    text = decoded(path, data)
    escaped = not text.isascii()
    if escaped:  # the parser accepts ASCII only
        text = text.replace("&#", "&#38;#").encode("ascii", "xmlcharrefreplace").decode()
    try:
        document = cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        raise RequestError(
            path, f"is not a STAR file ({error})", "check that this is the file you meant"
        ) from None
    return {block.name.strip(): columns_of(block, escaped) for block in document}


def _cut_column(tag: str, values: NDArray[Any]) -> Any:
    """A column of a loop that was cut out; names that recur are one object each."""
    if values.dtype.kind == "f":
        return Numbers(values)
    if len(set(values[:SAMPLE].tolist())) > SAMPLE // 4:
        return Texts(values)
    cells = values.tolist()
    known = {cell: cell.decode() for cell in {*cells}}
    return list(map(known.__getitem__, cells))


def read_table(path: Path, blocks: dict[str, Columns] | None = None) -> Table:
    """The first block with coordinates, of blocks that are read or of the file."""
    blocks = read_blocks(path) if blocks is None else blocks
    for name, columns in blocks.items():
        if set(columns) & {*PIXELS, *CENTERED}:
            if len({len(column) for column in columns.values()}) > 1:
                message = f"data_{name} has values beside the table of particles"
                raise RequestError(path, message, "move them to a block of their own, or correct the file")
            return Table(path, columns, {n: c for n, c in blocks.items() if n != name and c})
    names = ", ".join(f"data_{name}" for name in blocks) or "none"
    message = f"holds no particle coordinates (blocks: {names})"
    raise RequestError(path, message, "name the file with rlnCoordinateX or rlnCenteredCoordinateXAngst")


def columns_of(block: Any, escaped: bool = False) -> Columns:
    """Columns of a block, with tags without underscore; a pair is a column of one value."""
    columns: Columns = {}
    for item in block:
        if item.pair is not None:
            columns[item.pair[0].lstrip("_")] = [_plain(item.pair[1], escaped)]
        elif item.loop is not None:
            for tag in item.loop.tags:
                columns[tag.lstrip("_")] = _column(tag.lstrip("_"), block.find_loop(tag), escaped)
    return columns


def _column(tag: str, cells: Any, escaped: bool) -> Any:
    """A column as numbers, if its text is not needed, else as text in which equal cells are one object."""
    if tag in NUMBERS and "_" not in "".join(cells):
        try:
            return Numbers(np.fromiter(map(float, cells), dtype=np.float64, count=len(cells)))
        except ValueError:  # a cell is no number, which is refused with its name
            pass
    known: dict[str, str] = {}
    return [known.setdefault(value, value) for value in (_plain(cell, escaped) for cell in cells)]


def block_text(
    name: str, columns: Mapping[str, list[str]], version: str, pairs: bool = False
) -> Iterator[str]:
    """Text of a block, as a loop or as pairs, in parts of many rows."""
    yield f"# version {version}\n\ndata_{name}\n\n"
    if pairs:
        yield from (f"_{tag}  {_quoted(column[:1])[0]}\n" for tag, column in columns.items())
    else:
        yield "".join(["loop_\n", *(f"_{tag} #{i}\n" for i, tag in enumerate(columns, 1))])
        row = "  ".join(
            "%" + column.form if isinstance(column, Numbers) else "%s" for column in columns.values()
        )
        for start in range(0, max(map(len, columns.values()), default=0), CHUNK):
            rows = slice(start, start + CHUNK)
            yield rows_text(row + "\n", [_cells(column, rows) for column in columns.values()])
    yield "\n"


def _cells(column: Any, rows: slice) -> list[Any]:
    """Numbers of some rows, or their text in quotes where it needs them."""
    return column.values[rows].tolist() if isinstance(column, Numbers) else _quoted(column[rows])


def _quoted(cells: list[str]) -> list[str]:
    """Text in quotes where it needs them."""
    from gemmi import cif

    known = {cell: cell if PLAIN.fullmatch(cell) else cif.quote(cell) for cell in set(cells)}
    return [known[cell] for cell in cells]


def formatted(tags: list[str], values: NDArray[np.float64], digits: int = 6) -> Columns:
    """Columns of numbers (n, len(tags)), written with these digits after the point."""
    return {tag: Numbers(values[:, i], f".{digits}f") for i, tag in enumerate(tags)}


def _plain(value: str, escaped: bool) -> str:
    if value[:1] in ("'", '"', ";"):
        from gemmi import cif

        value = cif.as_string(value)
    return ESCAPED.sub(lambda match: chr(int(match[1])), value) if escaped else value


def _numbers(path: Path, tag: str, values: Any) -> NDArray[np.float64]:
    """A column as finite numbers; a cell that is none is an error that names it."""
    if isinstance(values, Numbers):
        numbers = values.values
    elif isinstance(values, Texts):
        numbers = as_numbers(values.values)
    else:
        try:
            # Python and NumPy take 1_000 for 1000, other programs for 1
            numbers = np.array([] if "_" in "".join(values) else values, dtype=np.float64)
        except ValueError:
            numbers = np.zeros(0)
    if len(numbers) == len(values) and usable(numbers):
        return numbers
    row, cell = next((row, value) for row, value in enumerate(values, 1) if not _is_number(value))
    message = f"particle {row}: {tag} is {cell!r}, not a finite number"
    raise RequestError(path, message, "correct the file")


def _is_number(text: str) -> bool:
    try:
        return "_" not in text and usable(np.float64(text))
    except ValueError:
        return False
