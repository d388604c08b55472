"""Thresholds from few labels: F1 at the model's own thresholds beside F1 at the best ones, before and after.

"Before" is the rule up to decision 23: half of the height that half of the labeled picks get, or the best F1 on the
held-out particles of a species, however few. "After" are the thresholds that the training stores. Both are scored
with the same networks on the same four test tomograms, which are not those of the suite `semi`.

    python benchmarks/thresholds.py --work DIR          # about 2 processor hours
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np

from common import write_result
from cryovox.benchmark.semi import labels as drawing
from cryovox.benchmark.semi import methods as rows
from cryovox.benchmark.semi import scores as scoring
from cryovox.benchmark.semi import suite as semi
from cryovox.benchmark.suite import Budget, Job
from cryovox.benchmark.tomograms import in_tomogram, stand_in
from cryovox.core.dataset import Dataset
from cryovox.core.particles import concatenate
from cryovox.data.patches import TargetSpec
from cryovox.formats import dataset as dataset_files
from cryovox.metrics.detection import detection
from cryovox.models.card import read_card
from cryovox.models.checkpoint import load_model
from cryovox.picking import pick
from cryovox.training.evaluation.held_out import concatenate_regions, split_heights
from cryovox.training.evaluation.thresholds import MIN_HEIGHT
from cryovox.training.evaluation.validate import peaks_around_picks, region_picks, score_region
from cryovox.workflows.config import HeldOutConfig
from cryovox.workflows.training.data import TomogramData
from cryovox.workflows.training.run import validation_tiles

METHODS = ("supervised", "semi-etpicker")
LABELS = ("1 %", "30 picks", "one tomogram", "all")
SIMULATION_SEED = 911


def prepare(folder: Path) -> None:
    """Simulate the tomograms, once."""
    if (folder / semi.PROTOCOL).exists():
        return
    scale = semi.SCALES["cpu"]
    config = semi.phantom(scale)
    dataset, _ = stand_in(folder / "phantom", config, scale.n_train, scale.n_test, seed=SIMULATION_SEED)
    dataset_files.write(folder / "test", drawing.named_species(dataset, config.species, folder / "particles"))
    semi.write_protocol(folder, LABELS, semi.TRAINED["cpu"])


def earlier_thresholds(model: Path, labels: Path) -> dict[str, float]:
    """Thresholds by the rule before, from the data of the training."""
    network, card = load_model(model)
    network.eval()
    spec, tiles = TargetSpec(card.kind, card.output_stride), validation_tiles(card)
    data = TomogramData(labels, HeldOutConfig(held_out=0.05), unlabeled=True)
    if data.held:
        peaks = region_picks([score_region(network, r, tiles, spec) for r in data.held], MIN_HEIGHT)
        picks = concatenate_regions(p.picks for p in peaks)
        truth = concatenate_regions(r.truth() for r in data.held)
        found = {}
        for kind in card.species:
            own, true = picks.named(kind.name), truth.named(kind.name)
            if not len(true):
                continue
            scores = own.scores[own.scores >= 0.05]
            levels = np.unique(np.quantile(scores, np.linspace(0, 1, 33))) if len(scores) else [0.5]
            outcomes = [
                (detection(own.take(own.scores >= t), true, kind.radius).f1, float(t)) for t in levels
            ]
            found[kind.name] = max(outcomes)[1]
        return found
    picks = concatenate_regions(peaks_around_picks(network, r, spec, tiles) for r in data.training)
    truth = concatenate_regions(r.truth() for r in data.training)
    heights = {
        kind.name: split_heights(picks.named(kind.name), true, kind.radius)[0]
        for kind in card.species
        if len(true := truth.named(kind.name))
    }
    return {name: float(np.clip(np.median(values) / 2, 0.05, 0.5)) for name, values in heights.items()}


def f1_at(tests: Dataset, found: Path, thresholds: dict[str, float]) -> float:
    """F1 of the picks above the thresholds."""
    lists = []
    for entry in tests.split("test"):
        scores = replace(scoring.read_scores(entry, found), thresholds=thresholds)
        lists.append(in_tomogram(pick(scores), entry.name))
    picks = concatenate(lists)
    return scoring.species_scores(picks, [picks], tests)["f1"]


def main() -> None:
    """Train, score with both rules, print, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--time", default="5m", help="processor time of a training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", nargs="+", default=LABELS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--name", default="thresholds")
    args = parser.parse_args()
    data = args.work / "data"
    prepare(data)
    tests = dataset_files.read(data / "test")
    methods = {method.name: method for method in rows.semi_methods("s")}
    runs = []
    for seed in range(args.seeds):
        for labels in args.labels:
            for name in args.methods:
                out = args.work / f"{name}, {labels}, seed {seed}, {args.time}"
                job = Job(methods[name], Budget(time=args.time), seed)
                model = semi.SEMI.trained(job, data, labels, out, "cpu")
                scores = scoring.score(tests, model, out, "cpu")
                before = earlier_thresholds(model, out / "labels")
                after = read_card(model).thresholds
                row = {
                    "method": name, "labels": labels, "seed": seed, "best": scores["best_f1"],
                    "before": f1_at(tests, out / "found", before), "after": f1_at(tests, out / "found", after),
                    "thresholds_before": before, "thresholds_after": after,
                }  # fmt: skip
                runs.append(row)
                print(
                    {key: row[key] for key in ("method", "labels", "seed", "best", "before", "after")},
                    flush=True,
                )
    write_result(args.name, {"time": args.time, "runs": runs})
    for labels in args.labels:
        for name in args.methods:
            own = [run for run in runs if (run["labels"], run["method"]) == (labels, name)]
            losses = [mean(run["best"] - run[key] for run in own) for key in ("before", "after")]
            print(
                f"{labels}, {name}: loss against the best threshold {losses[0]:.3f} before, {losses[1]:.3f} after"
            )


if __name__ == "__main__":
    main()
