"""The tidy table that every evaluation gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, str | float]
"""tomogram, species, metric, value"""

POOLED = "all"
"""Stands for the tomogram in rows over all tomograms."""
ANY = "any"
"""Stands for the species in rows that take no notice of it."""
BUDGETS = (1, 2, 4)
"""Picks, over the number of true particles, at which recall is given."""
MEAN = "mean"
"""Stands for the species in rows that average over those in the truth."""


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
        place = (str(row["tomogram"]), str(row["species"]))
        mine = wide.setdefault(place, {"tomogram": place[0], "species": place[1]})
        metric, value = str(row["metric"]), float(row["value"])
        mine[metric] = round(value) if metric in COUNTS else value
    return list(wide.values())
