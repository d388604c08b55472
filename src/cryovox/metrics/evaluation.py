"""Evaluation of picks, as one tidy table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import LabelMap
from cryovox.metrics import RULES, czii, shrec
from cryovox.metrics.detection import (
    Detection,
    average_precision,
    check_tomograms,
    detection,
    precision_recall_curve,
    recall_at_budget,
    scored_tomograms,
)
from cryovox.metrics.table import ANY, BUDGETS, MEAN, POOLED, Row, rows

Float = NDArray[np.float64]
AVERAGED = ("precision", "recall", "f1", "average_precision", *(f"recall_at_{k}x" for k in BUDGETS))
UNDEFINED_IF_INCOMPLETE = ("false_picks", "precision", "f1", "average_precision")
"""Metrics that need exhaustive annotation."""
Incomplete = Mapping[str, Collection[str]]
"""Tomogram -> species of which not all particles are annotated; "" is a tomogram without a name."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchSettings:
    """Settings of the rules."""

    radii: Mapping[str, float] | float
    """Particle radii in Å by species, or one for all."""
    fraction: float = 1.0
    """Rule radius: maximum distance of a hit as a fraction of the radius."""
    occupancy: LabelMap | Mapping[str, LabelMap] | None = None
    """Rule shrec: index of the particle in each voxel."""
    incomplete: Incomplete = field(default_factory=dict)
    """Rule radius: species that are not annotated exhaustively."""

    def radius(self, species: str) -> float:
        """Radius in Å of a species."""
        if not isinstance(self.radii, Mapping):
            return float(self.radii)
        if species not in self.radii:
            raise RequestError(
                species, "has no radius", f"radii are known of: {', '.join(self.radii) or 'none'}"
            )
        return float(self.radii[species])


def evaluate_particles(
    predicted: Particles,
    truth: Particles,
    radii: Mapping[str, float] | float,
    rule: str = "radius",
    *,
    fraction: float = 1.0,
    occupancy: LabelMap | Mapping[str, LabelMap] | None = None,
    incomplete: Incomplete | None = None,
) -> list[Row]:
    """Compare picks with the truth.

    If both lists name their tomograms, only tomograms in the truth are scored; picks in others are ignored.

    Parameters
    ----------
    predicted, truth
        Picks and particles, in Å.
    radii
        Particle radii in Å by species, or one for all.
    rule
        "radius" matches one to one within a fraction of the radius; "czii" and "shrec" are the metrics of
        those challenges, with their own conventions.
    fraction
        Fraction of the radius.
    occupancy
        For "shrec": the occupancy mask, or one by tomogram.
    incomplete
        For "radius": tomogram -> species that are not completely annotated; they have no precision.

    Returns
    -------
    list of rows
        Per tomogram and pooled as tomogram "all"; per species, for "any" species and as the "mean" over
        those in the truth.
    """
    check_tomograms(predicted, truth)
    picks = scored_tomograms(predicted, truth)
    evaluate: Callable[[Particles, Particles, MatchSettings], list[Row]] = RULES[rule]
    return evaluate(picks, truth, MatchSettings(radii, fraction, occupancy, incomplete or {}))


def by_radius(predicted: Particles, truth: Particles, settings: MatchSettings) -> list[Row]:
    """Match one to one within a fraction of the radius of the particle, the best pick first.

    The recall of the best picks, one, two and four times as many as there are particles, needs neither a
    threshold nor exhaustive annotation.
    """
    table: list[Row] = []
    for tomogram, picks, particles in _per_tomogram(predicted, truth):
        by_species: dict[str, dict[str, float]] = {}
        for species in _species(predicted, truth):
            distance = settings.fraction * settings.radius(species)
            values = _values(picks.named(species), particles.named(species), distance)
            by_species[species] = _reportable(values, _is_incomplete(settings, tomogram, species))
            table += rows(tomogram, species, by_species[species])
        distances = [settings.fraction * settings.radius(str(name)) for name in particles.species]
        values = _values(picks, particles, np.array(distances))
        table += rows(tomogram, ANY, _reportable(values, _is_incomplete(settings, tomogram)))
        present = sorted(set(particles.species.tolist()))
        table += rows(tomogram, MEAN, _average([by_species[species] for species in present]))
    return table


def precision_recall_curves(
    predicted: Particles, truth: Particles, radii: Mapping[str, float] | float, fraction: float = 1.0
) -> dict[str, dict[str, list[float]]]:
    """Species -> curve over all tomograms, as :func:`evaluate_particles` matches by the rule "radius"."""
    check_tomograms(predicted, truth)
    picks, settings = scored_tomograms(predicted, truth), MatchSettings(radii, fraction)
    return {
        name: precision_recall_curve(picks.named(name), truth.named(name), fraction * settings.radius(name))
        for name in _species(truth)
    }


def _is_incomplete(settings: MatchSettings, tomogram: str, species: str | None = None) -> bool:
    """Whether annotation of a species, or of any species, is incomplete in a tomogram, or in one of all."""
    lists = settings.incomplete.values() if tomogram == POOLED else [settings.incomplete.get(tomogram, ())]
    return any(names if species is None else species in names for names in lists)


def _reportable(values: dict[str, float], incomplete: bool) -> dict[str, float]:
    dropped = UNDEFINED_IF_INCOMPLETE if incomplete else ()
    return {name: value for name, value in values.items() if name not in dropped}


def by_czii(predicted: Particles, truth: Particles, settings: MatchSettings) -> list[Row]:
    """Score as in the CZII challenge; if the lists have other species, all species have weight 1."""
    names = _species(predicted, truth)
    official = set(names) <= set(czii.WEIGHTS)
    weights = czii.WEIGHTS if official else dict.fromkeys(names, 1.0)
    radii = {name: czii.RADII[name] if official else settings.radius(name) for name in weights}
    table: list[Row] = []
    for tomogram, picks, particles in _per_tomogram(predicted, truth):
        exact = czii.score(picks, particles, radii=radii, weights=weights)
        strict = czii.score(picks, particles, radii=radii, weights=weights, strict=True)
        for species in names:
            counts = exact.counts[species]
            values = _outcome(counts) | {"f4": exact.f[species], "f4_strict": strict.f[species]}
            table += rows(tomogram, species, values)
        table += rows(tomogram, MEAN, {"f4": exact.score, "f4_strict": strict.score})
    return table


def by_shrec(predicted: Particles, truth: Particles, settings: MatchSettings) -> list[Row]:
    """Score as in SHREC 2021, each tomogram separately; nothing is pooled."""
    parts = _per_tomogram(predicted, truth)
    table: list[Row] = []
    for tomogram, picks, particles in parts[:-1] or parts:
        mask = _occupancy(settings, tomogram, is_single=len(parts) < 3)
        for ending, scorer in (("", shrec.score), ("_strict", shrec.score_strictly)):
            result = scorer(picks, particles, mask.data, mask.voxel_size)
            table += rows(tomogram, ANY, {k + ending: v for k, v in _localization(result).items()})
            for species, f1 in result.f1.items():
                table += rows(tomogram, species, {"f1" + ending: f1})
            table += rows(tomogram, MEAN, {"f1" + ending: result.f1_macro})
    return table


def _occupancy(settings: MatchSettings, tomogram: str, is_single: bool) -> LabelMap:
    """The occupancy mask of a tomogram; a single mask belongs to a single tomogram."""
    masks = settings.occupancy
    if isinstance(masks, Mapping) and tomogram in masks:
        return masks[tomogram]
    if isinstance(masks, LabelMap) and is_single:
        return masks
    problem = "no occupancy mask is named" if masks is None else "has no occupancy mask of its own"
    raise RequestError(tomogram, f"{problem}, which rule shrec needs", "name one, or use --rule radius")


def _localization(result: shrec.ShrecScore) -> dict[str, float]:
    return {
        "found": result.picks,
        "true": result.particles,
        "hits": result.hits,
        "false_picks": result.false_picks,
        "misses": result.misses,
        "precision": result.precision,
        "recall": result.recall,
        "f1": result.localization_f1,
        "mean_distance_vox": result.distance,
        "multiple": result.multiple,
        "outside": result.outside,
    }


def _outcome(counts: Detection) -> dict[str, float]:
    return {
        "found": counts.hits + counts.false_picks,
        "true": counts.hits + counts.misses,
        "hits": counts.hits,
        "false_picks": counts.false_picks,
        "misses": counts.misses,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
    }


def _values(predicted: Particles, truth: Particles, radius: float | Float) -> dict[str, float]:
    counts = detection(predicted, truth, radius)
    values = _outcome(counts) | {"average_precision": average_precision(predicted, truth, radius)}
    if len(truth):
        recalls = recall_at_budget(predicted, truth, radius, BUDGETS)
        values |= {f"recall_at_{budget}x": recall for budget, recall in recalls.items()}
    return values | {"mean_distance": counts.mean_distance}


def _average(by_species: list[dict[str, Any]]) -> dict[str, float]:
    if not by_species:
        return {}
    shared = [metric for metric in AVERAGED if all(metric in values for values in by_species)]
    return {metric: float(np.mean([values[metric] for values in by_species])) for metric in shared}


def _species(*lists: Particles) -> list[str]:
    return sorted({str(name) for particles in lists for name in particles.species})


def _per_tomogram(predicted: Particles, truth: Particles) -> list[tuple[str, Particles, Particles]]:
    """Every tomogram of the truth, and all of them together."""
    parts = [(POOLED, predicted, truth)]
    if truth.tomograms is not None:
        names = sorted({str(name) for name in truth.tomograms})
        parts = [(name, predicted.within(name), truth.within(name)) for name in names] + parts
    return parts
