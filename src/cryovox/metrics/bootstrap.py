"""Confidence intervals of scores: percentile bootstrap over tomograms, or other units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Callable[[NDArray[Any]], float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its confidence limits, which are NaN for a single unit."""

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
        Data of each unit, such as (true positives, false positives, false negatives) per tomogram. Units are
        resampled as a whole.
    statistic
        Function of such an array.
    n
        Number of resamples.
    seed
        Seed of the resamples.
    level
        Confidence level.
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

    Both are evaluated on the same resample, so differences between the units cancel.

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
    units: int, statistic: Callable[[NDArray[np.intp]], float], n: int, seed: int, level: float
) -> Interval:
    """Bootstrap a function of the indices of the units, so that values of any shape stay together."""
    from scipy.stats import bootstrap

    if units == 0:
        return Interval(np.nan, np.nan, np.nan)
    index = np.arange(units)
    value = float(statistic(index))
    if units == 1:
        return Interval(value, np.nan, np.nan)
    result = bootstrap(
        (index,),
        statistic,
        n_resamples=n,
        vectorized=False,
        method="percentile",
        confidence_level=level,
        rng=np.random.default_rng(seed),
    )
    # the distribution, since the interval of the result is NaN where one resample is
    low, high = np.nanquantile(result.bootstrap_distribution, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
