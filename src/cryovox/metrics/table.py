"""The tidy table that every evaluation gives."""

from __future__ import annotations

from collections.abc import Mapping

Row = dict[str, str | float]
"""tomogram, species, metric, value"""

POOLED = "all"
"""Stands for the tomogram in rows over all tomograms."""
ANY = "any"
"""Stands for the species in rows that take no notice of it."""
MEAN = "mean"
"""Stands for the species in rows that average over those in the truth."""


def rows(tomogram: str, species: str, values: Mapping[str, float]) -> list[Row]:
    """One row per metric."""
    return [
        {"tomogram": tomogram, "species": species, "metric": metric, "value": float(value)}
        for metric, value in values.items()
    ]
