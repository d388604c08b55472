"""Scores of picks and segmentations, each equal to its published definition; torch-free.

`evaluation.evaluate_particles` and `segmentation.evaluate_labels` give one tidy table: a list of rows
with tomogram, species, metric and value.
"""

from __future__ import annotations

from cryovox.core.registry import Registry

RULES = Registry(
    "rule",
    group="cryovox.rules",
    rows={
        "radius": "cryovox.metrics.evaluation:by_radius",
        "czii": "cryovox.metrics.evaluation:by_czii",
        "shrec": "cryovox.metrics.evaluation:by_shrec",
    },
)
"""When a pick counts as right: functions `found, truth, Setup -> rows`."""
