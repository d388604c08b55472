"""How far a score could be off: percentile bootstrap over tomograms, or other units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Callable[[NDArray[Any]], float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the interval that holds it at the level asked for; NaN limits for a single unit."""

    value: float
    low: float
    high: float


def mean(values: NDArray[Any]) -> float:
    """Average over the units."""
    return float(np.mean(values))


def interval(
    values: ArrayLike, statistic: Statistic = mean, n: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile bootstrap of a statistic.

    Parameters
    ----------
    values : (units, ...)
        What is known of each unit, such as (hits, false picks, misses) per tomogram. The units are
        drawn with replacement, whole.
    statistic
        Function of such an array.
    n
        Number of draws.
    seed
        The same seed draws the same units.
    level
        Probability of the interval.
    """
    data = np.asarray(values)
    return _interval(len(data), lambda index: statistic(data[index]), n, seed, level)


def paired_difference(
    one: ArrayLike,
    other: ArrayLike,
    statistic: Statistic = mean,
    n: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of `statistic(one) - statistic(other)` for two methods on the same units.

    Both are evaluated on the same draw, so what makes a tomogram easy or hard cancels.

    Parameters
    ----------
    one, other : (units, ...)
        The two methods, unit by unit.
    statistic, n, seed, level
        As for :func:`interval`.
    """
    a, b = np.asarray(one), np.asarray(other)
    if len(a) != len(b):
        raise ValueError(f"paired values have equal numbers of units, got {len(a)} and {len(b)}")
    return _interval(len(a), lambda index: statistic(a[index]) - statistic(b[index]), n, seed, level)


def _interval(
    units: int, of: Callable[[NDArray[np.intp]], float], n: int, seed: int, level: float
) -> Interval:
    if units == 0:
        return Interval(np.nan, np.nan, np.nan)
    value = float(of(np.arange(units)))
    if units == 1:
        return Interval(value, np.nan, np.nan)
    draws = np.random.default_rng(seed).integers(0, units, size=(n, units))
    spread = np.array([of(draw) for draw in draws])
    low, high = np.nanquantile(spread, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
