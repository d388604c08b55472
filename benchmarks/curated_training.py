"""Train on decisions of the report, and see whether they improve picks in a tomogram that was not looked at.

Phantoms hold capsids and dumbbells of one size, which the embedded model finds alike. A person who wants capsids keeps or rejects the
best picks of one tomogram; here the truth decides. The list is written as the report writes it (`curated.star`), becomes a dataset as
docs/how-to/curate.md describes, and a network is trained from the weights of the embedded model. Average precision of capsids is
measured in another phantom, before and after; picks within half a radius count.

    python benchmarks/curated_training.py [--seeds 0 1 2] [--minutes 2]      # processor minutes of each training
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common import cryovox, write_result
from cryovox.core.particles import Particles
from cryovox.formats import read_particles, read_volume, write_particles
from cryovox.metrics.detection import average_precision
from cryovox.metrics.matching import greedy
from cryovox.simulate.phantom import PhantomConfig
from cryovox.workflows.simulation.phantoms import write_phantoms

RADIUS, VOXEL = 70.0, 12.0
CONFIG = PhantomConfig(shape=(40, 96, 96), voxel_size=VOXEL, count=14, snr=0.4)
DECISIONS = 30
"""Picks that are looked at, best first."""


def decided(picks: Particles, capsids: Particles) -> Particles:
    """The best picks with the column `keep`: 1 at capsids, 0 elsewhere."""
    best = picks.take(np.argsort(-picks.scores, kind="stable")[:DECISIONS])
    hits = np.zeros(len(best), dtype=int)
    hits[greedy(best.positions, capsids.positions, RADIUS / 2, best.scores).predicted] = 1
    return replace(best, extra={"keep": hits.astype(str)}, rotations=None)


def precision(folder: Path, truth: Particles, tomogram: Path) -> float:
    """Average precision of the capsids that a run found."""
    picks = read_particles(folder / "particles" / f"{tomogram.stem}.star", tomogram=read_volume(tomogram))
    return average_precision(picks.named("capsid"), truth, RADIUS / 2)


def one(seed: int, minutes: float, work: Path) -> dict[str, Any]:
    """Average precision before and after, of one draw of the phantoms."""
    data, log = write_phantoms(work / "data", CONFIG, ("train", "test"), seed), work / "log.txt"
    seen, unseen = (data / "tomograms" / f"phantom_0{i}.mrc" for i in (0, 1))
    known = [
        read_particles(data / "particles" / f"{path.stem}.star", tomogram=read_volume(path)).named("capsid")
        for path in (seen, unseen)
    ]
    find = ("--device", "cpu", "--quiet", "--threshold", 0.05, "--noise-control", 0, "--no-lamella")
    cryovox("find", seen, unseen, "--out", work / "before", "--species", f"capsid={RADIUS:g}", *find, log=log)
    picks = read_particles(work / "before" / "particles" / f"{seen.stem}.star", tomogram=read_volume(seen))
    curated = decided(picks, known[0])
    write_particles(work / "curated.star", curated, tomogram=read_volume(seen), tomogram_name=seen.stem)
    rows = [{"name": n, "label": i, "radius": RADIUS} for i, n in enumerate(("capsid", "rejected"), 1)]
    entry = {"name": seen.stem, "tomogram": str(seen), "particles": "curated.star", "exhaustive": False}
    settings = {"voxel_size": VOXEL, "species": rows, "entries": [entry | {"contrast": "dark"}]}
    (work / "dataset.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    time = ("--max-time", f"{round(60 * minutes)}s", "--clock", "processor")
    train = ("--start", "embedded", *time, "--device", "cpu", "--quiet", "--seed", seed)
    cryovox("train", "supervised", "--data", work, "--out", work / "run", *train, log=log)
    model = ("--model", work / "run" / "model.safetensors", "--species", "capsid")
    cryovox("find", unseen, "--out", work / "after", *model, *find, log=log)
    kept = int((curated.extra["keep"] == "1").sum())
    return {
        "seed": seed,
        "kept": kept,
        "rejected": len(curated) - kept,
        "before": round(precision(work / "before", known[1], unseen), 3),
        "after": round(precision(work / "after", known[1], unseen), 3),
    }


def main() -> None:
    """Print and store a row for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in args.seeds:
            work = (args.work or Path(temporary)) / str(seed)
            work.mkdir(parents=True)
            rows.append(one(seed, args.minutes, work))
            print(rows[-1], flush=True)
    means = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in ("before", "after")}
    print(means)
    write_result(
        "curated_training",
        {
            "minutes": args.minutes,
            "decisions": DECISIONS,
            "load": round(os.getloadavg()[0], 1),
            "rows": rows,
            "mean": means,
        },
    )


if __name__ == "__main__":
    main()
