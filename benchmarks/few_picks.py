"""Few picks: training that starts from the embedded model beside training from random weights.

A person has picked a few particles of one species in four tomograms of the suite `semi` (SNR 0.15, tilts to 42°, with
membranes and gold), and knows nothing else. Both trainings have the same network, picks, settings and processor time;
the defaults of `cryovox train supervised` otherwise. Scored are four other tomograms: F1 at the model's own threshold,
and average precision. The seed draws tomograms, picks and weights; intervals are over seeds and test tomograms.

    python benchmarks/few_picks.py --work DIR          # about 40 processor minutes with the defaults
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from common import write_result
from cryovox.benchmark.semi import labels as drawing
from cryovox.benchmark.semi import scores as scoring
from cryovox.benchmark.semi import suite as semi
from cryovox.benchmark.training import nested
from cryovox.core.config import validated
from cryovox.core.dataset import Dataset
from cryovox.formats import dataset as dataset_files
from cryovox.metrics.bootstrap import interval
from cryovox.models.card import EMBEDDED, model_file
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.training.run import train

STARTS = ("random", "embedded")
WIDTHS = [8, 16, 32, 64]
"""Channels of the embedded model, for both."""
SEMI = semi.SEMI


def prepare(folder: Path) -> None:
    """Simulate the tomograms of the suite `semi`, once."""
    if not (folder / semi.PROTOCOL).exists():
        SEMI.prepare(folder, "cpu", None)


def of_species(dataset: Dataset, species: str, folder: Path) -> Dataset:
    """The dataset with the picks of one species."""
    return drawing.named_species(dataset, (species,), folder)


def settings(start: str, time: str, seed: int) -> TrainConfig:
    """Settings of a training."""
    dotted: dict[str, Any] = {
        "network.model": "heatmap-unet",
        "network.size": "s",
        "network.options": {"widths": WIDTHS},
        "network.start": str(model_file(EMBEDDED)) if start == "embedded" else None,
        "loop.max_time": time,
        "loop.clock": "processor",
        "seed": seed,
    }
    return validated(TrainConfig, nested(dotted), Path(__file__))


def run(data: Path, species: str, picks: int, start: str, time: str, seed: int, out: Path) -> dict[str, Any]:
    """Train and score."""
    complete = of_species(SEMI.complete(data, seed), species, out / "complete")
    few = drawing.labeled(complete, f"{picks} picks", out / "labels", seed)
    picked = few.model_copy(update={"entries": tuple(e for e in few.entries if e.particles is not None)})
    dataset_files.write(out / "labels", picked)
    model = train(out / "labels", out / "run", settings(start, time, seed), device="cpu")
    tests = of_species(dataset_files.read(data / "test"), species, out / "tests")
    scores = scoring.score(tests, model, out, "cpu")
    return {
        "species": species, "picks": picks, "start": start, "time": time, "seed": seed,
        "scores": {name: round(value, 4) for name, value in scores.items()},
    }  # fmt: skip


def by_tomogram(runs: list[dict[str, Any]], metric: str) -> np.ndarray[Any, Any]:
    """A score of each seed and test tomogram."""
    return np.array(
        [v for run in runs for name, v in run["scores"].items() if name.startswith(f"{metric} in ")]
    )


def compared(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of both starts, and their difference over seeds and test tomograms, for each time, number of picks and metric."""
    table = {}
    cases = dict.fromkeys((r["time"], r["picks"]) for r in runs)
    for (time, picks), metric in product(cases, ("f1", "average_precision")):
        own = [r for r in runs if (r["time"], r["picks"]) == (time, picks)]
        first, second = (by_tomogram([r for r in own if r["start"] == start], metric) for start in STARTS)
        means = (round(float(v.mean()), 4) for v in (first, second))
        table[f"{picks} picks, {time}, {metric}"] = {
            **dict(zip(STARTS, means, strict=True)),
            "difference": asdict(interval(second - first)),
        }
    return table


def main() -> None:
    """Train all, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--species", default="ribosome")
    parser.add_argument("--picks", type=int, nargs="+", default=[3, 10, 30])
    parser.add_argument("--time", nargs="+", default=["2m"], help="processor time of a training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--name", default="few_picks")
    args = parser.parse_args()
    data, runs = args.work / "data", []
    prepare(data)
    for seed in range(args.seeds):
        for time, picks, start in product(args.time, args.picks, STARTS):
            out = args.work / f"{args.species}, {picks} picks, {start}, {time}, seed {seed}"
            runs.append(run(data, args.species, picks, start, time, seed, out))
            shown = {k: v for k, v in runs[-1].items() if k != "scores"}
            print(shown, runs[-1]["scores"]["f1"], flush=True)
        file = write_result(args.name, {"table": compared(runs), "runs": runs})  # seeds so far
    print(compared(runs), file, sep="\n")


if __name__ == "__main__":
    main()
