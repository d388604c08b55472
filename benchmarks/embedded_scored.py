"""The embedded model on data that nothing was chosen on, without any training on them.

- Real tomogram (half of one of EMPIAR-11658, 31.36 Å): recall of its ribosome picks, about a third of the ribosomes,
  at 1 to 4 candidates per pick, within 100 Å; over all sizes, with `--species ribosome=125`, and `--by-contrast`. Picks outside
  the estimated lamella are left out, as by `find`. Choices were made on y < 160 (`embedded_half.py`), so only y >= 160 is a test.
- *M. pneumoniae* (EMPIAR-10499): probability that the particle scores higher than a crop of the same box shifted by 125 Å
  (`benchmarks/mpneumoniae_70s.py`), at 12 Å.
- Third-party simulations (`sim_deepfinder`): objects of any class, within 60 Å of their centers, at the thresholds of the model and at
  the best one.

The baseline is the difference-of-Gaussians picker. Every run is listed in `docs/benchmarks/scored-data.md`.

    python benchmarks/embedded_scored.py --work DIR        # about 5 processor minutes
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import mpneumoniae_70s as boxes
import real_ribosomes as real
from common import DATA, write_result
from cryovox.benchmark.adaptation.tomograms import sim_deepfinder, write_centers
from cryovox.benchmark.tomograms import in_tomogram
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import ScoreMap
from cryovox.filters.whitening import WhitenedVoxels, Whitening, measured, resolution_of
from cryovox.formats import read_particles, read_volume, scores
from cryovox.metrics.bootstrap import interval
from cryovox.metrics.detection import average_precision, precision_recall, recall_at_budget
from cryovox.models.card import EMBEDDED, Card, model_file, read_card
from cryovox.models.checkpoint import load_model
from cryovox.models.supervision import predict
from cryovox.picking import PickConfig, pick
from cryovox.picking.blobs import dog
from cryovox.picking.lamella import estimate
from cryovox.picking.selection import select
from cryovox.workflows.contrast import contrasts
from cryovox.workflows.inputs import prepare
from cryovox.workflows.manifest import sha256
from cryovox.workflows.segment import segment

LEAST = PickConfig(threshold=0.01, border=0.0)
TOLERANCE = 60.0
"""Maximum distance of a hit in the third-party simulations, in Å."""
RIBOSOME = "ribosome=125"
CHOSEN_ON = 160
"""Voxel along y below which the real tomogram took part in choices (`benchmarks/embedded_half.py`)."""
CROP, SHIFT, PADDED = 20, 6, 32
"""Edge of a crop, shift along every axis, and edge after mirroring, in voxels of 12 Å."""


def score_map(tomogram: Path, model: Path, out: Path) -> Any:
    """Scores of a tomogram."""
    names, failures = segment([tomogram], model, out, device="cpu")
    for error in failures.values():
        raise error
    return scores.read(out / "scores" / f"{names[0]}.zarr")


def dense_maps(maps: ScoreMap, tomogram: Path, model: Path, species: str) -> ScoreMap:
    """Scores of `--species NAME=RADIUS --by-contrast`."""
    picking = PickConfig(species=(species,), by_contrast=True)
    opened = prepare(tomogram, read_card(model), None, "auto", resample=True)
    return select(maps, [species], contrasts(opened, maps.species, picking))


def recalls(picks: Particles, truth: Particles) -> dict[str, float]:
    """Recall at 1 to 4 candidates per true pick."""
    found = recall_at_budget(picks, truth, real.MATCH, real.BUDGETS)
    return {f"recall@{budget}x": round(float(value), 4) for budget, value in found.items()}


def real_tomogram(model: Path, work: Path) -> dict[str, Any]:
    """Recall of the ribosome picks of the real tomogram."""
    maps, truth = score_map(real.TOMOGRAM, model, work / "real"), real.truth()
    volume = read_volume(real.TOMOGRAM)
    lists = {
        "embedded, any size": pick(maps, LEAST),
        "embedded, ribosome=125": pick(select(maps, [RIBOSOME]), LEAST),
        "embedded, ribosome=125, by contrast": pick(dense_maps(maps, real.TOMOGRAM, model, RIBOSOME), LEAST),
        "difference of Gaussians, 2 voxels": dog(np.asarray(volume.data, np.float32), volume.voxel_size, 2.0),
    }
    lamella, note = estimate(volume)
    if lamella is None:
        raise SystemExit(f"{real.TOMOGRAM.name}: {note}")
    spans = {f"y >= {CHOSEN_ON}": (CHOSEN_ON, volume.shape[1]), "whole": (0, volume.shape[1])}
    table: dict[str, Any] = {}
    for part, span in spans.items():
        true = real.inside(truth, span, volume.voxel_size)
        table[part] = {"picks": len(true)}
        for name, picks in lists.items():
            kept = picks.take(np.flatnonzero(lamella.contain(picks.positions)))
            table[part][name] = recalls(real.inside(kept, span, volume.voxel_size), true)
    return table


def whitened_boxes(data: NDArray[np.float32], voxel_size: float) -> NDArray[np.float32]:
    """Boxes (n, z, y, x), all with the mean gains of all of them."""
    resolution = resolution_of(voxel_size, voxel_size)
    curves = [measured(box, voxel_size, resolution) for box in data]
    gains = np.exp(np.mean([np.log(curve.gains) for curve in curves], axis=0))
    mean = Whitening(curves[0].step, gains, resolution)
    return np.stack([np.asarray(WhitenedVoxels(box, voxel_size, mean)) for box in data])


def fine_crops(card: Card) -> NDArray[np.float32]:
    """Nine crops (40, 9, z, y, x) of the boxes at 12 Å; the first is at the particle."""
    import mrcfile

    with mrcfile.open(boxes.BOXES) as file:
        data = np.asarray(file.data, np.float32).reshape(boxes.PARTICLES, *(32,) * 3)
    if card.whitened:
        data = whitened_boxes(data, boxes.VOXEL)
    data = (data - data.mean()) / data.std()
    corners = np.array([[0, 0, 0], *np.ndindex(2, 2, 2)])
    corners[1:] = (2 * corners[1:] - 1) * SHIFT
    corners += (32 - CROP) // 2
    return np.stack([data[:, z : z + CROP, y : y + CROP, x : x + CROP] for z, y, x in corners], axis=1)


def particle_against_shifted(model: Path) -> dict[str, Any]:
    """AUC within boxes of the network and of the mean gray value."""
    network, card = load_model(model)
    crops = fine_crops(card)
    margin = [(0, 0)] + [((PADDED - CROP) // 2,) * 2] * 3
    images = torch.from_numpy(np.pad(crops.reshape(-1, *(CROP,) * 3), margin, mode="reflect"))[:, None]
    with torch.inference_mode():
        maps = torch.cat([predict(network, part).sigmoid() for part in images.split(24)])
    # crops side by side in one map, so that sizes are selected as in a tomogram
    beside = ScoreMap(np.concatenate(list(maps.numpy()), axis=-1), card.voxel_size, card.species)
    scores_of = {
        "embedded, any size": np.minimum(np.asarray(beside.data).sum(axis=0), 1.0),
        "embedded, ribosome=125": np.asarray(select(beside, ["ribosome=125"]).data[0]),
    }
    gray = boxes.mean_gray(boxes.nine_crops(boxes.real_boxes()))
    return {
        **{
            name: asdict(interval(boxes.within_boxes(at_middles(values, len(maps)).reshape(crops.shape[:2]))))
            for name, values in scores_of.items()
        },
        boxes.BASELINE: asdict(interval(boxes.within_boxes(gray))),
    }


def at_middles(values: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Highest value in the middle of each of *count* cubes that lie side by side along x."""
    cubes = np.stack(np.split(values, count, axis=-1))
    half = cubes.shape[-1] // 2
    middle = cubes[:, half - 2 : half + 2, half - 2 : half + 2, half - 2 : half + 2]
    return middle.max(axis=(1, 2, 3)).astype(float)


def third_party(model: Path, work: Path) -> dict[str, Any]:
    """F1 of objects of any class in the third-party simulations."""
    dataset = sim_deepfinder(DATA / "sim_deepfinder")
    truth, picks, own, blobs = [], [], [], []
    for entry in dataset.entries:
        centers = work / "centers" / f"{entry.name}.csv"
        write_centers(centers, entry, dataset)
        volume = read_volume(entry.tomogram)
        true = read_particles(centers)
        maps = score_map(entry.tomogram, model, work / "third-party")
        truth.append(in_tomogram(true, entry.name))
        picks.append(in_tomogram(pick(maps, LEAST), entry.name))
        own.append(in_tomogram(pick(maps), entry.name))
        found = dog(np.asarray(volume.data, np.float32), volume.voxel_size, max_count=len(true))
        blobs.append(in_tomogram(found, entry.name))
    everything = concatenate(truth)
    return {
        "objects": len(everything),
        "embedded, own thresholds": own_f1(concatenate(own), everything),
        "embedded": curve(concatenate(picks), everything),
        "difference of Gaussians, given the true count": own_f1(concatenate(blobs), everything),
    }


def own_f1(picks: Particles, truth: Particles) -> dict[str, float]:
    """Precision, recall and F1 of all picks."""
    precision, recall, _ = precision_recall(picks, truth, TOLERANCE)
    if not len(precision):
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    p, r = float(precision[-1]), float(recall[-1])
    return {"precision": round(p, 4), "recall": round(r, 4), "f1": round(2 * p * r / max(p + r, 1e-9), 4)}


def curve(picks: Particles, truth: Particles) -> dict[str, float]:
    """F1 at the best threshold and average precision."""
    precision, recall, threshold = precision_recall(picks, truth, TOLERANCE)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = int(f1.argmax())
    return {
        "best_f1": round(float(f1[best]), 4),
        "threshold": round(float(threshold[best]), 4),
        "average_precision": round(average_precision(picks, truth, TOLERANCE), 4),
    }


def main() -> None:
    """Score the model and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    args = parser.parse_args()
    model = model_file(args.model)
    card = read_card(model)
    training = {key: card.training[key] for key in ("steps", "seconds") if key in card.training}
    result = {
        "model_sha256": sha256(model),
        "training": training,
        "real": real_tomogram(model, args.work),
        "mpneumoniae": particle_against_shifted(model),
        "sim_deepfinder": third_party(model, args.work),
    }
    print(result, write_result("scored-embedded", result), sep="\n")


if __name__ == "__main__":
    main()
