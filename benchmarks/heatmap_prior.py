"""Prior of heatmap networks: how fast complete and scattered labels are learned.

One tomogram of a smaller CZII phantom is labeled, by seed another one, and four others are tested. "complete" labels
claim that every particle is picked, "scattered" ones are the same picks without that claim. Settings are those of the
suite `semi`, with a fixed number of steps (docs/decisions/0020-prior-of-heatmaps.md).

    python benchmarks/heatmap_prior.py --work DIR       # about 10 processor minutes
"""

from __future__ import annotations

import argparse
from math import log
from pathlib import Path
from statistics import mean

from common import write_result
from cryovox.benchmark.semi.methods import ALL_METHODS
from cryovox.benchmark.semi.scores import pick_candidates, read_scores, score
from cryovox.benchmark.tomograms import Scale, scaled_preset, stand_in, true_particles
from cryovox.benchmark.training import nested, shared_settings
from cryovox.core.config import validated
from cryovox.core.dataset import Dataset
from cryovox.core.particles import concatenate
from cryovox.formats import dataset as dataset_files
from cryovox.metrics import czii
from cryovox.metrics.detection import average_precision
from cryovox.models.networks import heatmap_unet
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.training.run import train

CASES = {
    "prior 0.1, complete labels": (0.1, True),
    "prior 0.1, scattered labels": (0.1, False),
    "prior 0.01, complete labels": (0.01, True),
    "prior 0.01, scattered labels": (0.01, False),
}
TRAINED, TESTED, SIMULATION_SEED = 3, 4, 911
SCALE = Scale((48, 96, 96), count=16, n_train=TRAINED, n_test=TESTED, voxel_size=20.0)
METRICS = ("f1", "best_f1", "average_precision")


def phantom(folder: Path) -> Dataset:
    """Simulate the tomograms, once."""
    if not (folder / "dataset.yaml").exists():
        stand_in(folder, scaled_preset("czii-phantom", SCALE), TRAINED, TESTED, seed=SIMULATION_SEED)
    return dataset_files.read(folder)


def run_case(dataset: Dataset, case: str, seed: int, steps: int, work: Path) -> dict[str, float]:
    """Train on the labels of one tomogram and score the picks in the others."""
    prior, exhaustive = CASES[case]
    heatmap_unet.PRIOR_LOGIT = round(log(prior / (1 - prior)), 2)
    entry = dataset.split("train")[seed].model_copy(update={"labels": None, "exhaustive": exhaustive})
    folder = work / f"{case}, seed {seed}, {steps} steps"
    folder.mkdir(parents=True, exist_ok=True)
    dataset_files.write(folder, dataset.model_copy(update={"entries": (entry,)}))
    options = shared_settings("cpu") | ALL_METHODS | {
        "supervised.loss": "auto", "supervised.unknown": "ignore", "network.model": "heatmap-unet",
        "network.size": "s", "loop.steps": steps, "seed": seed,
    }  # fmt: skip
    config = validated(TrainConfig, nested(options), Path(case))
    model = train(folder, folder / "run", config, device="cpu")
    scores = score(dataset, model, folder, "cpu")
    maps = {e.name: read_scores(e, folder / "found") for e in dataset.split("test")}
    candidates = concatenate(pick_candidates(name, heatmap, 0.02) for name, heatmap in maps.items())
    true = true_particles(dataset)
    precisions = [
        average_precision(candidates.named(s.name), true.named(s.name), czii.FRACTION * s.radius)
        for s in dataset.species
        if len(true.named(s.name))
    ]
    scores["average_precision"] = round(mean(precisions), 5)
    return {metric: scores[metric] for metric in METRICS}


def main() -> None:
    """Run all cases and write `results/heatmap_prior.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=TRAINED)
    args = parser.parse_args()
    dataset = phantom(args.work / "phantom")
    runs = [
        {"case": case, "seed": seed, **run_case(dataset, case, seed, args.steps, args.work)}
        for case in CASES
        for seed in range(args.seeds)
    ]
    write_result("heatmap_prior", {"steps": args.steps, "network": "heatmap-unet, size s", "runs": runs})
    for case in CASES:
        own = [run for run in runs if run["case"] == case]
        print(case, *(f"{metric} {mean(run[metric] for run in own):.3f}" for metric in METRICS), sep="  ")


if __name__ == "__main__":
    main()
