"""The tidy table of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, str | float]
"""tomogram, species, metric, value"""

POOLED = "all"
"""Name of the tomogram in rows over all tomograms."""
ANY = "any"
"""Name of the species in rows that ignore the species."""
BUDGETS = (1, 2, 4)
"""Numbers of picks, as multiples of the number of particles, at which recall is reported."""
MEAN = "mean"
"""Name of the species in rows that average over the species in the truth."""


def rows(tomogram: str, species: str, values: Mapping[str, float]) -> list[Row]:
    """One row per metric that has a value."""
    return [
        {"tomogram": tomogram, "species": species, "metric": metric, "value": float(value)}
        for metric, value in values.items()
        if math.isfinite(value)
    ]


COUNTS = ("true", "found", "hits", "false_picks", "misses", "multiple", "outside")


def tidy(table: Sequence[Row]) -> list[dict[str, Any]]:
    """One row per tomogram and species with a column per metric; counts are whole numbers."""
    wide: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table:
        key = (str(row["tomogram"]), str(row["species"]))
        columns = wide.setdefault(key, {"tomogram": key[0], "species": key[1]})
        metric, value = str(row["metric"]), float(row["value"])
        columns[metric] = round(value) if metric in COUNTS else value
    return list(wide.values())
