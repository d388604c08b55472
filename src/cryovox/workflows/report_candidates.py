"""What the report of `find` shows beside the picks: weaker candidates, and candidates in noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import ScoreMap
from cryovox.formats import read_mask
from cryovox.picking import PickConfig, pick_counted
from cryovox.picking.config import threshold_of
from cryovox.picking.rated import FLOOR, Decoys
from cryovox.workflows.inputs import read_search_mask
from cryovox.workflows.noise_control import FOLDER, read_decoys
from cryovox.workflows.pick import tomogram_frame

SHARE = 0.5
"""Lowest score of weaker candidates, as a fraction of the threshold."""
MOST = 150
"""Maximum number of weaker candidates of a species, best first."""


def recorded_decoys(out: Path, name: str, entry: Mapping[str, Any]) -> Decoys | None:
    """Candidates in noise that a run recorded for a tomogram, scaled to the searched region."""
    path = out / FOLDER / f"{name}.json"
    if "noise" not in entry or not path.exists():
        return None
    return read_decoys(path).scaled(entry["particles"].get("lamella", {}).get("fraction", 1.0))


def weaker_candidates(
    out: Path,
    name: str,
    record: Mapping[str, Any],
    score_map: ScoreMap,
    picks: Particles,
    facts: Mapping[str, Any],
) -> Particles:
    """Peaks of heatmaps below the threshold, picked with the other settings of the run.

    Parameters
    ----------
    record
        What the manifest says of the picks of the tomogram.
    picks
        Picks, to which no candidate is nearer than half a radius.
    facts
        Settings of the run.

    Returns
    -------
    Particles
        None of masks, whose regions depend on the threshold, and none if a mask is gone.
    """
    nothing = Particles.of(np.zeros((0, 3)), [])
    if score_map.kind != "heatmap":
        return nothing
    config = PickConfig.model_validate(facts["pick"])
    config = config.model_copy(update={"threshold": None, "purpose": None, "max_count": None})
    limits = _limits(record, score_map, config)
    lower = {kind: max(FLOOR, SHARE * value) for kind, value in limits.items()}
    try:
        mask = _mask(out, name, record, score_map, facts)
        pool, _ = pick_counted(replace(score_map, thresholds=lower), config, mask)
    except (RequestError, OSError):
        return nothing
    kept = []
    for kind in score_map.species:
        own = pool.named(kind.name)
        own = own.take(own.scores < limits[kind.name])
        own = _apart(own, picks, kind.radius / 2).sorted()
        kept.append(own.take(np.arange(len(own)) < MOST))
    return concatenate(kept)


def _limits(record: Mapping[str, Any], score_map: ScoreMap, config: PickConfig) -> dict[str, float]:
    """Thresholds in use; where no candidate qualified, that of the model."""
    used = {kind: own.get("threshold") for kind, own in record.get("expected", {}).items()}
    model = {s.name: threshold_of(score_map, s.name, config) for s in score_map.species}
    return {kind: value if used.get(kind) is None else float(used[kind]) for kind, value in model.items()}


def _apart(candidates: Particles, picks: Particles, distance: float) -> Particles:
    """Candidates that are not nearer than a distance to any pick."""
    if not len(picks) or not len(candidates):
        return candidates
    return candidates.take(KDTree(picks.positions).query(candidates.positions)[0] >= distance)


def _mask(
    out: Path, name: str, record: Mapping[str, Any], score_map: ScoreMap, facts: Mapping[str, Any]
) -> NDArray[np.bool_] | None:
    """Where the run searched: inside the mask of the user and between the faces of the sample."""
    own = facts.get("segment", {}).get("mask")
    shape = tomogram_frame(score_map).shape
    inside = read_search_mask(None if own is None else Path(own), name, shape)
    file = record.get("lamella", {}).get("mask")
    if file is None:
        return inside
    sample = read_mask(out / file)
    return sample if inside is None else sample & inside
