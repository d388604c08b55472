"""Table of all conventions for the docs, as text.

`python -m cryovox.formats.particles.conventions_page docs/how-to/particle-conventions.md` writes it into the
page, between two comments.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cryovox.formats.particles import conventions
from cryovox.formats.particles.convention import Convention

BEGIN, END = "<!-- begin of the generated table -->", "<!-- end of the generated table -->"
HEAD = ("program", "extension", "read, written", "coordinates", "shifts", "angles", "also stored", "remark")


def render() -> str:
    """The table in Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *(_row(convention) for convention in conventions().values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def update(page: str) -> str:
    """The text of a page with the table renewed."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


def _row(row: Convention) -> tuple[str, ...]:
    stored = {
        "score": row.score,
        "tomogram": row.tomogram,
        "species": row.species,
        "voxel size": row.pixel_size,
    }
    return (
        row.program,
        ", ".join(f"`{extension}`" for extension in row.extensions),
        "both" if row.written else "read",
        _coordinates(row),
        _shifts(row),
        _angles(row),
        ", ".join(what for what, column in stored.items() if column) or "nothing",
        row.remark,
    )


def _coordinates(row: Convention) -> str:
    if row.origin == "center":
        return f"{row.unit}, 0 at the center of the tomogram, voxel {row.center}"
    return f"{row.unit}, first voxel at {', '.join(f'{value:g}' for value in row.first)}"


def _shifts(row: Convention) -> str:
    return {True: "added", False: "subtracted"}[row.shift_sign > 0] if row.shifts else "none"


def _angles(row: Convention) -> str:
    if not row.eulers:
        return "none"
    direction = "tomogram to reference" if row.passive else "reference to tomogram"
    if row.eulers == "matrix":
        return f"matrix, {direction}"
    return f"{row.eulers} ({', '.join(f'`{name}`' for name in row.angles)}), {direction}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(update(Path(name).read_text("utf-8")), "utf-8")
