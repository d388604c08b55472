"""Metrics of picks and segmentations, each equal to its published definition; needs no torch.

`evaluation.evaluate_particles` and `segmentation.evaluate_labels` return one tidy table: a list of
rows with tomogram, species, metric and value.
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
"""Rules by which picks are matched to particles: functions `predicted, truth, MatchSettings -> rows`."""
