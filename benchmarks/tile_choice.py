"""Tile and overlap of a network: F1 and processor seconds of each choice, on tomograms kept for choices.

Networks of size s learn from two tomograms of a simulated CZII phantom with new weights by seed, and pick in two
others. Every model is scored with each tile and overlap; F1 is at the best threshold of each species, so that a choice is
not judged by thresholds that were chosen with another one. Recall near the faces counts particles within a radius of a face.

    OMP_NUM_THREADS=1 python benchmarks/tile_choice.py --work DIR       # about 25 processor minutes
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from common import write_result
from cryovox.benchmark.semi.methods import ALL_METHODS
from cryovox.benchmark.semi.scores import pick_candidates
from cryovox.benchmark.tomograms import Scale, scaled_preset, stand_in, true_particles
from cryovox.benchmark.training import nested, shared_settings
from cryovox.core.config import validated
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import ScoreMap
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_volume
from cryovox.inference.stream import TilePlan, stream
from cryovox.metrics.detection import detection
from cryovox.models.card import Card
from cryovox.models.checkpoint import load_model
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.inputs import prepare
from cryovox.workflows.training.run import train

NETWORKS = {"heatmap-unet": "2m", "voxresnet": "2m"}
"""Processor time of a training."""
CHOICES = [(48, 0.5), (48, 0.25), (64, 0.5), (64, 0.25), (64, 0.125), (96, 0.25)]
"""Tile and overlap."""
SEEDS, SIMULATION_SEED = 3, 911
SCALE = Scale((64, 192, 192), count=45, n_train=2, n_test=2, voxel_size=20.0)
LEVELS = {"heatmap": np.arange(0.1, 0.95, 0.05).round(2), "mask": np.array([0.3, 0.5, 0.7])}


def phantom(folder: Path) -> Dataset:
    """Simulate the tomograms, once."""
    if not (folder / "dataset.yaml").exists():
        stand_in(folder, scaled_preset("czii-phantom", SCALE), 2, 2, seed=SIMULATION_SEED)
    return dataset_files.read(folder)


def trained(network: str, seed: int, work: Path) -> Path:
    """Model of a network, trained once."""
    out = work / f"{network}-{seed}"
    if not (out / "done").exists():
        options = shared_settings("cpu") | ALL_METHODS | {
            "supervised.loss": "auto", "network.model": network, "network.size": "s",
            "loop.max_time": NETWORKS[network], "seed": seed,
        }  # fmt: skip
        config = validated(TrainConfig, nested(options), Path(network))
        train(work / "phantom", out, config, device="cpu", overwrite=True)
        (out / "done").touch()
    return out / "model.safetensors"


def score_map(network: Any, card: Card, entry: Entry, tiles: TilePlan) -> tuple[ScoreMap, float]:
    """Scores of a tomogram, and the processor seconds that they took."""
    tomogram = prepare(entry.tomogram, card, None, "auto")
    blocks: list[Any] = []
    start = time.process_time()
    stream(network, tomogram.volume.data, tomogram.normalize, tiles, lambda _, b: blocks.append(b.copy()))
    seconds = time.process_time() - start
    voxel_size = tomogram.volume.voxel_size
    offset = voxel_size * (tiles.stride - 1) / 2
    scores = np.concatenate(blocks, axis=1)
    return ScoreMap(scores, voxel_size * tiles.stride, card.species, offset, card.kind), seconds


def near_faces(dataset: Dataset, particles: Particles) -> Any:
    """Which particles lie within their radius of a face of their tomogram."""
    radii = {s.name: s.radius for s in dataset.species}
    size = np.array(read_volume(dataset.split("test")[0].tomogram).shape) * dataset.voxel_size
    distance = np.minimum(particles.positions, size - particles.positions).min(axis=1)
    return distance < [radii[name] for name in particles.species]


def evaluate(dataset: Dataset, model: Path, tiles: TilePlan) -> dict[str, float]:
    """F1 at the best threshold of each species, recall near faces and elsewhere, and time."""
    network, card = load_model(model)
    maps = {e.name: score_map(network, card, e, tiles) for e in dataset.split("test")}
    true = true_particles(dataset)
    faces = near_faces(dataset, true)
    lists = [
        concatenate(pick_candidates(name, scores, float(level)) for name, (scores, _) in maps.items())
        for level in LEVELS[card.kind]
    ]
    f1, recalls = [], {"recall_faces": [], "recall_inside": []}
    for kind in dataset.species:
        truth = true.named(kind.name)
        if not len(truth):
            continue
        picks = max(
            (some.named(kind.name) for some in lists),
            key=lambda some, truth=truth, kind=kind: detection(some, truth, kind.radius).f1,
        )
        f1.append(detection(picks, truth, kind.radius).f1)
        for key, part in (("recall_faces", faces), ("recall_inside", ~faces)):
            own = true.take(part).named(kind.name)
            if len(own):
                recalls[key].append(detection(picks, own, kind.radius).recall)
    rows = {"f1": mean(f1), **{key: mean(values) for key, values in recalls.items() if values}}
    return {**rows, "seconds": sum(seconds for _, seconds in maps.values())}


def main() -> None:
    """Train, measure, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    args = parser.parse_args()
    dataset = phantom(args.work / "phantom")
    runs = []
    for network in args.networks:
        for seed in range(args.seeds):
            model = trained(network, seed, args.work)
            card = load_model(model)[1]
            for bf16 in (False, True):
                for tile, overlap in CHOICES if not bf16 else CHOICES[:1]:
                    tiles = TilePlan(tile, overlap, card.output_stride, card.activation, bf16=bf16)
                    row = {"network": network, "seed": seed, "tile": tile, "overlap": overlap, "bf16": bf16}
                    runs.append(row | {k: round(v, 4) for k, v in evaluate(dataset, model, tiles).items()})
                    print(runs[-1], flush=True)
    write_result("tile_choice", {"settings": {"training": NETWORKS, "shape": SCALE.shape}, "runs": runs})


if __name__ == "__main__":
    main()
