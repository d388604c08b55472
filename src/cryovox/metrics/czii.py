"""The metric of the CZII CryoET Object Identification challenge (Kaggle, 2024 to 2025).

A particle counts as hit if any pick lies within half of its radius, and the hits are subtracted from
the picks to give the false picks. So one pick may hit several particles, several picks on one particle
are false but one, and the false picks can be negative. `strict` matches one to one instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scipy.spatial import KDTree

from cryovox.core.czii import RADII as RADII
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.metrics.detection import Detection, detection, f_beta, per_tomogram, scored_tomograms

WEIGHTS: Mapping[str, float] = {
    "apo-ferritin": 1.0,
    "beta-amylase": 0.0,
    "beta-galactosidase": 2.0,
    "ribosome": 1.0,
    "thyroglobulin": 2.0,
    "virus-like-particle": 1.0,
}
BETA = 4.0
FRACTION = 0.5
"""A hit is at most this share of the radius away."""


@dataclass(frozen=True, slots=True)
class CziiScore:
    """The weighted score and what it is made of, by species."""

    score: float
    f: Mapping[str, float]
    counts: Mapping[str, Detection]


def count(found: Particles, truth: Particles, radius: float) -> Detection:
    """Count unique particles hit within a distance in Å, as the challenge did; no distances are kept."""
    total = Detection(0, 0, 0)
    for mine, theirs, _ in per_tomogram(found, truth, radius):
        hits = 0
        if len(mine) and len(theirs):
            near = KDTree(mine.positions).query(theirs.positions)[0]
            hits = int((near <= radius).sum())
        total += Detection(hits, len(mine) - hits, len(theirs) - hits)
    return total


def score(
    found: Particles,
    truth: Particles,
    *,
    radii: Mapping[str, float] = RADII,
    weights: Mapping[str, float] = WEIGHTS,
    strict: bool = False,
) -> CziiScore:
    """Weighted mean over the species of F with beta 4, counts pooled over the tomograms.

    Parameters
    ----------
    found, truth
        Positions in Å. Tomograms that the truth does not name are not scored.
    radii
        Particle radii in Å.
    weights
        Of the species. As in the challenge, a species that the truth lacks has F = 0 and keeps its
        weight; `strict` leaves it out.
    strict
        Match one to one, as many as possible.
    """
    picks = scored_tomograms(found, truth)
    for name in sorted(set(picks.species.tolist()) | set(truth.species.tolist())):
        if name not in radii or name not in weights:
            raise RequestError(
                name, "is no species of the CZII metric", f"it knows {', '.join(radii)}; use --rule radius"
            )
    present = set(truth.species.tolist())
    counts, f = {}, {}
    for name in weights:
        mine, theirs, reach = picks.named(name), truth.named(name), FRACTION * radii[name]
        counts[name] = (
            detection(mine, theirs, reach, best_matching=True) if strict else count(mine, theirs, reach)
        )
        f[name] = exact_f(counts[name]) if name in present else 0.0
    used = {name: w for name, w in weights.items() if name in present or not strict}
    whole = sum(used.values())
    total = sum(w * f[name] for name, w in used.items()) / whole if whole else 0.0
    return CziiScore(total, f, counts)


def exact_f(counts: Detection, beta: float = BETA) -> float:
    """F as the challenge computed it: 0 wherever a denominator is not positive."""
    picks, particles = counts.hits + counts.false_picks, counts.hits + counts.misses
    precision = counts.hits / picks if picks > 0 else 0.0
    recall = counts.hits / particles if particles > 0 else 0.0
    return f_beta(precision, recall, beta)
