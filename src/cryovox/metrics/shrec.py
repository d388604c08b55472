"""The metric of the SHREC 2021 track "classification in cryo-electron tomograms".

A pick is rounded to a voxel, clipped to the volume and looked up in the occupancy mask, which is first
dilated by one voxel; it hits the particle with the index stored there. As in the organizers' script,
with the corrections of FakET, the first pick that hits a particle decides its class, so the order of
the list matters. Excluding 4V94 lowers the number of particles but not that of picks, and excluding
vesicles lowers neither. :func:`score_strictly` does not depend on the order and excludes consistently.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.reading import check_readable

CLASSES = (
    *("background", "4V94", "4CR2", "1QVR", "1BXN", "3CF3", "1U6G", "3D2F", "2CG9"),
    *("3H84", "3GL1", "3QM1", "1S3X", "5MRC", "vesicle", "fiducial"),
)
"""Names in the order of the labels."""
UNSCORED = frozenset({"4V94", "vesicle"})
"""Excluded from the published scores."""
VOXEL_SIZE = 10.0
"""Voxel size in Å."""

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class ShrecScore:
    """Localization and classification of one tomogram.

    Attributes
    ----------
    picks, particles, hits, false_picks, misses : int
        Number of picks and of particles as they enter precision and recall; particles that were hit;
        picks on background; particles that were not hit.
    distance : float
        Mean distance in voxels from the pick that decides the class of a particle to its center; NaN without
        hits.
    multiple, outside : int
        Particles that were hit more than once; picks outside the volume.
    confusion : (n, n) int
        Particles by true class (rows) and decided class (columns).
    classes : n names
        Order of `confusion`; 0 is background, for particles that were not hit.
    f1 : name -> float
        F1 of every class that occurs among the true or the decided classes.
    f1_macro : float
        Mean of `f1`.
    """

    picks: int
    particles: int
    hits: int
    false_picks: int
    misses: int
    distance: float
    multiple: int
    outside: int
    confusion: NDArray[np.int64]
    classes: tuple[str, ...]
    f1: Mapping[str, float]
    f1_macro: float

    @property
    def precision(self) -> float:
        """Particles hit per pick; 0 without picks."""
        return self.hits / self.picks if self.picks else 0.0

    @property
    def recall(self) -> float:
        """Fraction of the particles that were hit; 0 without particles."""
        return self.hits / self.particles if self.particles else 0.0

    @property
    def localization_f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Hits:
    """Particle hit by each pick, counted from 1 (0 is background), and its distance in voxels."""

    particle: Index
    distance: NDArray[np.float64]
    outside: int


def read_objects(path: Path, voxel_size: float = VOXEL_SIZE) -> Particles:
    """Read `particle_locations.txt` or a submission: lines of class, x, y, z and optional columns.

    Parameters
    ----------
    path
        Text file with positions in voxels.
    voxel_size
        In Å.

    Returns
    -------
    Particles
        In the order of the file, which matters.
    """
    check_readable(path)
    try:
        return parse_objects(path.read_text(encoding="utf-8"), voxel_size)
    except (ValueError, UnicodeDecodeError) as error:
        raise RequestError(path, str(error), "give lines of class, x, y, z in voxels") from None


def parse_objects(text: str, voxel_size: float = VOXEL_SIZE) -> Particles:
    """Parse the text of an object list; see :func:`read_objects`."""
    names, positions = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            x, y, z = (float(word) for word in words[1:4])
        except ValueError:
            raise ValueError(f"line {number} is not a class with x, y and z: {line!r}") from None
        names.append(words[0])
        positions.append((z, y, x))
    return Particles.of(np.array(positions).reshape(-1, 3) * voxel_size, names)


def score(
    predicted: Particles,
    truth: Particles,
    occupancy: NDArray[Any],
    voxel_size: float = VOXEL_SIZE,
    excluded: Collection[str] = UNSCORED,
) -> ShrecScore:
    """Score as in the organizers' script.

    Parameters
    ----------
    predicted
        Picks in the order of the submission; their scores are not used.
    truth
        All particles, including excluded ones, in the order of the numbers in `occupancy`.
    occupancy : (z, y, x)
        Number of the particle in each voxel, from 1; 0 is background.
    voxel_size
        Voxel size in Å.
    excluded
        Excluded classes.
    """
    true, predicted_labels, hits = _prepare(predicted, truth, occupancy, voxel_size)
    # backwards, so that the first pick decides
    order = np.flatnonzero(hits.particle)[::-1]
    decided, distance = _decide(order, predicted_labels, hits, len(true))
    left_out = [CLASSES.index(name) for name in excluded]
    decided[np.isin(decided, left_out)] = 0
    scored = ~np.isin(true, left_out)
    classes, counts = _confusion(true[scored], decided[scored], excluded)
    no_4v94 = "4V94" in excluded
    return _summary(
        hits,
        distance,
        scored,
        picks=len(predicted),
        particles=len(true) - int(no_4v94 and (true == CLASSES.index("4V94")).sum()),
        false_picks=int((hits.particle == 0).sum()),
        confusion=counts,
        classes=classes,
        f1=_f1(classes, counts),
    )


def score_strictly(
    predicted: Particles,
    truth: Particles,
    occupancy: NDArray[Any],
    voxel_size: float = VOXEL_SIZE,
    excluded: Collection[str] = UNSCORED,
) -> ShrecScore:
    """Score independently of the order of the picks.

    The pick nearest to the center decides the class of a particle (at equal distance, the first class). Picks
    on excluded particles are dropped and excluded particles do not count. Every pick that decides nothing is
    false. The F1 of a class counts all its picks, including those on background. The macro F1 is over the
    classes of the truth.

    Parameters
    ----------
    predicted, truth, occupancy, voxel_size, excluded
        As for :func:`score`.
    """
    true, predicted_labels, hits = _prepare(predicted, truth, occupancy, voxel_size)
    left_out = [CLASSES.index(name) for name in excluded]
    scored = ~np.isin(true, left_out)
    counted = np.r_[True, scored][hits.particle]
    order = np.lexsort((predicted_labels, hits.distance))
    order = order[(counted & (hits.particle > 0))[order]][::-1]
    decided, distance = _decide(order, predicted_labels, hits, len(true))
    decided[np.isin(decided, left_out)] = 0
    classes, counts = _confusion(true[scored], decided[scored], excluded)
    correct = dict(zip(classes, np.diag(counts).tolist(), strict=True))
    f1 = {}
    for name in classes[1:]:
        label = CLASSES.index(name)
        particles, picks = int((true == label).sum()), int((predicted_labels[counted] == label).sum())
        if particles:
            f1[name] = 2 * correct[name] / (particles + picks)
    particles_hit = len(np.unique(hits.particle[counted & (hits.particle > 0)]))
    return _summary(
        hits,
        distance,
        scored,
        picks=int(counted.sum()),
        particles=int(scored.sum()),
        false_picks=int(counted.sum()) - particles_hit,
        confusion=counts,
        classes=classes,
        f1=f1,
    )


def _decide(order: Index, predicted_labels: Index, hits: _Hits, n: int) -> tuple[Index, NDArray[np.float64]]:
    """Class of each of n particles, and the distance of the pick that decides it: the last one in *order*."""
    decided = np.zeros(n, np.intp)
    distance = np.full(n, np.nan)
    for pick in order:
        particle = hits.particle[pick] - 1
        decided[particle], distance[particle] = predicted_labels[pick], hits.distance[pick]
    return decided, distance


def _summary(
    hits: _Hits,
    distance: NDArray[np.float64],
    scored: NDArray[np.bool_],
    *,
    f1: dict[str, float],
    **fields: Any,
) -> ShrecScore:
    """Score from the hits on the scored particles."""
    picks_per_particle = np.bincount(hits.particle, minlength=len(scored) + 1)[1:][scored]
    return ShrecScore(
        hits=int((picks_per_particle > 0).sum()),
        misses=int((picks_per_particle == 0).sum()),
        distance=_mean(distance[scored]),
        multiple=int((picks_per_particle > 1).sum()),
        outside=hits.outside,
        f1=f1,
        f1_macro=float(np.mean(list(f1.values()))) if f1 else 0.0,
        **fields,
    )


def dilated(occupancy: NDArray[Any]) -> NDArray[Any]:
    """Dilate particles into their six neighbors; of several numbers the highest wins."""
    grown = np.array(occupancy)
    for axis in range(3):
        target = np.moveaxis(grown, axis, 0)
        source = np.moveaxis(np.asarray(occupancy), axis, 0)
        np.maximum(target[1:], source[:-1], out=target[1:])
        np.maximum(target[:-1], source[1:], out=target[:-1])
    return grown


def _prepare(
    predicted: Particles, truth: Particles, occupancy: NDArray[Any], voxel_size: float
) -> tuple[Index, Index, _Hits]:
    """Labels of the particles and of the picks, and the particles that the picks hit."""
    true, predicted_labels = labels_of(truth), labels_of(predicted)
    grown = dilated(occupancy)
    highest = int(grown.max(initial=0))
    if highest > len(truth):
        raise RequestError(
            "occupancy mask",
            f"names particle {highest}, the list has {len(truth)}",
            "give the list that belongs to the mask, complete and in its order",
        )
    # to six digits first, so that rounding errors of the units do not move half a voxel
    voxel = np.rint(np.round(predicted.positions / voxel_size, 6)).astype(np.intp)
    center = np.round(truth.positions / voxel_size, 6)
    inside = np.clip(voxel, 0, np.asarray(grown.shape) - 1)
    particle = grown[tuple(inside.T)].astype(np.intp)
    center_of_pick = np.concatenate([np.zeros((1, 3)), center])[particle]
    distance = np.linalg.norm(inside - center_of_pick, axis=1)
    return true, predicted_labels, _Hits(particle, distance, int((inside != voxel).any(axis=1).sum()))


def labels_of(particles: Particles) -> Index:
    """Labels of the classes, whose names may be in lower case."""
    labels = {name.lower(): label for label, name in enumerate(CLASSES) if label}
    names = [str(name) for name in particles.species]
    for name in names:
        if name.lower() not in labels:
            remedy = f"its classes are {', '.join(CLASSES[1:])}; use --rule radius"
            raise RequestError(name, "is no class of SHREC 2021", remedy)
    return np.array([labels[name.lower()] for name in names], dtype=np.intp)


def _confusion(
    true: Index, decided: Index, excluded: Collection[str]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    counts = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    np.add.at(counts, (true, decided), 1)
    kept = [label for label, name in enumerate(CLASSES) if name not in excluded]
    return tuple(CLASSES[label] for label in kept), counts[np.ix_(kept, kept)]


def _f1(classes: tuple[str, ...], counts: NDArray[np.int64]) -> dict[str, float]:
    """F1 of the classes that occur; background occurs, with F1 0, if at least one particle is missed."""
    total = counts.sum(axis=0) + counts.sum(axis=1)
    correct = np.diag(counts)
    return {name: float(2 * c / n) for name, c, n in zip(classes, correct, total, strict=True) if n}


def _mean(values: NDArray[np.float64]) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else float("nan")
