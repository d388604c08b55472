"""Calibration of the scores of a trained network on held-out peaks, and the domain in which it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from cryovox.core.intensity import Normalization
from cryovox.core.particles import Particles, Species, pickable
from cryovox.data.patches import TargetSpec
from cryovox.data.regions import Region
from cryovox.inference.stream import TilePlan
from cryovox.metrics.fingerprint import Domain, fingerprint, limit, sample_cubes
from cryovox.metrics.matching import greedy
from cryovox.picking.calibration import Calibration, Peaks, SizeCalibration, calibrate, mixture
from cryovox.picking.config import THRESHOLDS
from cryovox.picking.selection import by_size, select
from cryovox.training.evaluation.held_out import concatenate_regions, f1_curve
from cryovox.training.evaluation.thresholds import MIN_HEIGHT, Curves, choose_thresholds
from cryovox.training.evaluation.validate import (
    ScoredRegion,
    peaks_around_picks,
    region_picks,
    score_region,
)

IDENTITY = Normalization(0.0, 1.0)  # the fingerprint z-scores each cube
MIN_OTHERS = 10
"""Peaks beside annotated particles without which no mixture is fitted."""
MAX_TOMOGRAMS = 8
"""Maximum number of tomograms of which a fingerprint is computed."""


def calibrate_held_out(
    network: nn.Module,
    regions: Sequence[Region],
    spec: TargetSpec,
    tiles: TilePlan,
    thresholds: Mapping[str, float],
) -> Calibration | None:
    """Calibrate on held-out regions: peaks of heatmaps, or the picks of masks at the thresholds of the model.

    Where a species is annotated exhaustively, every peak is known to be a particle or not; elsewhere a
    mixture divides the other peaks. None where nothing is annotated. Where every particle is known and the
    species are ranges of diameters, each size among the others is calibrated too.
    """
    species = pickable(regions[0].species)
    if not species:
        return None
    scored = [score_region(network, region, tiles, spec) for region in regions]
    floors = _floors(species, spec, thresholds)
    lists = {level: region_picks(scored, level) for level in set(floors.values())}
    truth = concatenate_regions([region.truth() for region in regions])
    peaks, is_complete = {}, True
    for kind in species:
        true, channel = truth.named(kind.name), regions[0].species.index(kind)
        complete = all(bool(region.exhaustive[channel]) for region in regions)
        is_known = complete or len(true) > 0
        own = concatenate_regions([r.picks for r in lists[floors[kind.name]]] if is_known else [])
        peaks[kind.name] = _peaks(own.named(kind.name), true, kind, floors[kind.name], complete)
        is_complete &= complete
    if not is_complete:
        return _by_mixture(peaks)
    fitted = calibrate(peaks, "held-out") if len(truth) else None
    if fitted is None or not by_size(species):
        return fitted
    return fitted.model_copy(update={"sizes": _calibrate_sizes(scored, truth, species)})


def _calibrate_sizes(
    scored: list[ScoredRegion], truth: Particles, species: tuple[Species, ...]
) -> dict[str, SizeCalibration]:
    """Calibration and threshold of the picks of each size; particles of other sizes count as wrong."""
    peaks: dict[str, Peaks] = {}
    curves: Curves = {}
    for kind in species:
        chosen = [replace(one, scores=select(one.scores, [kind.name])) for one in scored]
        picks = concatenate_regions([r.picks for r in region_picks(chosen, MIN_HEIGHT)])
        true = truth.named(kind.name)
        peaks[kind.name] = _peaks(picks, true, kind, MIN_HEIGHT, complete=True)
        if len(true):
            curves[kind.name] = len(true), f1_curve(picks, true, kind.radius)
    fitted, thresholds = calibrate(peaks, "held-out"), choose_thresholds(curves, peaks)
    if fitted is None:
        return {}
    return {
        name: SizeCalibration(scores=own, threshold=thresholds[name]) for name, own in fitted.species.items()
    }


def calibrate_at_picks(
    network: nn.Module, regions: Sequence[Region], spec: TargetSpec, tiles: TilePlan
) -> Calibration | None:
    """Calibrate heatmaps on the peaks around training picks, by a mixture, when nothing is held out.

    The network was trained on these picks and scores them higher than others, so the probabilities are rough.
    None for masks.
    """
    if spec.kind == "mask":
        return None
    picks = concatenate_regions(peaks_around_picks(network, region, spec, tiles) for region in regions)
    truth = concatenate_regions(region.truth() for region in regions)
    peaks = {}
    for kind in regions[0].species:
        true = truth.named(kind.name)
        own = picks.named(kind.name) if len(true) else picks.take([])
        peaks[kind.name] = _peaks(own, true, kind, MIN_HEIGHT, complete=False)
    return _by_mixture(peaks)


def _by_mixture(peaks: Mapping[str, Peaks]) -> Calibration | None:
    """Calibration on peaks of which few are known; None where there are too few known or other ones."""
    hits = sum(own.hits for own in peaks.values())
    others = sum(len(own.scores) for own in peaks.values()) - hits
    return calibrate(peaks, "mixture") if hits and others >= MIN_OTHERS else None


def calibration_domain(regions: Sequence[Region]) -> dict[str, Any] | None:
    """Fingerprint of the tomograms of a training; None where no cube of them can be compared."""
    volumes = list({id(region.data): region.data for region in regions}.values())[:MAX_TOMOGRAMS]
    edge = min(32, *(n for volume in volumes for n in volume.shape))
    cubes = [sample_cubes(volume, IDENTITY, edge) for volume in volumes]
    voxel_size = regions[0].voxel_size
    try:
        domain = Domain(
            fingerprint=fingerprint(np.concatenate(cubes), voxel_size), limit=limit(cubes, voxel_size)
        )
    except ValueError:
        return None
    return domain.model_dump(mode="json")


def _floors(
    species: tuple[Species, ...], spec: TargetSpec, thresholds: Mapping[str, float]
) -> dict[str, float]:
    """Lowest score of a peak, by species."""
    if spec.kind == "heatmap":
        return {kind.name: MIN_HEIGHT for kind in species}
    return {kind.name: thresholds.get(kind.name, THRESHOLDS["mask"]) for kind in species}


def _peaks(picks: Particles, truth: Particles, kind: Species, floor: float, complete: bool) -> Peaks:
    hits = greedy(picks.positions, truth.positions, kind.radius, picks.scores).predicted
    target = np.zeros(len(picks))
    target[hits] = 1.0
    if not complete:
        rest = np.setdiff1d(np.arange(len(picks)), hits)
        target[rest] = mixture(picks.scores[hits], picks.scores[rest], floor)
    return Peaks(
        scores=np.asarray(picks.scores, np.float64).tolist(),
        truth=target.tolist(),
        particles=len(truth),
        hits=len(hits),
        floor=floor,
    )
