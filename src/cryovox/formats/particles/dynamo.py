"""Dynamo tables (.tbl): numbers without a header, one particle a line.

Columns are those of the Dynamo manual, https://www.dynamo-em.org/w/index.php/Table_column_convention.
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.formats import read_text
from cryovox.formats.particles.column_format import ColumnFormat, Parsed, Rows
from cryovox.formats.particles.convention import Convention, words

COLUMNS = words(
    "tag aligned averaged dx dy dz tdrot tilt narot cc cc2 cpu ftype ymintilt ymaxtilt xmintilt "
    "xmaxtilt fs1 fs2 tomo reg class annotation x y z dshift daxis dnarot dcc otag npar column33 ref "
    "sref apix def column38 column39 column40 eig1 eig2"
)
DEFAULTS = {"aligned": 1, "averaged": 1, "ftype": 1, "ref": 1, "sref": 1}
WRITTEN = COLUMNS[: COLUMNS.index("apix") + 1]

CONVENTION = Convention(
    program="Dynamo",
    extensions=(".tbl",),
    first=(1, 1, 1),
    shifts=("dx", "dy", "dz"),
    whole=True,
    eulers="ZXZ",
    angles=("narot", "tilt", "tdrot"),
    passive=True,
    score="cc",
    tomogram="tomo",
    species="class",
    numbers="written",
    pixel_size="apix",
    remark="Some converters (copick, cryoCAT) take the first voxel as 0, one voxel off.",
)


def parse(path: Path) -> Parsed:
    """Columns of a table."""
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    widths = {len(line) for line in lines}
    if len(widths) > 1 or (widths and not 26 <= max(widths) <= len(COLUMNS)):
        message = f"is no table of Dynamo: its lines have {', '.join(map(str, sorted(widths)))} columns"
        raise RequestError(path, message, "Dynamo has 26 to 42 columns, the same in all lines")
    columns = zip(COLUMNS, zip(*lines, strict=True), strict=False)
    return Parsed(dict(columns) if lines else dict.fromkeys(COLUMNS, ()))


def render(rows: Rows) -> str:
    """Text of a table."""
    n = len(rows)
    columns = {"tag": np.arange(1, n + 1)} | rows.columns
    cells = [np.broadcast_to(columns.get(name, DEFAULTS.get(name, 0)), n) for name in WRITTEN]
    text = StringIO()
    np.savetxt(text, np.array(cells, dtype=np.float64).T, fmt="%.10g")
    return text.getvalue()


FORMAT = ColumnFormat(CONVENTION, parse, render)
