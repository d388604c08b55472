"""Scores of picks in test tomograms, by species and by tomogram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryovox.benchmark.tomograms import in_tomogram, true_particles
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.intensity import sign_of
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import ScoreMap
from cryovox.formats import read_volume, stem
from cryovox.formats import scores as score_files
from cryovox.metrics import czii
from cryovox.metrics.detection import average_precision, detection, f_beta, precision_recall
from cryovox.picking import PickConfig, pick
from cryovox.picking.blobs import dog
from cryovox.workflows.devices import Device

HEADLINES = ("f1", "average_precision", "best_f1", "f_beta4")
"""Weighted means over the species, see `score`."""
LEVELS = (0.02, 0.2, 0.35, 0.5, 0.65, 0.8)
"""Thresholds of the candidates for `best_f1` and average precision: heatmaps use the lowest, masks all."""


def score(tests: Dataset, model: Path, out: Path, device: Device) -> dict[str, float]:
    """F1 and F-beta within half a radius; the mean over the species is weighted as in the challenge.

    "f1" and "f_beta4" are scores of the picks that `find` returns. "best_f1" is the F1 at the best threshold
    of each species, selected on the test labels; it and "average_precision" measure the ranking of the
    candidates. "f1 in NAME" and "average_precision in NAME" are those of a single tomogram.
    """
    from cryovox.workflows.find import find

    tomograms = [e.tomogram for e in tests.split("test")]
    picks, failures = find(tomograms, model, out / "found", lamella=False, device=device)
    for error in failures.values():
        raise error
    all_picks = concatenate(in_tomogram(picks[stem(e.tomogram)], e.name) for e in tests.split("test"))
    maps = {e.name: read_scores(e, out / "found") for e in tests.split("test")}
    heatmaps = all(scores.kind == "heatmap" for scores in maps.values())
    thresholds = LEVELS[:1] if heatmaps else LEVELS
    candidates = [
        concatenate(pick_candidates(name, maps[name], threshold) for name in maps) for threshold in thresholds
    ]
    scores = species_scores(all_picks, candidates, tests)
    for name in maps:
        single = tests.model_copy(update={"entries": tuple(e for e in tests.entries if e.name == name)})
        own = species_scores(all_picks.within(name), [some.within(name) for some in candidates], single)
        scores |= {f"{metric} in {name}": own[metric] for metric in ("f1", "average_precision")}
    return scores


def species_scores(picks: Particles, candidates: Sequence[Particles], tests: Dataset) -> dict[str, float]:
    """Weighted mean scores over the species, and "f1/NAME" and "f_beta4/NAME" of each species.

    Parameters
    ----------
    picks
        Picks that are scored.
    candidates
        Candidates at each of several thresholds, for "best_f1" and "average_precision".
    """
    true = true_particles(tests)
    table: dict[str, dict[str, float]] = {}
    for kind in tests.species:
        radius, truth = czii.FRACTION * kind.radius, true.named(kind.name)
        if not len(truth):
            continue
        own = picks.named(kind.name)
        curves = [precision_recall(some.named(kind.name), truth, radius)[:2] for some in candidates]
        table[kind.name] = {
            "f1": detection(own, truth, radius).f1,
            "average_precision": max(
                average_precision(some.named(kind.name), truth, radius) for some in candidates
            ),
            "best_f1": max(
                (f_beta(p, r, 1.0) for curve in curves for p, r in zip(*curve, strict=True)), default=0.0
            ),
            "f_beta4": czii.exact_f(czii.count(own, truth, radius)),
        }
    weights = [czii.WEIGHTS.get(name, 1.0) for name in table]
    weights = weights if any(weights) else [1.0] * len(weights)
    means = {m: np.average([row[m] for row in table.values()], weights=weights) for m in HEADLINES}
    each = {
        f"{m}/{name}": row[m] for m in ("f1", "average_precision", "f_beta4") for name, row in table.items()
    }
    return {name: round(float(value), 5) for name, value in (means | each).items()}


def dog_baseline(tests: Dataset) -> Particles:
    """Blobs of the size of each species, given the true counts; dark particles unless the entry is bright."""
    lists = []
    for entry in tests.split("test"):
        volume, true = read_volume(entry.tomogram), true_particles(tests).within(entry.name)
        data = np.asarray(volume.data)
        for kind in tests.species:
            width = kind.radius / 2 / volume.voxel_size
            count = len(true.named(kind.name))
            sign = sign_of(entry.contrast)
            blobs = dog(data, volume.voxel_size, width, sign=sign, max_count=count, species=kind.name)
            lists.append(in_tomogram(blobs, entry.name))
    return concatenate(lists)


def read_scores(entry: Entry, folder: Path) -> ScoreMap:
    """Score map of an entry in the output folder of `find`."""
    return score_files.read(folder / "scores" / f"{stem(entry.tomogram)}.zarr")


def pick_candidates(name: str, scores: ScoreMap, threshold: float) -> Particles:
    """Picks above a threshold for each species alone, because species compete at low thresholds."""
    return in_tomogram(pick(scores, PickConfig(threshold=threshold, exclusive=False, border=0.0)), name)
