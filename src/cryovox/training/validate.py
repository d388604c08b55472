"""How good a network is on regions that it does not learn from, and which thresholds suit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.volume import ScoreMap
from cryovox.data.patches import TargetSpec, cut, mask_target
from cryovox.data.sources import Source
from cryovox.data.targets import UNKNOWN
from cryovox.inference.stream import TilePlan, score, stream
from cryovox.metrics.detection import detection, recall_at_budget
from cryovox.picking import PickConfig, pick

FLOOR = 0.05
"""Candidates below this score are not looked at."""
MASK_LEVELS = (0.3, 0.5, 0.7)
"""Thresholds that are tried on masks."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A held-out region with what the network says of it."""

    source: Source
    scores: ScoreMap
    corner: tuple[int, int, int]


def validate(
    network: nn.Module, regions: list[Source], spec: TargetSpec, tiles: TilePlan
) -> dict[str, float]:
    """Score the held-out regions.

    Returns
    -------
    dict
        ``score`` decides which weights are kept: mean F1 over species at the best thresholds for
        heatmaps, mean Dice for masks; mean recall at 1, 2 and 4 candidates per annotated particle
        where annotation is not exhaustive; none where nothing is annotated. ``threshold/NAME`` is the
        threshold of each species.
    """
    scored = [_score(network, region, tiles, spec) for region in regions]
    species = regions[0].species
    if spec.kind == "heatmap":
        return summary(heatmap_rows(scored, species))
    rows = _mask_rows(scored, species)
    return summary(rows)


@torch.no_grad()
def at_picks(
    network: nn.Module, regions: list[Source], spec: TargetSpec, tiles: TilePlan
) -> dict[str, float]:
    """Thresholds where nothing is held out: half of the height that half of the picks get.

    The picks are those that were learned from, so they say nothing of how good the network is.

    Returns
    -------
    dict
        ``threshold/NAME`` of each species that has picks.
    """
    heights: dict[str, list[float]] = {}
    for region in regions:
        inside = region.inside()
        for position, channel in zip(region.positions[inside], region.channels[inside], strict=True):
            name = region.species[channel].name
            heights.setdefault(name, []).append(_height(network, region, position, channel, spec, tiles))
    return {
        f"threshold/{name}": float(np.clip(np.median(found) / 2, FLOOR, 0.5))
        for name, found in heights.items()
    }


def _height(
    network: nn.Module,
    region: Source,
    position: NDArray[np.floating],
    channel: int,
    spec: TargetSpec,
    tiles: TilePlan,
) -> float:
    """Highest answer within a voxel (of the heatmap) around a position, in the middle of a patch."""
    side = tiles.tile
    corner = np.rint(position).astype(int) - side // 2
    image = cut(region, (int(corner[0]), int(corner[1]), int(corner[2])), side, spec).image
    turned = replace(tiles, tilt_axis=region.tilt_axis)
    answer = score(network, torch.from_numpy(image)[None, None], turned)[0, channel]
    stride = spec.output_stride
    place = np.rint((position - corner - (stride - 1) / 2) / stride).astype(int)
    near = tuple(slice(max(p - 1, 0), p + 2) for p in place)
    return float(answer[near].max())


def summary(rows: Mapping[str, float]) -> dict[str, float]:
    """Put the mean of the rows called ``judge`` in their place, as ``score``; without any there is none."""
    judged = [value for name, value in rows.items() if name.startswith("judge/")]
    kept = {name: value for name, value in rows.items() if not name.startswith("judge/")}
    return {"score": float(np.mean(judged)), **kept} if judged else kept


def _score(network: nn.Module, region: Source, tiles: TilePlan, spec: TargetSpec) -> Scored:
    """Run the network over a region and as much of its surroundings as a tile overlaps."""
    reach = tiles.tile // 4 // tiles.stride * tiles.stride
    shape = region.data.shape
    low = [max(0, a - reach) for a, _ in region.bounds]
    high = [min(n, b + reach) for (_, b), n in zip(region.bounds, shape, strict=True)]
    part = region.data[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    blocks: list[NDArray[np.float32]] = []
    turned = replace(tiles, tilt_axis=region.tilt_axis)
    stream(network, part, region.normalise, turned, lambda _, block: blocks.append(block.copy()))
    voxel = region.voxel_size
    scores = ScoreMap(
        np.concatenate(blocks, axis=1),
        voxel * tiles.stride,
        region.species,
        offset=voxel * (tiles.stride - 1) / 2,
        kind=spec.kind,
    )
    return Scored(region, scores, (low[0], low[1], low[2]))


def candidates(scored: Scored, threshold: float) -> Particles:
    """Picks of a region, in Å of its tomogram, best first."""
    found = pick(scored.scores, PickConfig(threshold=threshold, exclusive=False, border=0.0))
    source = scored.source
    positions = found.positions + np.array(scored.corner) * source.voxel_size
    found = Particles.of(positions, found.species, found.scores)
    low, high = (np.array(source.bounds, dtype=float).T - 0.5) * source.voxel_size
    inside = ((found.positions >= low) & (found.positions < high)).all(axis=1)
    return found.take(inside).sorted()


def _joined(lists: list[Particles]) -> Particles:
    """Put the regions so far apart that nothing matches across them."""
    apart = np.array([1e7, 0.0, 0.0])
    return concatenate(
        Particles.of(p.positions + apart * i, p.species, p.scores) for i, p in enumerate(lists)
    ).sorted()


def heatmap_rows(scored: list[Scored], species: tuple[Species, ...]) -> dict[str, float]:
    """F1 where annotation is exhaustive, recall at a budget where it is not, by species."""
    found = _joined([candidates(s, FLOOR) for s in scored])
    truth = _joined([s.source.truth() for s in scored])
    rows: dict[str, float] = {}
    for channel, kind in enumerate(species):
        true, seen = truth.named(kind.name), found.named(kind.name)
        if not len(true):
            continue
        exhaustive = all(bool(s.source.exhaustive[channel]) for s in scored)
        if exhaustive:
            rows |= _best_f1(seen, true, kind)
        else:
            rows |= _budget(seen, true, kind)
    return rows


def _best_f1(found: Particles, truth: Particles, kind: Species) -> dict[str, float]:
    levels = np.unique(np.quantile(found.scores, np.linspace(0, 1, 33))) if len(found) else np.array([0.5])
    outcomes = [(detection(found.take(found.scores >= t), truth, kind.radius).f1, float(t)) for t in levels]
    f1, threshold = max(outcomes)
    return {f"judge/{kind.name}": f1, f"f1/{kind.name}": f1, f"threshold/{kind.name}": threshold}


def _budget(found: Particles, truth: Particles, kind: Species) -> dict[str, float]:
    """Judge by recall; the threshold keeps twice as many candidates as there are annotated ones."""
    recalls = recall_at_budget(found, truth, kind.radius, budgets=(1, 2, 4))
    mean = float(np.mean(list(recalls.values())))
    kept = found.scores[: 2 * len(truth)]
    threshold = float(kept[-1]) if len(kept) else 0.5
    named = {f"recall@{budget}x/{kind.name}": value for budget, value in recalls.items()}
    return {f"judge/{kind.name}": mean, **named, f"threshold/{kind.name}": threshold}


def _mask_rows(scored: list[Scored], species: tuple[Species, ...]) -> dict[str, float]:
    counts = np.zeros((len(species) + 1, 3))
    for one in scored:
        counts += _confusion(one, len(species) + 1)
    rows: dict[str, float] = {}
    for channel, kind in enumerate(species):
        hits, false, missed = counts[channel + 1]
        if hits + missed:
            dice = 2 * hits / (2 * hits + false + missed)
            rows |= {f"judge/{kind.name}": float(dice), f"dice/{kind.name}": float(dice)}
    truth = _joined([s.source.truth() for s in scored])
    best: dict[str, tuple[float, float]] = {}
    for level in MASK_LEVELS:
        found = _joined([candidates(s, level) for s in scored])
        for kind in species:
            if len(true := truth.named(kind.name)):
                f1 = detection(found.named(kind.name), true, kind.radius).f1
                best[kind.name] = max(best.get(kind.name, (-1.0, level)), (f1, level))
    for name, (f1, level) in best.items():
        rows |= {f"f1/{name}": f1, f"threshold/{name}": level}
    return rows


def _confusion(scored: Scored, classes: int) -> NDArray[np.float64]:
    """Hits, false and missed voxels of every class, where the truth is known."""
    source, corner = scored.source, scored.corner
    low = [a - c for (a, _), c in zip(source.bounds, corner, strict=True)]
    sides = [b - a for a, b in source.bounds]
    window = tuple(slice(a, a + n) for a, n in zip(low, sides, strict=True))
    species = np.asarray(scored.scores.data)[(slice(None), *window)]
    found = np.concatenate([1 - species.sum(0, keepdims=True), species]).argmax(0)
    start = (source.bounds[0][0], source.bounds[1][0], source.bounds[2][0])
    true = mask_target(source, start, (sides[0], sides[1], sides[2]))
    known = true != UNKNOWN
    rows = [
        [
            ((found == c) & (true == c) & known).sum(),
            ((found == c) & (true != c) & known).sum(),
            ((found != c) & (true == c) & known).sum(),
        ]
        for c in range(classes)
    ]
    return np.array(rows, dtype=np.float64)
