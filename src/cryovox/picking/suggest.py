"""Which places to label next: where the model is unsure, and no two alike.

Our reconstruction from textbook parts: uncertainty sampling by binary entropy (Settles, Active Learning
Literature Survey, 2009, section 3.1) times the distance of farthest-point selection (Gonzalez,
Clustering to Minimize the Maximum Intercluster Distance, 1985) between local appearances.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.volume import ScoreMap, Volume
from cryovox.picking.config import PickConfig, SuggestConfig, threshold_of
from cryovox.picking.exclude import allowed, near_faces
from cryovox.picking.peaks import Read, local_maxima, separate

Float = NDArray[np.float64]

BLOCKS = 8
"""Blocks along the edge of a thumbnail, and shells of a profile."""
DIMENSIONS = 16
"""Most dimensions in which appearances are compared."""
CROP = 3.0
"""Edge of the cube that is looked at, in radii."""
BALL = 0.7385
"""Value at the centre of a ball of ones smoothed with a Gaussian of half its radius: P(chi_3 < 2)."""


def suggest(
    found: Particles,
    features: NDArray[np.floating],
    config: SuggestConfig,
    seeds: NDArray[np.floating] | None = None,
) -> Particles:
    """Choose what to label among candidates, the first the most worth it.

    Parameters
    ----------
    found
        Candidates with the column `uncertainty`, as :func:`candidates` gives them.
    features : (n, d)
        Their appearance.
    config
        How many, and whether balanced over the species.
    seeds : (m, d)
        Appearance of what is labelled already.

    Returns
    -------
    Particles
        With the columns `uncertainty`, `diversity` (distance in appearance from everything labelled or
        ranked before; the candidates' distance from their mean is 1 on average, as root mean square)
        and `rank` from 1.
    """
    labelled = np.zeros((0, features.shape[1])) if seeds is None else seeds
    reduced = compressed(np.concatenate([features, labelled]), len(features))
    order, diversity = choose(
        reduced[: len(features)],
        found.extra["uncertainty"],
        found.species,
        config.count,
        reduced[len(features) :],
        balance=config.balance,
    )
    chosen = found.take(order)
    ranked = {"diversity": np.round(diversity, 4), "rank": np.arange(1, len(order) + 1)}
    return replace(chosen, extra={**chosen.extra, **ranked})


def candidates(
    scores: ScoreMap,
    config: SuggestConfig,
    labelled: Float | None = None,
    mask: NDArray[Any] | None = None,
) -> Particles:
    """Local maxima of the score, weak ones too, each with its `uncertainty`.

    Candidates of a species keep its radius from each other and from what is labelled, candidates of
    two species the smallest of all radii. Masks are smoothed first, lest a particle have many maxima.

    Parameters
    ----------
    scores
        Heatmap or mask of one tomogram.
    labelled : (m, 3)
        Places in Å that are labelled already, whatever the answer was.
    mask : (z, y, x) of the tomogram
        0 where nothing is suggested.
    """
    return candidates_counted(scores, config, labelled, mask)[0]


def candidates_counted(
    scores: ScoreMap,
    config: SuggestConfig,
    labelled: Float | None = None,
    mask: NDArray[Any] | None = None,
) -> tuple[Particles, int]:
    """As :func:`candidates`, and how many were left out since they lie too close to a face of the volume."""
    frame = (scores.data.shape[1:], scores.voxel_size, scores.offset)
    if scores.tomogram_shape is not None and scores.tomogram_voxel_size is not None:
        frame = (scores.tomogram_shape, scores.tomogram_voxel_size, 0.0)
    inside, faces = allowed(*frame, mask, 0.0), near_faces(*frame, config.border)
    lists, claims, at_faces = [], [], 0
    for channel, species in enumerate(scores.species):
        threshold = threshold_of(scores, species.name, PickConfig())
        positions, values = _maxima(scores, channel, min(config.lowest, threshold / 2))
        keep = np.flatnonzero(inside(positions) & ~near(positions, labelled, species.radius))
        outer = faces(positions[keep], species.radius)
        at_faces += len(separate(positions[keep[outer]], values[keep[outer]], species.radius))
        keep = keep[~outer]
        keep = keep[separate(positions[keep], values[keep], species.radius)]
        unsure = uncertainty(values[keep], threshold)
        keep = keep[np.argsort(-unsure, kind="stable")[: config.pool]]
        lists.append(_listed(positions[keep], species.name, values[keep], threshold))
        claims.append(rescaled(values[keep], threshold))
    found = concatenate(lists)
    closest = min(species.radius for species in scores.species)
    return found.take(separate(found.positions, np.concatenate(claims), closest)), at_faces


def _listed(positions: Float, species: str, values: NDArray[np.floating], threshold: float) -> Particles:
    unsure = np.round(uncertainty(values, threshold), 4)
    return replace(Particles.of(positions, species, values), extra={"uncertainty": unsure})


def rescaled(scores: NDArray[np.floating], threshold: float) -> Float:
    """Scores with their odds divided by those of the threshold, which so becomes 1/2.

    Examples
    --------
    >>> rescaled(np.array([0.0, 0.2, 1.0]), 0.2).tolist()
    [0.0, 0.5, 1.0]
    """
    score = np.clip(np.asarray(scores, np.float64), 0, 1)
    least = float(np.clip(threshold, 1e-3, 1 - 1e-3))
    above = score * (1 - least)
    return np.asarray(above / (above + least * (1 - score)))


def uncertainty(scores: NDArray[np.floating], threshold: float) -> Float:
    """Binary entropy in bits of the rescaled scores: 1 at the threshold, 0 where the model is certain."""
    p = rescaled(scores, threshold)
    inner = np.clip(p, 1e-12, 1 - 1e-12)
    entropy = -inner * np.log2(inner) - (1 - inner) * np.log2(1 - inner)
    return np.asarray(np.where((p > 0) & (p < 1), entropy, 0.0))


def near(positions: Float, others: Float | None, distance: float) -> NDArray[np.bool_]:
    """Which positions lie no further than a distance from any of the others."""
    if others is None or not len(others) or not len(positions):
        return np.zeros(len(positions), dtype=bool)
    return np.asarray(KDTree(others).query(positions)[0] <= distance)


def _maxima(scores: ScoreMap, channel: int, low: float) -> tuple[Float, NDArray[np.float32]]:
    """Positions in Å and values of the maxima of one channel."""

    def read(start: int, stop: int) -> NDArray[np.floating]:
        return np.asarray(scores.data[channel, start:stop])

    wide = scores.species[channel].radius / scores.voxel_size / 2
    used = read if scores.kind == "heatmap" else _smoothed(read, wide)
    index, values = local_maxima(used, scores.data.shape[1:], low)
    return scores.offset + index * scores.voxel_size, values


def _smoothed(read: Read, sigma: float) -> Read:
    """The same map after a Gaussian, scaled so that the centre of an ideal ball keeps its score."""
    margin = int(3 * sigma + 0.5)

    def smooth(start: int, stop: int) -> NDArray[np.floating]:
        first = max(0, start - margin)
        block = read(first, stop + margin).astype(np.float32)
        block = ndimage.gaussian_filter(block, sigma, mode="nearest", truncate=3.0)
        # rounded, lest the last bits make maxima of what is flat
        return np.round(np.minimum(block[start - first : stop - first] / BALL, 1), 5)

    return smooth


def crop_edge(species: tuple[Species, ...]) -> float:
    """Edge in Å of the cube that is looked at around any candidate: three times the median radius."""
    return CROP * float(np.median([s.radius for s in species]))


def appearance(volume: Volume, positions: Float, edge: float, sign: int = 1) -> NDArray[np.float32]:
    """What places look like: a coarse thumbnail and a profile of shells, each of the z-scored cube.

    Parameters
    ----------
    volume
        The tomogram; only the cubes are read.
    positions : (n, 3)
        In Å.
    edge
        Of the cube, in Å; it is rounded to whole blocks of voxels.
    sign
        +1 if particles are bright, -1 if dark.

    Returns
    -------
    features : (n, 8^3 + 8)
        Block means, then means over shells; the two parts have about the same weight.
    """
    block = max(1, round(edge / BLOCKS / volume.voxel_size))
    out = np.zeros((len(positions), BLOCKS**3 + BLOCKS), np.float32)
    shell = _shells(BLOCKS * block)
    sizes = np.maximum(np.bincount(shell, minlength=BLOCKS)[:BLOCKS], 1)
    for row, position in zip(out, positions, strict=True):
        cube = sign * _cube(volume, position, BLOCKS * block)
        cube = (cube - cube.mean()) / max(float(cube.std()), 1e-6)
        coarse = cube.reshape(BLOCKS, block, BLOCKS, block, BLOCKS, block).mean(axis=(1, 3, 5))
        profile = np.bincount(shell, weights=cube.ravel(), minlength=BLOCKS)[:BLOCKS] / sizes
        row[:] = np.concatenate([coarse.ravel() / BLOCKS, profile])
    return out


def _shells(side: int) -> NDArray[np.intp]:
    """Shell of every voxel of a cube, flat; the corners, beyond the inscribed ball, are one more."""
    axis = np.abs(np.arange(side) - (side - 1) / 2)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return np.asarray(np.minimum(radius / (side / 2) * BLOCKS, BLOCKS).astype(np.intp).ravel())


def _cube(volume: Volume, position: Float, side: int) -> NDArray[np.float32]:
    """Voxels around a position; beyond the faces lies their mirror image."""
    centre = np.clip(np.rint(position / volume.voxel_size).astype(int), 0, np.array(volume.shape) - 1)
    low = centre - side // 2
    inside = tuple(slice(max(0, a), min(n, a + side)) for a, n in zip(low, volume.shape, strict=True))
    pads = [(s.start - a, a + side - s.stop) for s, a in zip(inside, low, strict=True)]
    return np.pad(np.asarray(volume.data[inside], dtype=np.float32), pads, mode="symmetric")


def compressed(features: NDArray[np.floating], count: int | None = None) -> Float:
    """Principal components, 16 at most, scaled so that the root mean square distance from the mean is 1.

    Parameters
    ----------
    features : (n, d)
    count
        The first so many define mean, components and scale; all by default.
    """
    given = np.asarray(features, np.float64)
    own = given[:count]
    if not len(own):
        return given[:, :DIMENSIONS]
    centre = own.mean(axis=0)
    _, axes = np.linalg.eigh((own - centre).T @ (own - centre))
    reduced = (given - centre) @ axes[:, ::-1][:, :DIMENSIONS]
    scale = np.sqrt(np.square(reduced[:count]).sum(axis=1).mean())
    return np.asarray(reduced / scale if scale > 1e-9 else reduced)


def choose(
    features: Float,
    unsure: NDArray[np.floating],
    species: NDArray[np.str_],
    count: int,
    seeds: Float | None = None,
    *,
    balance: bool = True,
) -> tuple[NDArray[np.intp], Float]:
    """Greedy choice of what has the largest product of uncertainty and distance to what is chosen.

    Parameters
    ----------
    features : (n, d)
    unsure : (n,)
        Uncertainty, 0 or more.
    species : (n,)
        Names.
    count
        Most to choose.
    seeds : (m, d)
        Chosen from the start. Without any, all candidates are 1 away at first.
    balance
        Choose half of an equal share for every species before the rest goes where it is worth most.

    Returns
    -------
    order : (k,) int
        Of the chosen, first to last.
    diversity : (k,)
        Distance of each from the nearest seed and all chosen before, when it was chosen.
    """
    nearest = np.full(len(features), np.inf)
    if seeds is not None and len(seeds) and len(features):
        nearest = KDTree(seeds).query(features)[0]
    names, kind = np.unique(species, return_inverse=True)
    owed = np.zeros(len(names), dtype=np.intp)
    if balance and len(names):
        owed = np.minimum(np.bincount(kind), max(1, count // (2 * len(names))))
    order: list[int] = []
    diversity: list[float] = []
    free = np.ones(len(features), dtype=bool)
    for _ in range(min(count, len(features))):
        distance = np.where(np.isinf(nearest), 1.0, nearest)
        rows = np.flatnonzero(free & (owed[kind] > 0) if owed.any() else free)
        # of equal products, which are all 0 among copies, the more uncertain wins
        best = int(rows[np.lexsort((-unsure[rows], -unsure[rows] * distance[rows]))[0]])
        order.append(best)
        diversity.append(float(distance[best]))
        free[best] = False
        owed[kind[best]] = max(0, owed[kind[best]] - 1)
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
    return np.array(order, dtype=np.intp), np.array(diversity)
