"""Suggest locations to annotate next: uncertain ones that differ from each other (active learning).

Our reconstruction from textbook parts: uncertainty sampling by binary entropy (Settles, Active Learning
Literature Survey, 2009, section 3.1) times the distance of farthest-point selection (Gonzalez,
Clustering to Minimize the Maximum Intercluster Distance, 1985) between local image features.
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
from cryovox.picking.bounds import Bounds
from cryovox.picking.config import PickConfig, SuggestConfig, threshold_of
from cryovox.picking.peaks import Read, local_maxima, separate

Float = NDArray[np.float64]

BLOCKS = 8
"""Blocks along the edge of a thumbnail, and shells of a radial profile."""
COMPONENTS = 16
"""Maximum number of principal components of the features."""
CROP = 3.0
"""Edge of the cube around a candidate, in radii."""
SPHERE = 0.7385
"""Value at the center of a sphere of ones after a Gaussian of half its radius: P(chi_3 < 2)."""


def suggest(
    candidates: Particles,
    features: NDArray[np.floating],
    config: SuggestConfig,
    labeled: NDArray[np.floating] | None = None,
) -> Particles:
    """Choose the candidates to annotate, the most valuable first.

    Parameters
    ----------
    candidates
        Candidates with the column `uncertainty`, as from :func:`find_candidates`.
    features : (n, d)
        Features of the candidates, as from :func:`local_features`.
    config
        Number of suggestions, and whether they are balanced over the species.
    labeled : (m, d)
        Features of the locations that are labeled already.

    Returns
    -------
    Particles
        With the columns `uncertainty`, `diversity` (distance in feature space from everything labeled or
        ranked before; the root mean square distance of the candidates from their mean is 1) and `rank`
        from 1.
    """
    n = len(features)
    known = np.zeros((0, features.shape[1])) if labeled is None else labeled
    reduced = principal_components(np.concatenate([features, known]), n)
    order, diversity = select(
        reduced[:n],
        candidates.extra["uncertainty"],
        candidates.species,
        config.count,
        reduced[n:],
        balance=config.balance,
    )
    suggestions = candidates.take(order)
    ranking = {"diversity": np.round(diversity, 4), "rank": np.arange(1, len(order) + 1)}
    return replace(suggestions, extra={**suggestions.extra, **ranking})


def find_candidates(
    scores: ScoreMap,
    config: SuggestConfig,
    labeled: Float | None = None,
    mask: NDArray[Any] | None = None,
) -> tuple[Particles, int]:
    """Local maxima of the score, weak ones included, each with its `uncertainty`.

    Candidates of a species are at least its radius apart, and as far from labeled locations; candidates of
    different species are at least the smallest radius apart. Masks are smoothed first, so that a particle
    has one maximum.

    Parameters
    ----------
    scores
        Heatmap or mask of one tomogram.
    config
        Minimum score, border and maximum number of candidates.
    labeled : (m, 3)
        Positions in Å that are labeled already, as particle or as background.
    mask : (z, y, x) of the tomogram
        0 where nothing is suggested.

    Returns
    -------
    candidates : Particles
    near_edge : int
        Number of candidates that were dropped near the edges of the volume.
    """
    bounds = Bounds.of_scores(scores, mask, config.border)
    candidates, strengths, near_edge = [], [], 0
    for channel, species in enumerate(scores.species):
        if species.extended:
            continue
        threshold = threshold_of(scores, species.name, PickConfig())
        positions, values = _maxima(scores, channel, min(config.min_score, threshold / 2))
        keep = np.flatnonzero(bounds.contain(positions) & ~near(positions, labeled, species.radius))
        outer = bounds.near_edge(positions[keep], species.radius)
        near_edge += len(separate(positions[keep[outer]], values[keep[outer]], species.radius))
        keep = keep[~outer]
        keep = keep[separate(positions[keep], values[keep], species.radius)]
        entropy = uncertainty(values[keep], threshold)
        keep = keep[np.argsort(-entropy, kind="stable")[: config.max_candidates]]
        candidates.append(_with_uncertainty(positions[keep], species.name, values[keep], threshold))
        strengths.append(rescaled(values[keep], threshold))
    pooled = concatenate(candidates)
    distance = min(species.radius for species in scores.species)
    return pooled.take(separate(pooled.positions, np.concatenate(strengths), distance)), near_edge


def _with_uncertainty(
    positions: Float, species: str, values: NDArray[np.floating], threshold: float
) -> Particles:
    entropy = np.round(uncertainty(values, threshold), 4)
    return replace(Particles.of(positions, species, values), extra={"uncertainty": entropy})


def rescaled(scores: NDArray[np.floating], threshold: float) -> Float:
    """Scores with their odds divided by those of the threshold, which maps the threshold to 1/2.

    Examples
    --------
    >>> rescaled(np.array([0.0, 0.2, 1.0]), 0.2).tolist()
    [0.0, 0.5, 1.0]
    """
    score = np.clip(np.asarray(scores, np.float64), 0, 1)
    limit = float(np.clip(threshold, 1e-3, 1 - 1e-3))
    above = score * (1 - limit)
    return np.asarray(above / (above + limit * (1 - score)))


def uncertainty(scores: NDArray[np.floating], threshold: float) -> Float:
    """Binary entropy in bits of the rescaled scores: 1 at the threshold, 0 where the model is certain."""
    p = rescaled(scores, threshold)
    inner = np.clip(p, 1e-12, 1 - 1e-12)
    entropy = -inner * np.log2(inner) - (1 - inner) * np.log2(1 - inner)
    return np.asarray(np.where((p > 0) & (p < 1), entropy, 0.0))


def near(positions: Float, others: Float | None, distance: float) -> NDArray[np.bool_]:
    """Which positions are at most a distance from any of the others."""
    if others is None or not len(others) or not len(positions):
        return np.zeros(len(positions), dtype=bool)
    return np.asarray(KDTree(others).query(positions)[0] <= distance)


def _maxima(scores: ScoreMap, channel: int, low: float) -> tuple[Float, NDArray[np.float32]]:
    """Positions in Å and values of the maxima of one channel."""

    def read(start: int, stop: int) -> NDArray[np.floating]:
        return np.asarray(scores.data[channel, start:stop])

    sigma = scores.species[channel].radius / scores.voxel_size / 2
    reader = read if scores.kind == "heatmap" else _smoothed(read, sigma)
    index, values = local_maxima(reader, scores.data.shape[1:], low)
    return scores.offset + index * scores.voxel_size, values


def _smoothed(read: Read, sigma: float) -> Read:
    """Smooth a map by a Gaussian, scaled so that the center of an ideal sphere keeps its score."""
    margin = int(3 * sigma + 0.5)

    def smooth(start: int, stop: int) -> NDArray[np.floating]:
        first = max(0, start - margin)
        block = read(first, stop + margin).astype(np.float32)
        block = ndimage.gaussian_filter(block, sigma, mode="nearest", truncate=3.0)
        # rounded, so that rounding errors make no maxima on plateaus
        return np.round(np.minimum(block[start - first : stop - first] / SPHERE, 1), 5)

    return smooth


def crop_edge(species: tuple[Species, ...]) -> float:
    """Edge in Å of the cube around each candidate: three times the median radius."""
    return CROP * float(np.median([s.radius for s in species]))


def local_features(volume: Volume, positions: Float, edge: float, sign: int = 1) -> NDArray[np.float32]:
    """Features of positions: a coarse thumbnail and a radial profile of the z-scored cube around each.

    Parameters
    ----------
    volume
        The tomogram; only the cubes are read.
    positions : (n, 3)
        In Å.
    edge
        Edge of the cube in Å; it is rounded to whole blocks of voxels.
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


def _shells(edge: int) -> NDArray[np.intp]:
    """Shell of every voxel of a cube, flattened; the corners outside the inscribed sphere are one more."""
    axis = np.abs(np.arange(edge) - (edge - 1) / 2)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return np.asarray(np.minimum(radius / (edge / 2) * BLOCKS, BLOCKS).astype(np.intp).ravel())


def _cube(volume: Volume, position: Float, edge: int) -> NDArray[np.float32]:
    """Voxels around a position; the volume is reflected at its faces."""
    center = np.clip(np.rint(position / volume.voxel_size).astype(int), 0, np.array(volume.shape) - 1)
    low = center - edge // 2
    inside = tuple(slice(max(0, a), min(n, a + edge)) for a, n in zip(low, volume.shape, strict=True))
    pads = [(s.start - a, a + edge - s.stop) for s, a in zip(inside, low, strict=True)]
    return np.pad(np.asarray(volume.data[inside], dtype=np.float32), pads, mode="symmetric")


def principal_components(features: NDArray[np.floating], count: int | None = None) -> Float:
    """Principal components, 16 at most, scaled so that the root mean square distance from the mean is 1.

    Parameters
    ----------
    features : (n, d)
    count
        Number of rows, from the first, that define mean, components and scale; all by default.
    """
    rows = np.asarray(features, np.float64)
    fitted = rows[:count]
    if not len(fitted):
        return rows[:, :COMPONENTS]
    mean = fitted.mean(axis=0)
    _, axes = np.linalg.eigh((fitted - mean).T @ (fitted - mean))
    reduced = (rows - mean) @ axes[:, ::-1][:, :COMPONENTS]
    scale = np.sqrt(np.square(reduced[:count]).sum(axis=1).mean())
    return np.asarray(reduced / scale if scale > 1e-9 else reduced)


def select(
    features: Float,
    uncertainties: NDArray[np.floating],
    species: NDArray[np.str_],
    count: int,
    seeds: Float | None = None,
    *,
    balance: bool = True,
) -> tuple[NDArray[np.intp], Float]:
    """Greedily select the largest product of uncertainty and distance from everything selected before.

    Parameters
    ----------
    features : (n, d)
    uncertainties : (n,)
        Uncertainty, 0 or more.
    species : (n,)
        Names.
    count
        Maximum number to select.
    seeds : (m, d)
        Features of what is selected from the start. Without seeds all candidates are 1 away at first.
    balance
        Select half of an equal share of every species first.

    Returns
    -------
    order : (k,) int
        Indices of the selected candidates, first to last.
    diversity : (k,)
        Distance of each from the nearest seed or candidate selected before it.
    """
    nearest = np.full(len(features), np.inf)
    if seeds is not None and len(seeds) and len(features):
        nearest = KDTree(seeds).query(features)[0]
    names, name = np.unique(species, return_inverse=True)
    quota = np.zeros(len(names), dtype=np.intp)
    if balance and len(names):
        quota = np.minimum(np.bincount(name), max(1, count // (2 * len(names))))
    order: list[int] = []
    diversity: list[float] = []
    free = np.ones(len(features), dtype=bool)
    for _ in range(min(count, len(features))):
        distance = np.where(np.isinf(nearest), 1.0, nearest)
        rows = np.flatnonzero(free & (quota[name] > 0) if quota.any() else free)
        # of equal products, which are all 0 among copies, the more uncertain is first
        product = uncertainties[rows] * distance[rows]
        best = int(rows[np.lexsort((-uncertainties[rows], -product))[0]])
        order.append(best)
        diversity.append(float(distance[best]))
        free[best] = False
        quota[name[best]] = max(0, quota[name[best]] - 1)
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
    return np.array(order, dtype=np.intp), np.array(diversity)
