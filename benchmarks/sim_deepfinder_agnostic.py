"""Particles of any species in third-party simulations, without any of their labels, from a matched source.

The source is our simulator with the species of SHREC 2021. Its voxel size, shape, tilts, spectrum and noise are those of one
target tomogram, measured without labels (`cryovox simulate --match`). VoxResNet is trained on the source only
("matched source") and segments the four target tomograms; there is no adaptation. Scores are those of the suite
`uda-tomograms`, whose row `source-only` has an unmatched source.

    python benchmarks/sim_deepfinder_agnostic.py --work DIR        # about 7 processor minutes; resumes
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import DATA, write_result
from cryovox.benchmark.adaptation.tomograms import (
    merge_species,
    sim_deepfinder,
    subset_scores,
    write_centers,
)
from cryovox.benchmark.tomograms import Scale, shrec2021
from cryovox.benchmark.training import nested, shared_settings
from cryovox.core.config import validated
from cryovox.core.dataset import Dataset
from cryovox.formats import dataset as dataset_files
from cryovox.metrics.bootstrap import interval
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.segment import segment
from cryovox.workflows.simulation.dataset import simulate_dataset
from cryovox.workflows.training.run import train

MATCHED = DATA / "sim_deepfinder" / "tomo1_f16.mrc"
SOURCE = Scale((100, 100, 100), count=3, n_train=6)
"""As many objects as in the target: about 39 in each tomogram."""


def matched_source(folder: Path, seed: int) -> Path:
    """Simulate tomograms like the target, with one species "particle"."""
    config = shrec2021(SOURCE)
    simulate_dataset(folder / "simulated", config, count=SOURCE.n_train, seed=seed, match=MATCHED)
    simulations = dataset_files.read(folder / "simulated")
    dataset_files.write(folder / "source", merge_species(simulations, config.species, folder / "source"))
    return folder / "source"


def truth(folder: Path) -> Dataset:
    """The target with its labels, which only the scores use; tomogram 1 is in no split of the test."""
    target = sim_deepfinder(DATA / "sim_deepfinder")
    merged = merge_species(target, [s.name for s in target.species], folder / "truth")
    entries = tuple(
        e.model_copy(update={"split": "train" if e.tomogram == MATCHED.resolve() else "test"})
        for e in merged.entries
    )
    for entry in target.entries:
        write_centers(folder / "truth" / "centres" / f"{entry.name}.csv", entry, target)
    return merged.model_copy(update={"entries": entries})


def run_seed(seed: int, time: str, target: Dataset, work: Path) -> dict[str, Any]:
    """Train on the matched source and score the target, unless the result of an earlier run exists."""
    folder = work / f"seed{seed}"
    file = folder / "row.json"
    if not file.exists():
        options = shared_settings("cpu") | {
            "network.model": "voxresnet", "network.size": "s", "loop.steps": 1_000_000,
            "loop.max_time": time, "seed": seed,
        }  # fmt: skip
        settings = validated(TrainConfig, nested(options), folder)
        model = train(matched_source(folder, seed), folder / "run", settings, device="cpu")
        _, failures = segment([e.tomogram for e in target.entries], model, folder / "found", device="cpu")
        for error in failures.values():
            raise error
        scores = subset_scores(target, work, folder / "found")
        row = {"seed": seed, "tomograms 2 to 4": scores[""], "all": scores["all"]}
        file.write_text(json.dumps(row), encoding="utf-8")
    row = json.loads(file.read_text(encoding="utf-8"))
    print(row, flush=True)
    return row


def main() -> None:
    """Run all seeds and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="trainings, each on its own simulations")
    parser.add_argument("--time", default="90s", help="processor time of each training")
    parser.add_argument("--name", default="sim_deepfinder_agnostic", help="name of the result file")
    args = parser.parse_args()
    target = truth(args.work)
    rows = [run_seed(seed, args.time, target, args.work) for seed in range(args.seeds)]
    table = {
        subset: {m: asdict(interval([row[subset][m] for row in rows])) for m in ("dice", "localisation_f1")}
        for subset in ("tomograms 2 to 4", "all")
    }
    settings = {"time": args.time, "network": "voxresnet, size s", "tomograms": SOURCE.n_train}
    print(write_result(args.name, {"settings": settings, "table": table, "runs": rows}))


if __name__ == "__main__":
    main()
