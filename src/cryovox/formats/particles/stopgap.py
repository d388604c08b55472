"""STOPGAP motive lists: the block `data_stopgap_motivelist` of a STAR file.

Conventions are those of STOPGAP (https://github.com/wan-lab-vanderbilt/STOPGAP), which continues the TOM
toolbox: MATLAB indices, and angles phi, psi, theta.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows, cell
from cryovox.formats.particles.convention import Columns, Convention, words
from cryovox.formats.particles.star_table import read_blocks

BLOCK = "stopgap_motivelist"
COLUMNS = words(
    "motl_idx tomo_num object subtomo_num halfset orig_x orig_y orig_z score x_shift y_shift z_shift "
    "phi psi the class"
)

CONVENTION = Convention(
    program="STOPGAP",
    extensions=(".star",),
    coordinates=("orig_x", "orig_y", "orig_z"),
    first=(1, 1, 1),
    shifts=("x_shift", "y_shift", "z_shift"),
    whole=True,
    eulers="ZXZ",
    angles=("psi", "the", "phi"),
    score="score",
    tomogram="tomo_num",
    species="class",
    numbers="written",
    remark="The motive lists of STOPGAP as .em are those of TOM.",
)


def recognizes(text: str) -> bool:
    """Whether the text of a STAR file starts as one of STOPGAP."""
    return f"data_{BLOCK}" in text


def parse(path: Path) -> Parsed:
    """Columns of a motive list."""
    blocks = read_blocks(path)
    if BLOCK not in blocks:
        raise RequestError(path, f"holds no block data_{BLOCK}", "check that this is the file you meant")
    return Parsed(dict(blocks[BLOCK]))


def render(rows: Rows) -> str:
    """Text of a motive list."""
    index = np.arange(1, len(rows) + 1)
    defaults: Columns = dict.fromkeys(("phi", "psi", "the"), np.zeros(len(rows)))
    defaults |= {"motl_idx": index, "subtomo_num": index, "object": np.ones_like(index)}
    columns = defaults | {"halfset": np.where(index % 2, "A", "B")} | rows.columns
    cells = [[cell(value) for value in columns[name]] for name in COLUMNS]
    head = [f"data_{BLOCK}", "", "loop_", *(f"_{name}" for name in COLUMNS)]
    return "\n".join(["", *head, *("  ".join(row) for row in zip(*cells, strict=True)), "", ""])


FORMAT = ColumnFormat(CONVENTION, parse, render, recognizes)
