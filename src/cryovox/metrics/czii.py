"""The metric of the CZII CryoET Object Identification challenge (Kaggle, 2024 to 2025).

A particle is a hit if any pick lies within half of its radius, and the number of false picks is the number
of picks minus that of hits. One pick may therefore hit several particles, all but one of several picks on a
particle are false, and the number of false picks can be negative. `strict` matches one to one instead.
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
"""Maximum distance of a hit, as a fraction of the radius."""


@dataclass(frozen=True, slots=True)
class CziiScore:
    """The weighted score, and its F scores and counts by species."""

    score: float
    f: Mapping[str, float]
    counts: Mapping[str, Detection]


def count(predicted: Particles, truth: Particles, radius: float) -> Detection:
    """Count the particles hit within a distance in Å, as the challenge did; distances are not recorded."""
    total = Detection(0, 0, 0)
    for picks, particles, _ in per_tomogram(predicted, truth, radius):
        hits = 0
        if len(picks) and len(particles):
            distance = KDTree(picks.positions).query(particles.positions)[0]
            hits = int((distance <= radius).sum())
        total += Detection(hits, len(picks) - hits, len(particles) - hits)
    return total


def score(
    predicted: Particles,
    truth: Particles,
    *,
    radii: Mapping[str, float] = RADII,
    weights: Mapping[str, float] = WEIGHTS,
    strict: bool = False,
) -> CziiScore:
    """Weighted mean over the species of F with beta 4, counts pooled over the tomograms.

    Parameters
    ----------
    predicted, truth
        Picks and particles, in Å. Tomograms that the truth does not name are not scored.
    radii
        Particle radii in Å.
    weights
        Weights of the species. As in the challenge, a species that the truth lacks has F = 0 and keeps its
        weight; `strict` leaves it out.
    strict
        Match one to one, as many as possible.
    """
    picks = scored_tomograms(predicted, truth)
    for name in sorted(set(picks.species.tolist()) | set(truth.species.tolist())):
        if name not in radii or name not in weights:
            raise RequestError(
                name, "is no species of the CZII metric", f"it knows {', '.join(radii)}; use --rule radius"
            )
    present = set(truth.species.tolist())
    counts, f = {}, {}
    for name in weights:
        pair, distance = (picks.named(name), truth.named(name)), FRACTION * radii[name]
        counts[name] = detection(*pair, distance, best_matching=True) if strict else count(*pair, distance)
        f[name] = exact_f(counts[name]) if name in present else 0.0
    used = {name: w for name, w in weights.items() if name in present or not strict}
    total_weight = sum(used.values())
    mean = sum(w * f[name] for name, w in used.items()) / total_weight if total_weight else 0.0
    return CziiScore(mean, f, counts)


def exact_f(counts: Detection, beta: float = BETA) -> float:
    """F as the challenge computed it: 0 wherever a denominator is not positive."""
    picks, particles = counts.hits + counts.false_picks, counts.hits + counts.misses
    precision = counts.hits / picks if picks > 0 else 0.0
    recall = counts.hits / particles if particles > 0 else 0.0
    return f_beta(precision, recall, beta)
