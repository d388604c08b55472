"""Score thresholds of heatmaps from few labels, pooled over the species and shrunk to a default.

Where every particle is annotated, the F1 of a threshold is measured. Elsewhere the peaks fall in two groups:
those at annotated particles, and the rest, of which most are no particles. The threshold is halfway between
the groups in log-odds, and then halfway between this and the default, because a network that has learned
from the annotated particles scores them higher than others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Float = NDArray[np.float64]
Curves = dict[str, tuple[float, Float]]
"""Number of particles, and F1 at each threshold of the grid, by species."""

MIN_HEIGHT = 0.02
"""Height from which peaks are looked at."""
GRID: Float = expit(np.linspace(logit(0.05), logit(0.95), 49))
"""Thresholds to choose from."""
DEFAULT = 0.3
"""Threshold where nothing else is known."""
POOLED_WEIGHT = 10.0
"""Particles that the mean F1 curve of all species counts as, at most."""
DEFAULT_WEIGHT = 1.0
"""Particles that the preference for the default counts as: it falls by 1 within two units of the log-odds."""
POOLED_PICKS = 2.0
"""Picks that the mean height at the picks of all species counts as."""
MIN_PEAKS = 10
"""Peaks beside picks from which a species has a median of its own."""


def choose_thresholds(curves: Curves, names: Iterable[str]) -> dict[str, float]:
    """Best threshold of each species, also of those without a curve; none where there is no curve at all."""
    if not curves:
        return {}
    counts = np.array([count for count, _ in curves.values()])
    mean = np.average([curve for _, curve in curves.values()], axis=0, weights=counts + 1e-9)
    preference = -np.square((logit(GRID) - logit(DEFAULT)) / 2)
    shared = min(POOLED_WEIGHT, float(counts.sum())) * mean + DEFAULT_WEIGHT * preference
    nothing = 0.0, np.zeros_like(GRID)
    chosen = {}
    for name in names:
        count, curve = curves.get(name, nothing)
        chosen[name] = float(GRID[np.argmax(count * curve + shared)])
    return chosen


def midpoint_thresholds(
    labeled: Mapping[str, Float], rest: Mapping[str, Float], names: Iterable[str]
) -> dict[str, float]:
    """Thresholds between peaks at picks and other peaks; none where there are no picks at all.

    Parameters
    ----------
    labeled, rest
        Heights of the peaks at picks, at least one, and of the other peaks, by species with picks.
    names
        Species to choose for; those without picks get the threshold of all species together.
    """
    if not labeled:
        return {}
    at_picks = {name: _log_odds(heights) for name, heights in labeled.items()}
    others = {name: _log_odds(heights) for name, heights in rest.items()}
    every_pick = float(np.concatenate(list(at_picks.values())).mean())
    every_other = _median(np.concatenate(list(others.values())), float(logit(MIN_HEIGHT)))
    nothing = np.zeros(0)
    chosen = {}
    for name in names:
        own = at_picks.get(name, nothing)
        high = (own.sum() + POOLED_PICKS * every_pick) / (len(own) + POOLED_PICKS)
        low = _median(others.get(name, nothing), every_other)
        middle = (high + low) / 2
        chosen[name] = float(np.clip(expit((middle + logit(DEFAULT)) / 2), GRID[0], GRID[-1]))
    return chosen


def _log_odds(heights: Float) -> Float:
    return np.asarray(logit(np.clip(heights, MIN_HEIGHT, 1 - 1e-3)), np.float64)


def _median(values: Float, fallback: float) -> float:
    return float(np.median(values)) if len(values) >= MIN_PEAKS else fallback
