"""Pick by a threshold, for a purpose, or at a false discovery rate.

Picks get a probability where the model is calibrated, and a q-value where a false discovery rate is set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from cryovox.core.config import validated
from cryovox.core.particles import Particles, pickable
from cryovox.core.volume import ScoreMap
from cryovox.picking import PickConfig, pick_counted
from cryovox.picking.calibration import Calibration, estimated_prior, probabilities
from cryovox.picking.config import Purpose, check_calibrated, check_cut, threshold_of
from cryovox.picking.curation import Curation
from cryovox.picking.cuts import PRECISION, Cut, ExpectedCurve
from cryovox.picking.decoys import decoys_above, q_values, rate_interval

Float = NDArray[np.float64]

FLOOR = 0.02
"""Lowest score of a candidate in heatmaps."""
PROBABILITY, Q_VALUE = "cryovoxProbability", "cryovoxQValue"
"""Columns of particle lists."""
FROM_PROBABILITIES = ("expected_precision", "expected_recall", "cuts", "curve")
"""What a summary says by calibrated probabilities."""
MARGIN = 0.1
"""Excess of the share of false picks by noise, beyond which probabilities are not believed."""
NOISE_LEVEL, NOISE_PARTS = 0.05, (1.0, 0.5, 0.25, 0.125)
"""Level of the test whether more is found than in noise, and the parts of the picks, best first, to test."""
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Scores at which expected precision and recall are listed."""


@dataclass(frozen=True, eq=False)
class Decoys:
    """Candidates in noise.

    Attributes
    ----------
    scores : name -> (n,)
        Scores by species.
    scales : name -> float
        Volume in which particles are searched over the volume of the noise, by species.
    """

    scores: Mapping[str, NDArray[Any]]
    scales: Mapping[str, float]

    def of(self, name: str) -> tuple[Float, float]:
        """Scores and scale of a species."""
        return np.asarray(self.scores.get(name, ()), np.float64), self.scales.get(name, 1.0)

    def scaled(self, fraction: float) -> Decoys:
        """The decoys of a search of this fraction of the volume."""
        return replace(self, scales={name: fraction * scale for name, scale in self.scales.items()})


@dataclass(frozen=True, eq=False)
class RatedPicks:
    """Picks of a tomogram, and what is expected of them.

    Attributes
    ----------
    picks
        With a column of probabilities where the model is calibrated, and of q-values where a false discovery
        rate was asked for.
    near_edge
        Number of picks that were dropped near the edges of the volume.
    thresholds : name -> score
        Minimum score in use, that of the last pick where their number is limited; infinite where no candidate
        qualifies.
    curves : name -> curve
        Of the calibrated species.
    decoys
        Candidates in noise; None without them.
    curated
        Species whose probabilities follow decisions of a person.
    by_probabilities
        Species whose false discovery rate was estimated from probabilities, and not from picks in noise.
    """

    picks: Particles
    near_edge: int
    thresholds: Mapping[str, float]
    curves: Mapping[str, ExpectedCurve]
    decoys: Decoys | None = None
    curated: frozenset[str] = frozenset()
    by_probabilities: frozenset[str] = frozenset()

    def notes(self, config: PickConfig) -> list[str]:
        """Say of which species no pick is good enough for the purpose."""
        names = [name for name, curve in self.curves.items() if len(curve.scores)]
        imprecise = [name for name in names if self.thresholds.get(name) == np.inf]
        if config.purpose != "averaging" or not imprecise:
            return []
        listed = ", ".join(imprecise)
        return [f"no number of picks of {listed} has an expected precision of {PRECISION:g}; none is kept"]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Expected precision, recall and false picks of each species, as plain values for JSON.

        Precision and recall are left out where the picks in noise contradict them.
        """
        return {name: self._of(name, threshold) for name, threshold in self.thresholds.items()}

    def _of(self, name: str, threshold: float) -> dict[str, Any]:
        count = int((self.picks.species == name).sum())
        values: dict[str, Any] = {"threshold": _finite(threshold), "picks": count}
        if name in self.curves:
            curve = self.curves[name]
            used = curve.at(threshold)
            if used.picks or not count:  # picks that are candidates beside a better one of another size alone
                values |= {
                    "expected_precision": _rounded(used.precision),
                    "expected_recall": _rounded(used.recall),
                }
            cuts = [("in use", used)]
            cuts += [(purpose, curve.best(purpose)) for purpose in get_args(Purpose)]
            cuts += [("", curve.at(level)) for level in LEVELS]
            values["cuts"] = [_row(label, cut) for label, cut in cuts]
            values["curve"] = _points(curve, threshold)
        if self.decoys is not None:
            noise, scale = self.decoys.of(name)
            above = int(decoys_above(noise, np.array([threshold]))[0])
            low, high = rate_interval(above, count, scale)
            values["noise"] = {
                "decoys": above,
                "expected": round(above * scale, 1),
                "fdr": _rounded(min(1.0, (above + 1) * scale / count)) if count else None,
                "interval": [_rounded(low), _rounded(high)] if count else None,
            }
        if name not in self.curated and _contradicted(values):
            values = {key: value for key, value in values.items() if key not in FROM_PROBABILITIES}
            values["contradicted"] = True
        return values


def _contradicted(values: Mapping[str, Any]) -> bool:
    """Whether picks in noise leave no room for the expected precision."""
    noise = values.get("noise")
    if "expected_precision" not in values or noise is None or noise["interval"] is None:
        return False
    return bool(noise["interval"][0] > 1 - values["expected_precision"] + MARGIN)


def pick_rated(
    scores: ScoreMap,
    config: PickConfig,
    mask: NDArray[Any] | None = None,
    *,
    fdr: float | None = None,
    decoys: Decoys | None = None,
    trusted: bool = False,
    curation: Curation | None = None,
) -> RatedPicks:
    """Pick the particles of a score map.

    Parameters
    ----------
    scores, config, mask
        As for :func:`cryovox.picking.pick`; `config.purpose` needs a calibrated model.
    fdr
        Keep the picks whose q-value is at most this. It is estimated from the probabilities where these are
        trusted, and else from *decoys*.
    decoys
        Candidates in noise, picked as :func:`candidates` does.
    trusted
        Whether the calibration holds for this tomogram. Its probabilities are used where *decoys* do not
        show that noise gives as many picks.
    curation
        Calibration that follows decisions of a person, in place of that of the model. The thresholds of the
        species with decisions then move to the scores that have the probability of the former threshold.
    """
    check_cut(config, fdr)
    calibration = calibration_of(scores) if curation is None else curation.calibration
    check_calibrated(config, calibration)
    plain = config.model_copy(update={"purpose": None})
    if calibration is None and fdr is None:
        picks, near_edge = pick_counted(scores, plain, mask)
        limits = _model_thresholds(scores, plain) | _of_full_lists(picks, config.max_count)
        return RatedPicks(picks, near_edge, limits, {}, decoys)
    pool = candidates(scores, plain, mask)
    curves = {} if calibration is None else _curves(calibration, pool)
    rates: dict[str, Float] = {}
    certain: frozenset[str] = frozenset()
    if fdr is not None:
        names = [s.name for s in pickable(scores.species)]
        certain = trusted_species(calibration, trusted, curation)
        rates = _all_rates(names, pool, decoys, curves, certain)
        by_model = certain - (frozenset() if curation is None else curation.certain)
        if by_model and decoys is not None and not _exceeds_noise(pool, rates, fdr, decoys, by_model):
            certain -= by_model
            rates = _all_rates(names, pool, decoys, curves, certain)
    thresholds = _model_thresholds(scores, plain)
    if curation is not None and config.threshold is None:
        thresholds |= _moved(thresholds, curation, curves)
    if config.purpose is not None:
        thresholds |= {name: curve.best(config.purpose).score for name, curve in curves.items()}
    if fdr is not None:
        for name, values in rates.items():
            kept = pool.named(name).scores[values <= fdr]
            thresholds[name] = float(kept.min()) if len(kept) else np.inf
    picks, near_edge = pick_at(scores, plain, mask, thresholds)
    thresholds |= _of_full_lists(picks, config.max_count)
    columns = {} if calibration is None else {PROBABILITY: _probability(picks, curves)}
    if rates:
        columns[Q_VALUE] = _looked_up(picks, pool, rates)
    curated = frozenset() if curation is None else curation.certain
    return RatedPicks(_with_columns(picks, columns), near_edge, thresholds, curves, decoys, curated, certain)


def candidates(scores: ScoreMap, config: PickConfig, mask: NDArray[Any] | None = None) -> Particles:
    """All peaks of heatmaps above the floor, or the picks of masks at the thresholds of the model."""
    everything: dict[str, Any] = {"purpose": None, "threshold": None, "max_count": None}
    if scores.kind == "heatmap":
        everything |= {"threshold": FLOOR, "exclusive": False}
    return pick_counted(scores, config.model_copy(update=everything), mask)[0]


def calibration_of(scores: ScoreMap) -> Calibration | None:
    """Calibration of the model that made a score map; None without one."""
    if scores.calibration is None:
        return None
    return validated(Calibration, dict(scores.calibration), "calibration of the score map")


def _curves(calibration: Calibration, pool: Particles) -> dict[str, ExpectedCurve]:
    """Candidates of each calibrated species with the probabilities that hold in this tomogram."""
    curves = {}
    for name, own in calibration.species.items():
        values = pool.named(name).scores
        prior = estimated_prior(own, values)
        curves[name] = ExpectedCurve.of(values, probabilities(own, values, prior), own.ceiling)
    return curves


def is_trusted(calibration: Calibration | None, transfers: bool) -> bool:
    """Whether false discovery rates follow from probabilities: of known peaks, in tomograms like these."""
    return transfers and calibration is not None and calibration.basis == "held-out"


def trusted_species(
    calibration: Calibration | None, transfers: bool, curation: Curation | None = None
) -> frozenset[str]:
    """Species whose false discovery rates follow from probabilities; see :func:`is_trusted`.

    With enough decisions of a person on a species, its probabilities hold in any tomogram.
    """
    by_model = calibration.species if calibration and is_trusted(calibration, transfers) else ()
    return frozenset(by_model) | (frozenset() if curation is None else curation.certain)


def _moved(
    thresholds: Mapping[str, float], curation: Curation, curves: Mapping[str, ExpectedCurve]
) -> dict[str, float]:
    """Scores with the probability that the thresholds had before the decisions; infinite where none has."""
    moved = {}
    for name in curation.outcomes.keys() & thresholds.keys() & curves.keys():
        own, curve = curation.original[name], curves[name]
        prior = estimated_prior(own, curve.scores)
        wanted = float(probabilities(own, np.array([thresholds[name]]), prior)[0])
        kept = curve.scores[curve.probabilities >= wanted - 1e-9]
        moved[name] = float(kept.min()) if len(kept) else np.inf
    return moved


def _all_rates(
    names: Sequence[str],
    pool: Particles,
    decoys: Decoys | None,
    curves: Mapping[str, ExpectedCurve],
    certain: frozenset[str],
) -> dict[str, Float]:
    """q-values of the candidates of each species, from probabilities where these are certain."""
    known = {name: curve for name, curve in curves.items() if name in certain}
    return {name: _rates(pool.named(name), decoys, known.get(name)) for name in names}


def _exceeds_noise(
    pool: Particles, rates: Mapping[str, Float], fdr: float, decoys: Decoys, names: frozenset[str]
) -> bool:
    """Whether more is kept than noise explains, over all species: among all that is kept, or among the best.

    Probabilities know the false picks beside particles, and not those of a tomogram without any.
    """
    kept = {name: np.sort(pool.named(name).scores[rates[name] <= fdr])[::-1] for name in names}
    chances = [_chance(kept, part, decoys) for part in NOISE_PARTS]
    return not any(map(len, kept.values())) or min(chances) <= NOISE_LEVEL / len(NOISE_PARTS)


def _chance(kept: Mapping[str, NDArray[Any]], part: float, decoys: Decoys) -> float:
    """Binomial probability of at least as many picks in noise as a part of those kept, given the decoys."""
    picks, in_noise, share = 0, 0, 0.0
    for name, scores in kept.items():
        count = int(np.ceil(part * len(scores)))
        if count:
            noise, scale = decoys.of(name)
            in_noise += int(decoys_above(noise, scores[count - 1 : count])[0])
            picks, share = picks + count, share + count * scale / (1 + scale)
    return float(bdtrc(picks - 1, picks + in_noise, share / picks)) if picks else 1.0


def _rates(pool: Particles, decoys: Decoys | None, curve: ExpectedCurve | None) -> Float:
    """q-value of each candidate of a species, in their order."""
    if not len(pool):
        return np.zeros(0)
    if curve is not None:
        expected = 1 - np.cumsum(curve.probabilities) / np.arange(1, len(curve.scores) + 1)
        lowest = np.minimum.accumulate(expected[::-1])[::-1]
        return _interpolated(pool.scores, curve.scores, lowest)
    if decoys is None:
        raise ValueError("a false discovery rate without trusted probabilities needs decoys")
    return q_values(pool.scores, *decoys.of(str(pool.species[0])))


def pick_at(
    scores: ScoreMap, config: PickConfig, mask: NDArray[Any] | None, thresholds: Mapping[str, float]
) -> tuple[Particles, int]:
    """Picks at the threshold of each species; the voxels of masks keep the thresholds of the model."""
    if scores.kind == "heatmap":
        chosen = config.model_copy(update={"threshold": None})
        return pick_counted(replace(scores, thresholds=dict(thresholds)), chosen, mask)
    picks, near_edge = pick_counted(scores, config, mask)
    model = _model_thresholds(scores, config)
    least = {name: -np.inf if value == model[name] else value for name, value in thresholds.items()}
    keep = [score >= least[str(name)] for name, score in zip(picks.species, picks.scores, strict=True)]
    return picks.take(np.array(keep, bool)), near_edge


def _of_full_lists(picks: Particles, max_count: int | None) -> dict[str, float]:
    """Lowest score of each species of which as many are kept as are allowed."""
    if max_count is None:
        return {}
    scores = {str(name): picks.named(str(name)).scores for name in np.unique(picks.species)}
    return {name: float(own.min()) for name, own in scores.items() if len(own) >= max_count}


def _model_thresholds(scores: ScoreMap, config: PickConfig) -> dict[str, float]:
    return {s.name: threshold_of(scores, s.name, config) for s in pickable(scores.species)}


def _probability(picks: Particles, curves: Mapping[str, ExpectedCurve]) -> Float:
    values = np.full(len(picks), np.nan)
    for name, curve in curves.items():
        own = picks.species == name
        if len(curve.scores):
            values[own] = _interpolated(picks.scores[own], curve.scores, curve.probabilities)
    return values


def _looked_up(picks: Particles, pool: Particles, rates: Mapping[str, Float]) -> Float:
    values = np.ones(len(picks))
    for name, own_rates in rates.items():
        own, scores = picks.species == name, pool.named(name).scores
        if len(scores):
            order = np.argsort(-scores, kind="stable")
            values[own] = _interpolated(picks.scores[own], scores[order], own_rates[order])
    return values


def _interpolated(at: NDArray[Any], scores: NDArray[Any], values: Float) -> Float:
    """Values at scores, from those at other scores in descending order."""
    return np.asarray(np.interp(np.asarray(at, np.float64), scores[::-1].astype(np.float64), values[::-1]))


def _with_columns(picks: Particles, columns: Mapping[str, Float]) -> Particles:
    text = {name: np.array([f"{v:.4f}" for v in values], np.str_) for name, values in columns.items()}
    return replace(picks, extra={**picks.extra, **text})


def _row(label: str, cut: Cut) -> dict[str, Any]:
    return {
        "cut": label,
        "score": _finite(cut.score),
        "picks": cut.picks,
        "hits": round(cut.hits, 2),
        "particles": round(cut.particles, 2),
        "precision": _rounded(cut.precision),
        "recall": _rounded(cut.recall),
    }


def _points(curve: ExpectedCurve, threshold: float) -> list[list[float]]:
    """Score, expected precision and expected recall at scores that are close to each other."""
    levels = [float(level) for level in np.arange(0.02, 1.0, 0.02)]
    cuts = [curve.at(level) for level in sorted({*levels, threshold}) if np.isfinite(level)]
    return [[round(c.score, 5), _rounded(c.precision), _rounded(c.recall)] for c in cuts if c.picks]


def _finite(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None


def _rounded(value: float) -> float:
    return round(float(value), 4)
