"""Recalibration by decisions of a person on picks of the same tomograms.

The probability that a peak is a particle has log-odds ``slope * z + shift``, where z are the log-odds of the
model's calibration. Slope and shift have the highest posterior probability given the decisions, with a prior
around 1 and 0: a few decisions change little, and many decide (Platt scaling with a prior; Platt, Advances in
Large Margin Classifiers, 1999, p. 61). The fit is conditional on the scores, so it does not matter at which
scores a person decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from cryovox.picking.calibration import (
    KNOTS,
    TINY,
    Calibration,
    SpeciesCalibration,
    estimated_prior,
    probabilities,
    shrunk_share,
)

Float = NDArray[np.float64]

WIDTHS: Mapping[str, tuple[float, float]] = {"held-out": (0.25, 0.7), "mixture": (0.5, 1.5)}
"""Standard deviation of slope and shift around 1 and 0, by the basis of the calibration."""
ENOUGH = 30
"""Decisions on a species from which its false discovery rates follow from probabilities in any tomogram."""


@dataclass(frozen=True, eq=False)
class Curated:
    """Candidates of one species in one tomogram.

    Attributes
    ----------
    scores : (n,)
        Scores of all candidates.
    kept : (n,)
        1 where a person kept the candidate, 0 where rejected, NaN without a decision.
    """

    scores: Float
    kept: Float

    @property
    def is_decided(self) -> NDArray[np.bool_]:
        return np.isfinite(self.kept)


@dataclass(frozen=True)
class Outcome:
    """Decisions on one species, with the mean probability of these candidates before and after."""

    kept: int
    rejected: int
    before: float
    after: float

    @property
    def count(self) -> int:
        return self.kept + self.rejected


@dataclass(frozen=True, eq=False)
class Curation:
    """A calibration that follows decisions.

    Attributes
    ----------
    calibration
        Of all species, with those that have decisions fitted to them.
    original
        Calibration of these species before.
    outcomes
        By species with decisions.
    unmatched
        Number of decisions at places without a candidate.
    others
        Species of decisions that are not picked.
    """

    calibration: Calibration
    original: Mapping[str, SpeciesCalibration]
    outcomes: Mapping[str, Outcome]
    unmatched: int = 0
    others: tuple[str, ...] = ()

    @property
    def certain(self) -> frozenset[str]:
        """Species with enough decisions to rely on probabilities."""
        return frozenset(name for name, own in self.outcomes.items() if own.count >= ENOUGH)


def recalibrate(
    calibration: Calibration | None, curated: Mapping[str, Sequence[Curated]], unmatched: int = 0
) -> Curation:
    """Fit the calibration of each species to the decisions on it.

    Parameters
    ----------
    calibration
        Of the model; where None, or without a species, the scores themselves are the probabilities to start
        from.
    curated
        Species to its candidates in each tomogram with decisions.
    unmatched
        Number of decisions at places without a candidate.
    """
    known = {} if calibration is None else dict(calibration.species)
    basis = "mixture" if calibration is None else calibration.basis
    fitted, original, outcomes = dict(known), {}, {}
    for name, tomograms in curated.items():
        parts = [one for one in tomograms if one.is_decided.any()]
        if not parts:
            continue
        original[name] = known.get(name) or _uncalibrated(parts)
        width = WIDTHS[basis if name in known else "mixture"]
        fitted[name], outcomes[name] = _recalibrated(original[name], parts, width)
    return Curation(Calibration(species=fitted, basis=basis), original, outcomes, unmatched)


def _uncalibrated(parts: Sequence[Curated]) -> SpeciesCalibration:
    """Scores as probabilities."""
    scores = np.concatenate([one.scores for one in parts])
    prior = float(np.clip(scores.mean(), TINY, 1 - TINY))
    return SpeciesCalibration(
        scores=KNOTS.tolist(), probabilities=KNOTS.tolist(), prior=prior, floor=0, particles=0, peaks=0
    )


def _recalibrated(
    own: SpeciesCalibration, parts: Sequence[Curated], width: tuple[float, float]
) -> tuple[SpeciesCalibration, Outcome]:
    """Calibration of a species after its decisions, and what they were."""
    offsets = [float(logit(estimated_prior(own, one.scores)) - logit(own.prior)) for one in parts]
    logits = [logit(probabilities(own, one.scores)) for one in parts]
    decided = [z[one.is_decided] for z, one in zip(logits, parts, strict=True)]
    offset = np.concatenate([np.full(len(z), d) for z, d in zip(decided, offsets, strict=True)])
    z, kept = np.concatenate(decided), np.concatenate([one.kept[one.is_decided] for one in parts])
    slope, shift = fit(z, kept, offset, width)
    shares = [shrunk_share(own, expit(slope * z + shift + d)) for z, d in zip(logits, offsets, strict=True)]
    curve = slope * logit(np.clip(own.probabilities, TINY, 1 - TINY)) + shift + float(np.mean(offsets))
    changed = own.model_copy(
        update={
            "probabilities": np.clip(expit(curve), TINY, 1 - TINY).tolist(),
            "prior": float(np.clip(np.mean(shares), TINY, 1 - TINY)),
        }
    )
    number = int(kept.sum())
    before, after = float(expit(z + offset).mean()), float(expit(slope * z + shift + offset).mean())
    return changed, Outcome(number, len(kept) - number, before, after)


def fit(
    logits: NDArray[np.floating], kept: NDArray[np.floating], offset: Float, width: tuple[float, float]
) -> tuple[float, float]:
    """Slope and shift of the log-odds with the highest posterior probability.

    Parameters
    ----------
    logits, kept : (n,)
        Log-odds by the model's calibration, and 1 for kept and 0 for rejected picks.
    offset : (n,)
        Log-odds that the share of particles of the tomogram adds.
    width
        Standard deviations of slope and shift around 1 and 0.
    """
    center, sigma = np.array([1.0, 0.0]), np.array(width)
    features = np.stack([logits, np.ones_like(logits)], axis=1)

    def loss(parameters: Float) -> tuple[float, Float]:
        values = features @ parameters + offset
        off = (parameters - center) / sigma
        value = np.sum(np.logaddexp(0, values) - kept * values) + 0.5 * np.sum(off**2)
        return float(value), features.T @ (expit(values) - kept) + off / sigma

    result = minimize(loss, center, jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return float(result.x[0]), float(result.x[1])
