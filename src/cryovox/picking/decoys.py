"""False discovery rates from decoys: picks in noise of the same power, of which none is a particle.

The picks of the tomogram compete with those of a decoy volume (Elias and Gygi, Nature Methods 4, 2007,
p. 207). The estimate is of false picks in noise. False picks on membranes, ice or other particles have no
decoy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.spatial import KDTree
from scipy.special import nbdtr, nbdtrik

Float = NDArray[np.float64]

TAIL = 50
"""Maximum number of the highest scores to which the tail of a background in noise is fitted."""
DECOY_TAIL = 20
"""The same where a decoy is searched for in the tomogram itself."""
MIN_TAIL = 10
"""Minimum number; below it, one more false positive is expected than was counted."""
POWER = 2.5
"""Exponent of the tail: half the number of shifts and angles that are searched, less one half."""


def q_values(targets: NDArray[Any], decoys: NDArray[Any], scale: float = 1.0) -> Float:
    """Smallest estimated false discovery rate at which each pick is kept.

    Among the picks with at least a score, the estimated number of false ones is that of the decoys plus 1,
    times *scale*. The 1 makes the estimate valid for few decoys (Levitsky et al., J. Proteome Res. 16, 2017,
    p. 393).

    Parameters
    ----------
    targets, decoys : (n,), (m,)
        Scores of the picks and of the decoys.
    scale
        Searched volume over that of the decoys.

    Returns
    -------
    (n,) float64
        At most 1; a pick with a higher score never has a higher value.
    """
    return _lowest_rates(
        np.asarray(targets, np.float64), lambda scores: scale * (decoys_above(decoys, scores) + 1)
    )


def _lowest_rates(scores: Float, expected: Callable[[Float], NDArray[np.floating]]) -> Float:
    """Lowest rate among the cuts that keep a pick: expected false picks over picks, at least with a score."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    kept = len(ranked) - np.searchsorted(ranked[::-1], ranked, side="left")
    estimate = np.minimum(1.0, expected(ranked) / np.maximum(kept, 1))
    values = np.empty(len(scores))
    values[order] = np.minimum.accumulate(estimate[::-1])[::-1]
    return values


def decoys_above(decoys: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.intp]:
    """Number of decoys with at least each score."""
    ranked = np.sort(np.asarray(decoys, np.float64))
    return np.asarray(len(ranked) - np.searchsorted(ranked, np.asarray(scores, np.float64), side="left"))


def strongest(targets: NDArray[Any], decoys: NDArray[Any], scale: float = 1.0) -> float:
    """Lowest score of the picks that exceed those in noise by the largest number; infinite where none does.

    Parameters
    ----------
    targets, decoys, scale
        As for :func:`q_values`.
    """
    ranked = np.sort(np.asarray(targets, np.float64))[::-1]
    excess = np.arange(1, len(ranked) + 1) - scale * decoys_above(decoys, ranked)
    if not len(ranked) or excess.max() <= 0:
        return float("inf")
    return float(ranked[int(excess.argmax())])


def rate_interval(decoys: int, picks: int, scale: float = 1.0, level: float = 0.95) -> tuple[float, float]:
    """Prediction interval of the share of false picks in a list.

    Decoys and false picks are taken as Poisson distributed with one density, so that the number of false
    picks given that of decoys has a negative binomial distribution. How the list was cut is not considered.

    Parameters
    ----------
    decoys, picks
        Numbers with at least the score of the last pick.
    scale
        Searched volume over that of the decoys.
    """
    if not picks:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low, high = (_false_picks(q, decoys + 1, 1 / (1 + scale)) for q in (tail, 1 - tail))
    return min(1.0, low / picks), min(1.0, high / picks)


def _false_picks(quantile: float, failures: int, share: float) -> float:
    """Quantile of a negative binomial distribution; `scipy.stats` takes half a second to import."""
    count = float(np.ceil(nbdtrik(quantile, failures, share)))
    below = max(count - 1, 0.0)  # rounding in the inverse may lift it over a whole number
    return below if nbdtr(below, failures, share) >= quantile else count


@dataclass(frozen=True, eq=False)
class Background:
    """Scores of false peaks in a part of what is searched.

    Attributes
    ----------
    scores : (n,)
        Scores of the peaks, -1 to 1, in any order.
    share
        Size of that part over the size of what is searched.
    tail
        Maximum number of the highest scores to which the tail is fitted. Where some peaks are structures and
        most are noise, many scores would give the tail of the noise.
    """

    scores: NDArray[np.floating]
    share: float
    tail: int = TAIL

    def expected(self, thresholds: ArrayLike) -> Float:
        """Expected number of false positives at or above each threshold.

        Where the background is that of all that is searched, one more than is counted is expected (Levitsky
        et al., J. Proteome Res. 16, 2017, p. 393): above the k-th highest of its scores lie k false positives
        on average, whatever the distribution. Beyond its highest score the number falls from 1 on as the tail
        does. Of a part, it is counted where many scores lie above, and extrapolated where few do, and there
        structures that are not in the part are missed.

        The tail is that of the excursions of a random field over three shifts and three angles (Adler and
        Taylor, Random Fields and Geometry, 2007, ch. 15) with a correlation coefficient s in place of the
        Gaussian variable:

            m(u) = m(v) (u / v)^2.5 exp(-b (u - v)),  u = -log(1 - s^2),

        where m is the mean number of excursions around one of the n peaks, and v belongs to the lowest score
        of the tail. Of several excursions at one place one is a peak, so n (1 - exp(-m)) peaks lie above u.
        The mean over the uncertainty of b is taken. With the b of maximum likelihood, thresholds for few
        false positives are too low on average, since m falls exponentially with b.
        """
        values: Float = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
        count = len(self._ranked) - np.searchsorted(self._ranked, values, side="left").astype(np.float64)
        if self._tail is None:
            return (count + 1) / self.share
        tail, u = self._tail, _depth(values)
        if self.share >= 1:
            highest = np.maximum(_depth(self._ranked[-1:]), tail.start)
            return np.where(count > 0, count + 1, tail.above(np.maximum(u, highest)) / tail.above(highest))
        return np.where(u > tail.start, tail.above(np.maximum(u, tail.start)), count) / self.share

    @property
    def is_too_small(self) -> bool:
        """Whether there are too few scores to extrapolate."""
        return self._tail is None

    def q_values(self, targets: NDArray[Any]) -> Float:
        """As :func:`q_values`, from the extrapolated number of false picks."""
        return _lowest_rates(np.asarray(targets, np.float64), self.expected)

    def threshold(self, count: float) -> float:
        """Lowest score at or above which at most *count* false positives are expected; 1 if there is none."""
        scores = np.linspace(0.0, 1.0, 10_001)
        enough = np.flatnonzero(self.expected(scores) <= count)
        return float(scores[enough[0]]) if len(enough) else 1.0

    @cached_property
    def _ranked(self) -> Float:
        return np.sort(np.asarray(self.scores, dtype=np.float64))

    @cached_property
    def _tail(self) -> _Tail | None:
        """Of the highest scores, at most a quarter of those above 0; None for too few scores."""
        positive = self._ranked[self._ranked > 0]
        number = min(self.tail, max(MIN_TAIL, len(positive) // 4))
        if len(positive) < 2 * MIN_TAIL:
            return None
        u = _depth(positive[-number:])
        start = _Tail(len(positive), float(u[0]), -np.log1p(-number / len(positive)), 0.0, 1.0, number)
        low = POWER / u[0]
        high = low + 10 * number / max(float((u - u[0]).sum()), 1e-9)

        def loss(rate: float) -> float:
            return float((start.excursions(u, rate) + rate * (u - u[0]) - np.log(rate - POWER / u)).sum())

        result = minimize_scalar(loss, bounds=(low * (1 + 1e-9), high), method="bounded")
        rate = float(result.x)
        return replace(start, rate=rate, slope=float(np.mean((rate - POWER / u) ** -2.0) ** -0.5))


@dataclass(frozen=True)
class _Tail:
    """Tail of a background.

    Attributes
    ----------
    peaks
        Number of scores above 0.
    start, first
        Lowest u of the tail, and mean number of excursions there.
    rate
        Of decay.
    slope, number
        Rate of decay of the excursions with the power in the tail, and the number of scores that it is
        estimated from: its relative variance is one over this number.
    """

    peaks: int
    start: float
    first: float
    rate: float
    slope: float
    number: int

    def excursions(self, u: Float, rate: float) -> Float:
        """Mean number of excursions above u around a peak."""
        return np.asarray(self.first * (u / self.start) ** POWER * np.exp(-rate * (u - self.start)))

    def above(self, u: Float) -> Float:
        """Mean number of peaks above u."""
        return np.asarray(self.peaks * -np.expm1(-self.predicted(u)))

    def predicted(self, u: Float) -> Float:
        """Mean number of excursions above u, over a gamma distribution of the slope."""
        x = u - self.start
        decay = (self.rate - self.slope) * x + self.number * np.log1p(self.slope * x / self.number)
        return np.asarray(self.first * (u / self.start) ** POWER * np.exp(-decay))


def decoy_wins(
    decoys: Float,
    decoy_scores: NDArray[np.floating],
    targets: Float,
    target_scores: NDArray[np.floating],
    distance: float,
) -> NDArray[np.floating]:
    """Scores of false peaks of the target, by competition with a decoy (Elias and Gygi, 2007).

    Where there is no particle, target and decoy are equally likely to score higher. So for every place where
    the decoy wins there is one, on average, where the target wins by chance. Both scores of a place where
    the decoy wins are returned, which stand for a false peak here and one elsewhere.

    Parameters
    ----------
    decoys, targets : (n, 3)
        Peaks of both, in any unit.
    distance
        Maximum distance of peaks at the same place.
    """
    if not len(decoys) or not len(targets):
        return np.asarray(decoy_scores)
    neighbors = KDTree(targets).query_ball_point(decoys, distance)
    rivals = np.array([target_scores[near].max() if near else -np.inf for near in neighbors])
    wins = decoy_scores > rivals
    return np.concatenate([decoy_scores[wins], rivals[wins & np.isfinite(rivals)]])


def _depth(scores: Float) -> Float:
    """-log(1 - s^2) of positive scores, 0 of others."""
    return -np.log1p(-np.square(np.clip(scores, 0.0, 1 - 1e-9)))
