"""Picks against the truth, as one tidy table."""

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
IGNORE_INDEX = ("false_picks", "precision", "f1", "average_precision")
"""What annotation that is not exhaustive cannot tell."""
Incomplete = Mapping[str, Collection[str]]
"""Tomogram -> species of which not all particles are annotated there; "" stands for one without a name."""


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """What a rule needs beside the two lists."""

    radii: Mapping[str, float] | float
    """Particle radii in Å by species, or one for all."""
    fraction: float = 1.0
    """Rule radius: largest distance of a hit as a share of the radius."""
    occupancy: LabelMap | Mapping[str, LabelMap] | None = None
    """Rule shrec: number of the particle in each voxel."""
    incomplete: Incomplete = field(default_factory=dict)
    """Rule radius: what is not annotated exhaustively."""

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
    found: Particles,
    truth: Particles,
    radii: Mapping[str, float] | float,
    rule: str = "radius",
    *,
    fraction: float = 1.0,
    occupancy: LabelMap | Mapping[str, LabelMap] | None = None,
    incomplete: Incomplete | None = None,
) -> list[Row]:
    """Compare picks with the truth.

    Only tomograms that the truth names are scored, where both lists name theirs: picks in others may be
    right or wrong, nobody knows.

    Parameters
    ----------
    found, truth
        Positions in Å.
    radii
        Particle radii in Å by species, or one for all.
    rule
        "radius" matches one to one within a share of the radius; "czii" and "shrec" are the metrics of
        those challenges, with their own conventions.
    fraction
        That share.
    occupancy
        For "shrec": the occupancy mask, or one by tomogram.
    incomplete
        For "radius": tomogram -> species of which not all particles are annotated; they get no precision.

    Returns
    -------
    list of rows
        Per tomogram and, as tomogram "all", pooled; per species, for "any" species and as the "mean"
        over those in the truth.
    """
    check_tomograms(found, truth)
    picks = scored_tomograms(found, truth)
    evaluate: Callable[[Particles, Particles, Setup], list[Row]] = RULES[rule]
    return evaluate(picks, truth, Setup(radii, fraction, occupancy, incomplete or {}))


def by_radius(found: Particles, truth: Particles, setup: Setup) -> list[Row]:
    """Match one to one: the best pick first, within a share of the radius of the particle.

    The recall of the best picks, as many as there are particles and twice and four times as many, needs
    neither a threshold nor annotation that is exhaustive.
    """
    table: list[Row] = []
    for tomogram, mine, theirs in _parts(found, truth):
        collected: dict[str, dict[str, float]] = {}
        for species in _species(found, truth):
            reach = setup.fraction * setup.radius(species)
            values = _values(mine.named(species), theirs.named(species), reach)
            collected[species] = _reportable(values, _unknown(setup, tomogram, species))
            table += rows(tomogram, species, collected[species])
        reach_of_each = [setup.fraction * setup.radius(str(name)) for name in theirs.species]
        whatever = _values(mine, theirs, np.array(reach_of_each))
        table += rows(tomogram, ANY, _reportable(whatever, _unknown(setup, tomogram)))
        present = sorted(set(theirs.species.tolist()))
        table += rows(tomogram, MEAN, _average([collected[species] for species in present]))
    return table


def precision_recall_curves(
    found: Particles, truth: Particles, radii: Mapping[str, float] | float, fraction: float = 1.0
) -> dict[str, dict[str, list[float]]]:
    """Species -> curve over all tomograms, as :func:`evaluate_particles` matches by the rule "radius"."""
    check_tomograms(found, truth)
    picks, setup = scored_tomograms(found, truth), Setup(radii, fraction)
    return {
        name: precision_recall_curve(picks.named(name), truth.named(name), fraction * setup.radius(name))
        for name in _species(truth)
    }


def _unknown(setup: Setup, tomogram: str, species: str | None = None) -> bool:
    """Whether annotation of a species, or of any, is not exhaustive in a tomogram, or in one of all."""
    which = setup.incomplete.values() if tomogram == POOLED else [setup.incomplete.get(tomogram, ())]
    return any(names if species is None else species in names for names in which)


def _reportable(values: dict[str, float], unknown: bool) -> dict[str, float]:
    return {name: value for name, value in values.items() if not (unknown and name in IGNORE_INDEX)}


def by_czii(found: Particles, truth: Particles, setup: Setup) -> list[Row]:
    """Score as the CZII challenge; species it does not know weigh 1."""
    names = _species(found, truth)
    official = set(names) <= set(czii.WEIGHTS)
    weights = czii.WEIGHTS if official else dict.fromkeys(names, 1.0)
    radii = {name: czii.RADII[name] if official else setup.radius(name) for name in weights}
    table: list[Row] = []
    for tomogram, mine, theirs in _parts(found, truth):
        exact = czii.score(mine, theirs, radii=radii, weights=weights)
        strict = czii.score(mine, theirs, radii=radii, weights=weights, strict=True)
        for species in names:
            counts = exact.counts[species]
            values = _outcome(counts) | {"f4": exact.f[species], "f4_strict": strict.f[species]}
            table += rows(tomogram, species, values)
        table += rows(tomogram, MEAN, {"f4": exact.score, "f4_strict": strict.score})
    return table


def by_shrec(found: Particles, truth: Particles, setup: Setup) -> list[Row]:
    """Score as SHREC 2021, each tomogram for itself; nothing is pooled."""
    parts = _parts(found, truth)
    table: list[Row] = []
    for tomogram, mine, theirs in parts[:-1] or parts:
        mask = _occupancy(setup, tomogram, alone=len(parts) < 3)
        for ending, scorer in (("", shrec.score), ("_strict", shrec.score_strictly)):
            result = scorer(mine, theirs, mask.data, mask.voxel_size)
            table += rows(tomogram, ANY, {k + ending: v for k, v in _localisation(result).items()})
            for species, f1 in result.f1.items():
                table += rows(tomogram, species, {"f1" + ending: f1})
            table += rows(tomogram, MEAN, {"f1" + ending: result.f1_macro})
    return table


def _occupancy(setup: Setup, tomogram: str, alone: bool) -> LabelMap:
    """The occupancy mask of a tomogram; one mask serves one tomogram."""
    masks = setup.occupancy
    if isinstance(masks, Mapping) and tomogram in masks:
        return masks[tomogram]
    if isinstance(masks, LabelMap) and alone:
        return masks
    told = "no occupancy mask is named" if masks is None else "has no occupancy mask of its own"
    raise RequestError(tomogram, f"{told}, which rule shrec needs", "name one, or use --rule radius")


def _localisation(result: shrec.ShrecScore) -> dict[str, float]:
    return {
        "found": result.picks,
        "true": result.particles,
        "hits": result.hits,
        "false_picks": result.false_picks,
        "misses": result.misses,
        "precision": result.precision,
        "recall": result.recall,
        "f1": result.localisation_f1,
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


def _values(found: Particles, truth: Particles, radius: float | Float) -> dict[str, float]:
    counts = detection(found, truth, radius)
    values = _outcome(counts) | {"average_precision": average_precision(found, truth, radius)}
    if len(truth):
        recalls = recall_at_budget(found, truth, radius, BUDGETS)
        values |= {f"recall_at_{budget}x": recall for budget, recall in recalls.items()}
    return values | {"mean_distance": counts.mean_distance}


def _average(values: list[dict[str, Any]]) -> dict[str, float]:
    if not values:
        return {}
    shared = [metric for metric in AVERAGED if all(metric in some for some in values)]
    return {metric: float(np.mean([some[metric] for some in values])) for metric in shared}


def _species(*lists: Particles) -> list[str]:
    return sorted({str(name) for some in lists for name in some.species})


def _parts(found: Particles, truth: Particles) -> list[tuple[str, Particles, Particles]]:
    """Every tomogram of the truth, and all of them together."""
    parts = [(POOLED, found, truth)]
    if truth.tomograms is not None:
        names = sorted({str(name) for name in truth.tomograms})
        parts = [(name, found.within(name), truth.within(name)) for name in names] + parts
    return parts
