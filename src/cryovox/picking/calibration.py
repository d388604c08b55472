"""From scores to probabilities: calibration on peaks whose truth is known, and its transfer to a tomogram.

A curve of few parameters is fitted first, ``expit(low log(s) - high log(1 - s) + intercept)`` for a score s:
the beta calibration of Kull, Silva Filho and Flach (AISTATS 2017), with weights of at least 0 and so monotone
in s. With weights of 1 and an intercept of 0 it is the score itself, and few peaks leave it nearly so.
Isotonic regression over intervals of the log-odds then corrects it where there are many peaks. A calibration
is stored as the points of the corrected curve.

A tomogram may be more or less crowded than the data of the calibration. The share of particles among its
peaks is estimated from the peaks themselves (Saerens, Latinne and Decaestecker, Neural Computation 14, 2002,
p. 21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, log1p, logit

from cryovox.core.config import Config

Float = NDArray[np.float64]

IDENTITY: Float = np.array([1.0, 1.0, 0.0])
"""Parameters with which the probability is the score."""
IDENTITY_WIDTH: Float = np.array([2.0, 2.0, 4.0])
"""Standard deviation of the parameters of all species together around the identity."""
SPECIES_WIDTH: Float = np.array([1.0, 1.0, 1.0])
"""Standard deviation of the parameters of a species around those of all species."""
KNOTS: Float = expit(np.linspace(-4.0, 5.0, 19))
"""Scores at which a calibrated curve is stored."""
CURVE_PEAKS = 5.0
"""Peaks that the fitted curve counts as in each interval between them."""
PRIOR_PEAKS = 20.0
"""Peaks that the share of particles in the calibration data counts as in a tomogram."""
TINY = 1e-4
"""Scores are kept this far from 0 and 1, and shares from 0 and 1."""


class SpeciesCalibration(Config):
    """Calibration of the scores of one species."""

    scores: list[float] = Field(min_length=1)
    """Scores, in ascending order; probabilities are interpolated between them in log-odds."""
    probabilities: list[float] = Field(min_length=1)
    """Probability of a particle at each of the scores."""
    prior: float = Field(gt=0, lt=1)
    """Fraction of the peaks of the calibration that are particles."""
    ceiling: float = Field(1.0, gt=0, le=1)
    """Fraction of the particles that have a peak."""
    floor: float = Field(ge=0, le=1)
    """Lowest score of the peaks."""
    particles: int = Field(ge=0)
    """Number of annotated particles."""
    peaks: int = Field(ge=0)
    """Number of peaks."""


class SizeCalibration(Config):
    """Particles of one size among those of other sizes; see `cryovox.picking.selection.SizeOdds`."""

    scores: SpeciesCalibration
    """Calibration of the odds of the size."""
    threshold: float = Field(ge=0, le=1)
    """Threshold of the odds of the size."""


class Calibration(Config):
    """Calibration of the scores of a model."""

    species: dict[str, SpeciesCalibration]
    """By name."""
    sizes: dict[str, SizeCalibration] = Field(default_factory=dict)
    """By name of the range of diameters, where one size is selected."""
    basis: Literal["held-out", "mixture"]
    """held-out: every peak of held-out data is known to be a particle or not. mixture: a few particles are
    known, and the others are estimated from two groups of peaks."""


class Peaks(Config):
    """Peaks of one species for a calibration."""

    scores: list[float]
    """Scores."""
    truth: list[float]
    """1 at particles, 0 elsewhere, or the probability of a particle."""
    particles: int
    """Number of annotated particles."""
    hits: int
    """Number of annotated particles with a peak."""
    floor: float
    """Lowest score that a peak can have."""


def calibrate(peaks: Mapping[str, Peaks], basis: Literal["held-out", "mixture"]) -> Calibration | None:
    """Fit all species together, and then each around the result; None where there is no peak at all."""
    scores = np.concatenate([np.zeros(0), *(own.scores for own in peaks.values())])
    truth = np.concatenate([np.zeros(0), *(own.truth for own in peaks.values())])
    if not len(scores):
        return None
    shared = fit(scores, truth, IDENTITY, IDENTITY_WIDTH)
    mean = float(np.mean(truth))
    species = {}
    for name, own in peaks.items():
        curve = calibrated_curve(np.array(own.scores), np.array(own.truth), shared)
        count, sum_of_truth = len(own.scores), float(np.sum(own.truth))
        species[name] = SpeciesCalibration(
            scores=KNOTS.tolist(),
            probabilities=curve.tolist(),
            prior=float(np.clip((sum_of_truth + mean) / (count + 1), TINY, 1 - TINY)),
            ceiling=(own.hits + 1) / (own.particles + 1),
            floor=own.floor,
            particles=own.particles,
            peaks=count,
        )
    return Calibration(species=species, basis=basis)


def calibrated_curve(scores: NDArray[Any], truth: NDArray[Any], shared: Float) -> Float:
    """Probability of a particle at each of `KNOTS`, from peaks of one species and the fit of all species."""
    parameters = fit(scores, truth, shared, SPECIES_WIDTH)
    fitted = expit(_features(KNOTS) @ parameters)
    middles = np.log(KNOTS[:-1] / (1 - KNOTS[:-1])) + np.diff(logit(KNOTS)) / 2
    nearest = np.searchsorted(middles, _log_odds(scores))
    count = np.bincount(nearest, minlength=len(KNOTS))
    # the mean of the fit in an interval differs from its value at the knot
    excess = np.bincount(
        nearest, np.asarray(truth, np.float64) - expit(_features(scores) @ parameters), len(KNOTS)
    )
    corrected = fitted + excess / (count + CURVE_PEAKS)
    curve = isotonic_regression(np.clip(corrected, 0, 1), weights=count + CURVE_PEAKS).x
    return np.clip(curve, TINY, 1 - TINY)


def fit(scores: NDArray[Any], truth: NDArray[Any], center: Float, width: Float) -> Float:
    """Weights and intercept with the highest posterior probability.

    Parameters
    ----------
    scores, truth : (n,)
        Scores, and 1 at particles, 0 elsewhere or a probability.
    center, width : (3,)
        Mean and standard deviation of the Gaussian prior of `low`, `high` and `intercept`.
    """
    features, target = _features(scores), np.asarray(truth, np.float64)

    def loss(parameters: Float) -> tuple[float, Float]:
        logits = features @ parameters
        off = (parameters - center) / width
        value = np.sum(np.logaddexp(0, logits) - target * logits) + 0.5 * np.sum(off**2)
        return float(value), features.T @ (expit(logits) - target) + off / width

    bounds = [(0, None), (0, None), (None, None)]
    result = minimize(
        loss, np.clip(center, [0, 0, -np.inf], None), jac=True, method="L-BFGS-B", bounds=bounds
    )
    return np.asarray(result.x, np.float64)


def mixture(labeled: NDArray[Any], rest: NDArray[Any], floor: float, rounds: int = 200) -> Float:
    """Probability that each unlabeled peak is a particle, by a mixture of two groups of peaks.

    In log-odds, particles are normally distributed and other peaks decay exponentially above the floor. The
    labeled peaks belong to the particles. The result rises with the score.

    Parameters
    ----------
    labeled, rest : (n,), (m,)
        Scores of peaks at annotated particles, and of all others.
    floor
        Lowest score of a peak.
    """
    known, unknown, start = _log_odds(labeled), _log_odds(rest), float(logit(np.clip(floor, TINY, 1 - TINY)))
    if not len(unknown):
        return np.zeros(0)
    above = np.maximum(unknown - start, 0.0)
    everything = np.concatenate([known, unknown])
    mean = float(known.mean()) if len(known) else float(np.quantile(unknown, 0.95))
    spread, rate, share = max(0.5, float(known.std())), 1 / max(1e-3, float(above.mean())), 0.1
    belongs = np.zeros(len(unknown))
    for _ in range(rounds):
        particle = share * np.exp(-0.5 * ((unknown - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
        other = (1 - share) * rate * np.exp(-rate * above)
        belongs = particle / np.maximum(particle + other, 1e-300)
        weights = np.concatenate([np.ones(len(known)), belongs])
        mean = float(np.average(everything, weights=weights + 1e-12))
        spread = max(0.3, float(np.sqrt(np.average((everything - mean) ** 2, weights=weights + 1e-12))))
        share = float(np.clip((belongs.sum() + 1) / (len(unknown) + 2), TINY, 1 - TINY))
        rate = float((len(unknown) - belongs.sum() + 1) / ((1 - belongs) @ above + 1e-3))
    order = np.argsort(unknown, kind="stable")
    rising = np.empty_like(belongs)
    rising[order] = np.maximum.accumulate(belongs[order])
    return rising


def probabilities(own: SpeciesCalibration, scores: NDArray[Any], prior: float | None = None) -> Float:
    """Probability that each peak of a species is a particle; it rises with the score.

    Parameters
    ----------
    prior
        Fraction of the peaks of the tomogram that are particles; that of the calibration by default.
    """
    logits = np.interp(
        _log_odds(scores), _log_odds(np.array(own.scores)), _log_odds(np.array(own.probabilities))
    )
    shift = 0.0 if prior is None else float(logit(np.clip(prior, TINY, 1 - TINY)) - logit(own.prior))
    return np.asarray(expit(logits + shift), np.float64)


def estimated_prior(own: SpeciesCalibration, scores: NDArray[Any], rounds: int = 200) -> float:
    """Fraction of the peaks of a tomogram that are particles, from all its peaks above the floor."""
    if not len(scores):
        return own.prior
    prior = own.prior
    for _ in range(rounds):
        before, prior = prior, shrunk_share(own, probabilities(own, scores, prior))
        if abs(prior - before) < 1e-6:
            break
    return float(np.clip(prior, TINY, 1 - TINY))


def shrunk_share(own: SpeciesCalibration, chances: Float) -> float:
    """Mean probability of the peaks of a tomogram and of `PRIOR_PEAKS` more from the calibration."""
    return (float(chances.sum()) + PRIOR_PEAKS * own.prior) / (len(chances) + PRIOR_PEAKS)


def _features(scores: NDArray[Any]) -> Float:
    """log(s), -log(1 - s) and 1: (n, 3)."""
    s = np.clip(np.asarray(scores, np.float64), TINY, 1 - TINY)
    return np.stack([np.log(s), -log1p(-s), np.ones_like(s)], axis=1)


def _log_odds(scores: NDArray[Any]) -> Float:
    return np.asarray(logit(np.clip(np.asarray(scores, np.float64), TINY, 1 - TINY)))
