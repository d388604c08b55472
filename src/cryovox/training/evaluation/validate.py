"""Validation of a network on held-out regions, and thresholds for its scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.volume import ScoreMap
from cryovox.data.patches import TargetSpec, cut, mask_target
from cryovox.data.regions import Region
from cryovox.data.targets import IGNORE_INDEX
from cryovox.inference.stream import TilePlan, score, stream
from cryovox.metrics.detection import detection
from cryovox.picking import PickConfig, pick
from cryovox.picking.peaks import separate
from cryovox.training.evaluation.held_out import (
    Metrics,
    RegionPicks,
    concatenate_regions,
    detection_metrics,
    dice_metrics,
    half_dice_metrics,
    halves,
    split_heights,
    with_score,
)
from cryovox.training.evaluation.thresholds import MIN_HEIGHT, midpoint_thresholds

MIN_MASK_SCORE = 0.05
"""Lowest threshold of a mask."""
MASK_THRESHOLDS = (0.3, 0.5, 0.7)
"""Thresholds to try on masks."""


@dataclass(frozen=True, eq=False)
class ScoredRegion:
    """A held-out region with the scores of the network."""

    region: Region
    scores: ScoreMap
    corner: tuple[int, int, int]


def validate(
    network: nn.Module, regions: list[Region], spec: TargetSpec, tiles: TilePlan
) -> dict[str, float]:
    """Compute the metrics of a network on held-out regions.

    Returns
    -------
    dict
        ``score`` selects the weights: mean F1 over species at the best thresholds for heatmaps, mean
        Dice for masks, mean recall at 1, 2 and 4 candidates per annotated particle where annotation is
        not exhaustive; absent where nothing is annotated. ``threshold/NAME`` is the threshold of each
        species; heatmaps have one also for species without a particle here. ``half1/...`` and
        ``half2/...`` are the metrics of the two halves, for
        `cryovox.training.evaluation.held_out.cross_fit`.
    """
    scored = [score_region(network, region, tiles, spec) for region in regions]
    species = regions[0].species
    if spec.kind == "heatmap":
        return with_score(detection_metrics(region_picks(scored, MIN_HEIGHT), species))
    return with_score(_mask_rows(scored, species))


@torch.no_grad()
def thresholds_at_picks(
    network: nn.Module, regions: list[Region], spec: TargetSpec, tiles: TilePlan
) -> dict[str, float]:
    """Choose thresholds from the scores around training picks, for use when nothing is held out.

    Heatmaps: between the peaks at picks and the other peaks (`cryovox.training.evaluation.thresholds`).
    Masks: half of the median score at the picks. The network was trained on these picks, so their scores do
    not measure its quality.

    Returns
    -------
    dict
        ``threshold/NAME`` of each species; for masks, of the species with picks.
    """
    if spec.kind == "mask":
        return _mask_thresholds_at_picks(network, regions, spec, tiles)
    picks = concatenate_regions(peaks_around_picks(network, region, spec, tiles) for region in regions)
    truth = concatenate_regions(region.truth() for region in regions)
    species = regions[0].species
    heights = {
        kind.name: split_heights(picks.named(kind.name), true, kind.radius)
        for kind in species
        if len(true := truth.named(kind.name))
    }
    labeled, rest = ({name: pair[i] for name, pair in heights.items()} for i in (0, 1))
    chosen = midpoint_thresholds(labeled, rest, [kind.name for kind in species])
    return {f"threshold/{name}": threshold for name, threshold in chosen.items()}


def peaks_around_picks(network: nn.Module, region: Region, spec: TargetSpec, tiles: TilePlan) -> Particles:
    """Peaks of the patches around the picks of a region, without those near the faces of the patches."""
    margin, turned = tiles.tile // 8, replace(tiles, tilt_axis=region.tilt_axis)
    voxel, left, lists = region.voxel_size, region.positions[region.annotated], []
    while len(left):
        z, y, x = (np.rint(left[0]).astype(int) - tiles.tile // 2).tolist()
        core = [(a + margin, a + tiles.tile - margin) for a in (z, y, x)]
        image = cut(region, (z, y, x), tiles.tile, spec).image
        heatmaps = score(network, torch.from_numpy(image)[None, None], turned)[0]
        scores = ScoreMap(
            heatmaps, voxel * tiles.stride, region.species, voxel * (tiles.stride - 1) / 2, kind="heatmap"
        )
        spans = [(max(a, low), min(b, high)) for (a, b), (low, high) in zip(core, region.bounds, strict=True)]
        part = replace(region, bounds=(spans[0], spans[1], spans[2]))
        lists.append(candidates(ScoredRegion(part, scores, (z, y, x)), MIN_HEIGHT))
        low, high = np.array(core).T
        left = left[~((left >= low) & (left < high)).all(axis=1)]
    return _distinct(concatenate(lists), region.species)


def _distinct(picks: Particles, species: tuple[Species, ...]) -> Particles:
    """Remove duplicate picks of overlapping patches, keeping the highest scores."""
    lists = [picks.named(kind.name) for kind in species]
    kept = [
        own.take(separate(own.positions, own.scores, kind.radius))
        for own, kind in zip(lists, species, strict=True)
    ]
    return concatenate(kept)


def _mask_thresholds_at_picks(
    network: nn.Module, regions: list[Region], spec: TargetSpec, tiles: TilePlan
) -> dict[str, float]:
    heights: dict[str, list[float]] = {}
    for region in regions:
        inside = region.inside()
        for position, channel in zip(region.positions[inside], region.channels[inside], strict=True):
            name = region.species[channel].name
            heights.setdefault(name, []).append(_height(network, region, position, channel, spec, tiles))
    return {
        f"threshold/{name}": float(np.clip(np.median(of_species) / 2, MIN_MASK_SCORE, 0.5))
        for name, of_species in heights.items()
    }


def _height(
    network: nn.Module,
    region: Region,
    position: NDArray[np.floating],
    channel: int,
    spec: TargetSpec,
    tiles: TilePlan,
) -> float:
    """Highest score within a voxel of the output around a position, in the middle of a patch."""
    patch_size = tiles.tile
    corner = np.rint(position).astype(int) - patch_size // 2
    image = cut(region, (int(corner[0]), int(corner[1]), int(corner[2])), patch_size, spec).image
    turned = replace(tiles, tilt_axis=region.tilt_axis)
    probabilities = score(network, torch.from_numpy(image)[None, None], turned)[0, channel]
    stride = spec.output_stride
    place = np.rint((position - corner - (stride - 1) / 2) / stride).astype(int)
    near = tuple(slice(max(p - 1, 0), p + 2) for p in place)
    return float(probabilities[near].max())


def score_region(network: nn.Module, region: Region, tiles: TilePlan, spec: TargetSpec) -> ScoredRegion:
    """Run the network on a region and a margin of up to a quarter of a tile around it."""
    reach = tiles.tile // 4 // tiles.stride * tiles.stride
    shape = region.data.shape
    low = [max(0, a - reach) for a, _ in region.bounds]
    high = [min(n, b + reach) for (_, b), n in zip(region.bounds, shape, strict=True)]
    part = region.data[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    blocks: list[NDArray[np.float32]] = []
    turned = replace(tiles, tilt_axis=region.tilt_axis)
    stream(network, part, region.normalize, turned, lambda _, block: blocks.append(block.copy()))
    voxel = region.voxel_size
    scores = ScoreMap(
        np.concatenate(blocks, axis=1),
        voxel * tiles.stride,
        region.species,
        offset=voxel * (tiles.stride - 1) / 2,
        kind=spec.kind,
    )
    return ScoredRegion(region, scores, (low[0], low[1], low[2]))


def candidates(scored: ScoredRegion, threshold: float) -> Particles:
    """Picks of a region above a threshold, which may overlap, in Å of its tomogram, best first."""
    return picks_inside(scored, PickConfig(threshold=threshold, exclusive=False, border=0.0))


def picks_inside(scored: ScoredRegion, config: PickConfig) -> Particles:
    """Picks whose centers lie in the region, in Å of its tomogram, best first."""
    picks = pick(scored.scores, config)
    region = scored.region
    positions = picks.positions + np.array(scored.corner) * region.voxel_size
    picks = Particles.of(positions, picks.species, picks.scores)
    low, high = (np.array(region.bounds, dtype=float).T - 0.5) * region.voxel_size
    inside = ((picks.positions >= low) & (picks.positions < high)).all(axis=1)
    return picks.take(inside).sorted()


def region_picks(scored: list[ScoredRegion], threshold: float) -> list[RegionPicks]:
    """Candidates of every region."""
    return [RegionPicks(s.region, candidates(s, threshold)) for s in scored]


def _mask_rows(scored: list[ScoredRegion], species: tuple[Species, ...]) -> Metrics:
    rows = dice_metrics(_counts(scored, species), species)
    for number, half in enumerate(halves([s.region for s in scored]), start=1):
        parts = [replace(scored[i], region=part) for i, part in half]
        rows |= half_dice_metrics(number, _counts(parts, species), [p.region for p in parts], species)
    truth = concatenate_regions([s.region.truth() for s in scored])
    best: dict[str, tuple[float, float]] = {}
    for level in MASK_THRESHOLDS:
        picks = concatenate_regions([p.picks for p in region_picks(scored, level)])
        for kind in species:
            if len(true := truth.named(kind.name)):
                f1 = detection(picks.named(kind.name), true, kind.radius).f1
                best[kind.name] = max(best.get(kind.name, (-1.0, level)), (f1, level))
    for name, (f1, level) in best.items():
        rows |= {f"f1/{name}": f1, f"threshold/{name}": level}
    return rows


def _counts(scored: list[ScoredRegion], species: tuple[Species, ...]) -> NDArray[np.float64]:
    """True positive, false positive and false negative voxels of each species."""
    counts = np.zeros((len(species) + 1, 3))
    for one in scored:
        counts += _confusion(one, len(species) + 1)
    return counts[1:]


def label_map(scored: ScoredRegion) -> NDArray[np.intp]:
    """Channel + 1 of the class with the highest score in each voxel of the region, 0 for background."""
    region, corner = scored.region, scored.corner
    window = tuple(slice(a - c, b - c) for (a, b), c in zip(region.bounds, corner, strict=True))
    species = np.asarray(scored.scores.data)[(slice(None), *window)]
    return np.concatenate([1 - species.sum(0, keepdims=True), species]).argmax(0)


def _confusion(scored: ScoredRegion, classes: int) -> NDArray[np.float64]:
    """True positive, false positive and false negative voxels of each class, among labeled voxels."""
    region, predicted = scored.region, label_map(scored)
    sides = [b - a for a, b in region.bounds]
    start = (region.bounds[0][0], region.bounds[1][0], region.bounds[2][0])
    true = mask_target(region, start, (sides[0], sides[1], sides[2]))
    known = true != IGNORE_INDEX
    rows = [
        [
            ((predicted == c) & (true == c) & known).sum(),
            ((predicted == c) & (true != c) & known).sum(),
            ((predicted != c) & (true == c) & known).sum(),
        ]
        for c in range(classes)
    ]
    return np.array(rows, dtype=np.float64)
