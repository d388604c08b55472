"""Template matching on the stand-in of SHREC 2021: F1 of each species, by size, beside the networks.

The test tomogram is that of the suite `tomograms` (thirteen species, 20 Å per voxel). As in the row TM of the suite, the true
structures are searched for, and each is given its true number of particles; of two overlapping matches of different species
the one with the lower score is left out. A match counts within a radius of a particle. The suite keeps only means over species
of its networks, which are copied from its result file.

    python benchmarks/match_shrec.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import RESULTS, write_result
from cryovox.benchmark.template_matching import ROWS, matches, template_of
from cryovox.benchmark.tomograms import SCALES, shrec2021, stand_in, true_particles
from cryovox.core.particles import Particles
from cryovox.metrics.evaluation import evaluate_particles
from cryovox.metrics.table import ANY, MEAN, POOLED
from cryovox.simulate.particles import library
from cryovox.workflows.devices import keep_freed_memory

OBJECTS = {"any class": "objects, any class", "mean over classes": "objects, mean over classes"}


def f1(picks: Particles, true: Particles, radii: dict[str, float]) -> dict[str, float]:
    """F1 by species, and over all."""
    rows = evaluate_particles(picks, true, radii)
    return {
        str(row["species"]): float(np.nan_to_num(float(row["value"])))
        for row in rows
        if row["tomogram"] == POOLED and row["metric"] == "f1"
    }


def networks() -> dict[str, dict[str, list[float]]]:
    """F1 of each run of the suite at its longest budget, by network."""
    suite = json.loads((RESULTS / "suite-tomograms.json").read_text(encoding="utf-8"))
    rows: dict[str, dict[str, list[float]]] = {}
    for run in suite["runs"]:
        if run["budget"] == suite["runs"][0]["budget"]:
            row = rows.setdefault(run["contestant"], {name: [] for name in OBJECTS})
            for name, key in OBJECTS.items():
                row[name].append(run["scores"][key]["f1"])
    return rows


def main() -> None:
    """Simulate, search, score and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--angle", type=float, default=21.1)
    parser.add_argument("--rows", nargs="+", default=["TM"], choices=list(ROWS))
    parser.add_argument("--work", type=Path, help="folder that keeps the tomograms")
    parser.add_argument("--name", default="match_shrec", help="of the result file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    scale = SCALES["cpu"]
    with tempfile.TemporaryDirectory() as name:
        folder = args.work or Path(name) / "simulated"
        dataset, facts = stand_in(folder, shrec2021(scale), scale.n_train, scale.n_test)
        true = true_particles(dataset)
        radii = {kind.name: kind.radius for kind in dataset.species}
        scores: dict[str, Any] = {}
        for row in args.rows:
            start = time.process_time()
            picks = matches(dataset, true, args.angle, ROWS[row])
            assert picks is not None
            scores[row] = {"seconds": time.process_time() - start, "f1": f1(picks, true, radii)}
            print(row, scores[row], flush=True)
    species = [
        {
            "species": kind.name, "radius": kind.radius, "particles": len(true.named(kind.name)),
            "mass": library.SPECIES[library.canonical_name(kind.name)].mass if template_of(kind) else None,
        }
        for kind in dataset.species
    ]  # fmt: skip
    settings = {k: v for k, v in vars(args).items() if k != "work"}
    result = {"settings": settings, "data": facts, "species": species, "any": ANY, "mean": MEAN}
    print(write_result(args.name, {**result, "template_matching": scores, "networks": networks()}))


if __name__ == "__main__":
    main()
