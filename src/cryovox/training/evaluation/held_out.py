"""Metrics on held-out data, unbiased by model selection, and those of a DoG picker for comparison.

The held-out regions are split into two halves. The checkpoint and the thresholds are chosen on one half and
scored on the other, and the two scores are averaged (cross-fitting). Choosing the best of many validations
on the particles that are scored would bias the score upward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from cryovox.core.particles import Particles, Species, concatenate
from cryovox.data.patches import mask_target
from cryovox.data.regions import Bounds, Region
from cryovox.data.targets import IGNORE_INDEX, ball_labels
from cryovox.metrics.detection import detection, f_beta, precision_recall, recall_at_budget
from cryovox.metrics.matching import greedy
from cryovox.picking.blobs import dog
from cryovox.training.evaluation.thresholds import (
    GRID,
    MIN_HEIGHT,
    Curves,
    Float,
    choose_thresholds,
    midpoint_thresholds,
)

Metrics = dict[str, float]
BUDGETS = (1, 2, 4)
RECALLS = tuple(f"recall@{budget}x" for budget in BUDGETS)
METRICS = (*RECALLS, "f1", "dice")
MIN_SIZE = 16
"""Minimum size of a held-out region along an axis, in voxels."""
DOG_RATIO = 1.6
"""Width of the wide Gaussian of the DoG picker over that of the narrow one."""


@dataclass(frozen=True, eq=False)
class RegionPicks:
    """A region and the candidates in it, best first."""

    region: Region
    picks: Particles

    def inside(self, part: Region) -> RegionPicks:
        """The same for a part of the region."""
        low, high = (np.array(part.bounds, dtype=float).T - 0.5) * part.voxel_size
        keep = ((self.picks.positions >= low) & (self.picks.positions < high)).all(axis=1)
        return RegionPicks(part, self.picks.take(keep))


Halves = tuple[list[tuple[int, Region]], list[tuple[int, Region]]]


def halves(regions: Sequence[Region], *, whole: bool = False) -> Halves:
    """Split regions into two parts with about the same number of annotated particles.

    A region with fewer than two particles, or every region if *whole*, goes to the part with fewer particles.

    Returns
    -------
    two lists of (index of the region, its part)
    """
    parts: Halves = ([], [])
    counts = [0, 0]
    for index, region in enumerate(regions):
        pieces = None if whole or len(region.annotated) < 2 else _split_region(region)
        if pieces is None:
            fewer = int((counts[1], len(parts[1])) < (counts[0], len(parts[0])))
            shares = [(fewer, region)]
        else:
            shares = list(enumerate(pieces))
        for number, piece in shares:
            parts[number].append((index, piece))
            counts[number] += len(piece.annotated)
    return parts


def _split_region(region: Region) -> tuple[Region, Region] | None:
    """Cut across the axis with the largest spread of particles; None if no cut separates them."""
    places = region.positions[region.annotated]
    axis = int(np.ptp(places, axis=0).argmax())
    low, high = region.bounds[axis]
    cut = round(float(np.median(places[:, axis])) + 0.5)
    if not low < cut < high:
        return None
    return _with_span(region, axis, (low, cut)), _with_span(region, axis, (cut, high))


def _with_span(region: Region, axis: int, span: tuple[int, int]) -> Region:
    bounds = list(region.bounds)
    bounds[axis] = span
    return replace(region, bounds=(bounds[0], bounds[1], bounds[2]))


def limit_regions(regions: Sequence[Region], most: int, cost: Callable[[Region], int]) -> list[Region]:
    """Shrink or drop held-out regions until their total cost is at most *most*, keeping particles central.

    At least one region is kept, even if it costs more.
    """
    kept = list(regions)
    while kept and sum(map(cost, kept)) > most:
        dearest = max(range(len(kept)), key=lambda i: cost(kept[i]))
        smaller = _shrink(kept[dearest])
        if smaller is not None:
            kept[dearest] = smaller
        elif len(kept) > 1:
            kept.pop(min(range(len(kept)), key=lambda i: len(kept[i].annotated)))
        else:
            break
    return kept


def _shrink(region: Region) -> Region | None:
    """Three quarters of a region around its middle particle; None if it is small or has no particle."""
    axis = int(np.argmax([b - a for a, b in region.bounds]))
    low, high = region.bounds[axis]
    places = region.positions[region.annotated]
    if not len(places) or high - low <= MIN_SIZE:
        return None
    middle = places[np.square(places - np.median(places, axis=0)).sum(axis=1).argmin(), axis]
    length = max(MIN_SIZE, 3 * (high - low) // 4)
    start = int(np.clip(round(middle - length / 2), low, high - length))
    return _with_span(region, axis, (start, start + length))


def detection_metrics(regions: Sequence[RegionPicks], species: tuple[Species, ...]) -> Metrics:
    """Score candidates on all regions together, and on each half (``half1/...``, ``half2/...``).

    ``judge/NAME`` is the metric that selects the weights. On a half, F1 uses the threshold of the other half.
    """
    rows = _metrics_by_species(regions, species)
    parts = [[regions[i].inside(part) for i, part in half] for half in halves([r.region for r in regions])]
    own = [_metrics_by_species(part, species) for part in parts]
    for number, (part, mine, other) in enumerate(zip(parts, own, own[::-1], strict=True), start=1):
        crossed = {}
        for kind in species:
            threshold = other.get(f"threshold/{kind.name}")
            if f"f1/{kind.name}" in mine and threshold is not None:
                crossed[f"f1/{kind.name}"] = _f1(part, kind, threshold)
        rows |= _half_metrics(number, mine | crossed, [r.region for r in part], species)
    return rows


def _half_metrics(
    number: int,
    rows: Metrics,
    sources: Sequence[Region],
    species: tuple[Species, ...],
    voxels: Mapping[str, float] | None = None,
) -> Metrics:
    """Metrics of a half with its prefix, and the number of particles of each species in it.

    Extended structures have the number of their *voxels* instead.
    """
    judged = [value for name, value in rows.items() if name.startswith("judge/")]
    if not judged:
        return {}
    kept = {f"half{number}/score": float(np.mean(judged))}
    for channel, kind in enumerate(species):
        count = float(sum(len(s.annotated_by_channel.get(channel, ())) for s in sources))
        if kind.extended:
            count = (voxels or {}).get(kind.name, 0.0)
        figures = [f for f in METRICS if f"{f}/{kind.name}" in rows]
        if count and figures:
            kept[f"half{number}/n/{kind.name}"] = count
            kept |= {f"half{number}/{f}/{kind.name}": rows[f"{f}/{kind.name}"] for f in figures}
    return kept


def _metrics_by_species(regions: Sequence[RegionPicks], species: tuple[Species, ...]) -> Metrics:
    """F1 where annotation is exhaustive, recall at a budget where it is not, by species."""
    picks = concatenate_regions([r.picks for r in regions])
    truth = concatenate_regions([r.region.truth() for r in regions])
    rows: Metrics = {}
    curves: Curves = {}
    labeled: dict[str, Float] = {}
    rest: dict[str, Float] = {}
    for channel, kind in enumerate(species):
        true, own = truth.named(kind.name), picks.named(kind.name)
        if not len(true):
            continue
        if all(bool(r.region.exhaustive[channel]) for r in regions):
            curve = f1_curve(own, true, kind.radius)
            curves[kind.name] = len(true), curve
            rows |= {f"judge/{kind.name}": float(curve.max()), f"f1/{kind.name}": float(curve.max())}
        else:
            rows |= _recall_metrics(own, true, kind)
            labeled[kind.name], rest[kind.name] = split_heights(own, true, kind.radius)
    names = [kind.name for kind in species]
    chosen = choose_thresholds(curves, names)
    chosen |= midpoint_thresholds(labeled, rest, labeled if curves else names)
    return rows | {f"threshold/{name}": threshold for name, threshold in chosen.items()}


def f1_curve(picks: Particles, truth: Particles, radius: float) -> Float:
    """F1 at each threshold of the grid."""
    precision, recall, scores = precision_recall(picks, truth, radius)
    curve = [0.0, *(f_beta(p, r, 1.0) for p, r in zip(precision, recall, strict=True))]
    return np.array(curve)[(scores >= GRID[:, None]).sum(axis=1)]


def split_heights(picks: Particles, truth: Particles, radius: float) -> tuple[Float, Float]:
    """Heights of the peaks at annotated particles (the minimum if there is none), and of other peaks."""
    pairs = greedy(picks.positions, truth.positions, radius, picks.scores)
    scores = np.asarray(picks.scores, np.float64)
    at_particles = np.full(len(truth), MIN_HEIGHT)
    at_particles[pairs.truth] = scores[pairs.predicted]
    return at_particles, np.delete(scores, pairs.predicted)


def concatenate_regions(lists: Iterable[Particles]) -> Particles:
    """Concatenate the particles of regions, shifted so far apart that none match across regions."""
    apart = np.array([1e7, 0.0, 0.0])
    return concatenate(
        Particles.of(p.positions + apart * i, p.species, p.scores) for i, p in enumerate(lists)
    ).sorted()


def _f1(regions: Sequence[RegionPicks], kind: Species, threshold: float) -> float:
    picks = concatenate_regions([r.picks for r in regions]).named(kind.name)
    truth = concatenate_regions([r.region.truth() for r in regions]).named(kind.name)
    return detection(picks.take(picks.scores >= threshold), truth, kind.radius).f1


def _recall_metrics(picks: Particles, truth: Particles, kind: Species) -> Metrics:
    """Recall at each budget, and their mean as the metric that selects the weights."""
    recalls = recall_at_budget(picks, truth, kind.radius, budgets=BUDGETS)
    mean = float(np.mean(list(recalls.values())))
    return {f"judge/{kind.name}": mean} | {f"recall@{n}x/{kind.name}": value for n, value in recalls.items()}


def blob_picker_metrics(regions: Sequence[Region], species: tuple[Species, ...], kind: str) -> Metrics:
    """Metrics of a difference-of-Gaussians picker, in the form of :func:`cross_fit`.

    The picker is not trained and knows only the radius of each species. With *kind* "mask" its mask consists
    of spheres at its best picks, as many as there are particles.
    """
    if kind == "heatmap":
        return cross_fit(
            [
                with_score(
                    detection_metrics([RegionPicks(r, blob_picks(r, species)) for r in regions], species)
                )
            ]
        )
    rows = dice_metrics(_blob_counts(regions, species), species)
    return pooled_metrics(with_score(rows))


def with_score(rows: Metrics) -> Metrics:
    """Replace the ``judge/...`` entries by their mean, ``score``; without entries there is no score."""
    judged = [value for name, value in rows.items() if name.startswith("judge/")]
    kept = {name: value for name, value in rows.items() if not name.startswith("judge/")}
    return {"score": float(np.mean(judged)), **kept} if judged else kept


def half_dice_metrics(
    number: int, counts: NDArray[np.float64], sources: Sequence[Region], species: tuple[Species, ...]
) -> Metrics:
    """Dice of one half of the held-out data, from the counts of :func:`dice_metrics`."""
    voxels = {kind.name: float(own[0] + own[2]) for kind, own in zip(species, counts, strict=True)}
    return _half_metrics(number, dice_metrics(counts, species), sources, species, voxels)


def dice_metrics(counts: NDArray[np.float64], species: tuple[Species, ...]) -> Metrics:
    """Dice by species from true positive, false positive and false negative voxels (k, 3).

    Species without voxels in the truth have no entry.
    """
    rows: Metrics = {}
    for kind, (hits, false, missed) in zip(species, counts, strict=True):
        if hits + missed:
            dice = float(2 * hits / (2 * hits + false + missed))
            rows |= {f"judge/{kind.name}": dice, f"dice/{kind.name}": dice}
    return rows


def blob_picks(region: Region, species: tuple[Species, ...]) -> Particles:
    """Picks of the difference-of-Gaussians picker for each species, in Å of the tomogram, best first."""
    lists = []
    for kind in species:
        sigma = max(1.0, kind.radius / (2 * region.voxel_size))
        around = int(np.ceil(4 * DOG_RATIO * sigma))
        shape = region.data.shape
        spans = [
            (max(0, a - around), min(n, b + around)) for (a, b), n in zip(region.bounds, shape, strict=True)
        ]
        part = region.data[tuple(slice(a, b) for a, b in spans)]
        sign = 1 if region.normalize.sign > 0 else -1
        picks = dog(part, region.voxel_size, sigma, ratio=DOG_RATIO, sign=sign, species=kind.name)
        corner = np.array([a for a, _ in spans]) * region.voxel_size
        lists.append(Particles.of(picks.positions + corner, kind.name, picks.scores))
    return RegionPicks(region, concatenate(lists).sorted()).inside(region).picks


def _blob_counts(regions: Sequence[Region], species: tuple[Species, ...]) -> NDArray[np.float64]:
    counts = np.zeros((len(species), 3))
    for region in regions:
        start, shape = _box(region.bounds)
        target = mask_target(region, start, shape)
        for channel, kind in enumerate(species):
            if kind.extended:
                continue
            true, known = target == channel + 1, target != IGNORE_INDEX
            picks = blob_picks(region, (kind,)).positions[: len(region.annotated_by_channel.get(channel, ()))]
            places = picks / region.voxel_size - np.array(start)
            radius = kind.radius / region.voxel_size
            ball = ball_labels(places, [1] * len(places), [radius] * len(places), shape) > 0
            counts[channel] += [(ball & true).sum(), (ball & ~true & known).sum(), (~ball & true).sum()]
    return counts


def _box(bounds: Bounds) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    (z0, z1), (y0, y1), (x0, x1) = bounds
    return (z0, y0, x0), (z1 - z0, y1 - y0, x1 - x0)


def cross_fit(history: Sequence[Mapping[str, float]], *, choose: bool = False) -> Metrics:
    """Metrics of each half at the validation chosen on the other half, averaged over the particles.

    Parameters
    ----------
    history
        Metrics of all validations, in order.
    choose
        Whether the weights of the best validation are kept; otherwise those of the last.

    Returns
    -------
    dict
        ``METRIC/NAME``, ``n/NAME``, and ``score``, the mean of the metrics. If a half has no particle, the
        metrics of all held-out data, which are too high if *choose*.
    """
    if not history:
        return {}
    if not all(f"half{half}/score" in history[-1] for half in (1, 2)):
        return pooled_metrics(_best(history, "score") if choose else history[-1])
    sums: Metrics = {}
    counts: Metrics = {}
    for mine, other in ((1, 2), (2, 1)):
        at = _best(history, f"half{other}/score") if choose else history[-1]
        for figure, kind, value in _metrics(at, f"half{mine}/"):
            name, count = f"{figure}/{kind}", at[f"half{mine}/n/{kind}"]
            sums[name] = sums.get(name, 0.0) + count * value
            counts[name] = counts.get(name, 0.0) + count
    totals = {f"n/{name.partition('/')[2]}": count for name, count in counts.items()}
    return _with_mean({name: total / counts[name] for name, total in sums.items()}) | totals


def pooled_metrics(rows: Mapping[str, float]) -> Metrics:
    """Metrics of all held-out data together, at one validation."""
    figures = {f"{figure}/{kind}": value for figure, kind, value in _metrics(rows, "")}
    counts: Metrics = {}
    for half in (1, 2):
        for name, value in rows.items():
            if name.startswith(f"half{half}/n/"):
                kind = name.removeprefix(f"half{half}/")
                counts[kind] = counts.get(kind, 0.0) + value
    return _with_mean(figures) | counts


def _best(history: Sequence[Mapping[str, float]], name: str) -> Mapping[str, float]:
    return max(history, key=lambda rows: rows.get(name, -np.inf))


def _metrics(rows: Mapping[str, float], prefix: str) -> Iterator[tuple[str, str, float]]:
    for name, value in rows.items():
        figure, _, kind = name.removeprefix(prefix).partition("/")
        if name.startswith(prefix) and kind and figure in METRICS:
            yield figure, kind, value


def _with_mean(figures: Metrics) -> Metrics:
    return {"score": float(np.mean(list(figures.values()))), **figures} if figures else {}


def recall_interval(recall: float, count: float) -> tuple[float, float]:
    """Wilson 95 % confidence interval of a recall measured on *count* particles."""
    hits, n = round(recall * count), round(count)
    limits = binomtest(min(hits, n), n).proportion_ci(method="wilson")
    return float(limits.low), float(limits.high)
