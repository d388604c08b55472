"""False discovery rates from decoys: picks in noise of the same power, of which none is a particle.

The picks of the tomogram compete with those of a decoy volume (Elias and Gygi, Nature Methods 4, 2007,
p. 207). The estimate is of false picks in noise. False picks on membranes, ice or other particles have no
decoy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import nbinom

Float = NDArray[np.float64]


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
    scores = np.asarray(targets, np.float64)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    kept = len(ranked) - np.searchsorted(ranked[::-1], ranked, side="left")
    estimate = np.minimum(1.0, scale * (decoys_above(decoys, ranked) + 1) / np.maximum(kept, 1))
    values = np.empty(len(scores))
    values[order] = np.minimum.accumulate(estimate[::-1])[::-1]
    return values


def decoys_above(decoys: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.intp]:
    """Number of decoys with at least each score."""
    ranked = np.sort(np.asarray(decoys, np.float64))
    return np.asarray(len(ranked) - np.searchsorted(ranked, np.asarray(scores, np.float64), side="left"))


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
    low, high = nbinom.ppf([tail, 1 - tail], decoys + 1, 1 / (1 + scale))
    return min(1.0, float(low) / picks), min(1.0, float(high) / picks)
