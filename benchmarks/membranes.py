"""Segment membranes and microtubules after training on labels of simulated tomograms: Dice and surface Dice.

Tomograms of the preset `cell` in a smaller box, with microtubules; two for the training, one for the test. Each seed draws other
tomograms and initial weights. The species `membrane` and `filament` are marked `extended` in dataset.yaml; the ribosomes keep their picks.
Everything runs through the commands of docs/how-to/membranes.md.

    python benchmarks/membranes.py [--seeds 0 1 2] [--minutes 3]      # processor minutes of each training
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common import cryovox, write_result
from cryovox.core.config import to_yaml
from cryovox.simulate.presets import PRESETS

HALF_THICKNESS = {"membrane": 30.0, "filament": 130.0}
SPECIES, METRICS = (*HALF_THICKNESS, "ribosome-80s"), ("dice", "surface_dice")
VOXEL, TOLERANCE = 14.0, 14.0
"""Voxel size, and the tolerance of surface Dice: one voxel."""


def settings(path: Path) -> None:
    """The scene: a smaller cell with vesicles, a sheet and microtubules."""
    preset = PRESETS["cell"]
    scene = preset.scene.model_copy(
        update={
            "shape": (64, 144, 144),
            "voxel_size": VOXEL,
            "slab": 800.0,
            "counts": {"ribosome-80s": 20},
            "vesicles": preset.scene.vesicles.model_copy(update={"count": 2, "radius": (250.0, 400.0)}),
            "sheets": preset.scene.sheets.model_copy(update={"count": 1}),
            "filaments": preset.scene.filaments.model_copy(update={"count": 2}),
        }
    )
    path.write_text(to_yaml(preset.model_copy(update={"species": ("ribosome-80s",), "scene": scene})))


def marked(dataset: Path) -> dict[str, Any]:
    """Mark membranes and filaments as extended, and the last tomogram for the test; returns its entry."""
    content = yaml.safe_load(dataset.read_text(encoding="utf-8"))
    for kind in content["species"]:
        if kind["name"] in HALF_THICKNESS:
            kind |= {"extended": True, "radius": HALF_THICKNESS[kind["name"]]}
    content["entries"][-1]["split"] = "test"
    dataset.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return dict(content["entries"][-1])


def one(seed: int, minutes: float, work: Path) -> None:
    """Simulate, train, segment and evaluate; `scores.json` has the table."""
    log, quiet = work / "log.txt", ("--quiet", "--device", "cpu")
    settings(work / "cell.yaml")
    scene = ("--config", work / "cell.yaml", "--count", 3, "--seed", seed)
    cryovox("simulate", *scene, "--out", work / "sim", *quiet, log=log)
    test = marked(work / "sim" / "dataset.yaml")
    time = ("--max-time", f"{round(60 * minutes)}s", "--clock", "processor", "--seed", seed)
    network = ("--model", "residual-unet", "--out", work / "run")
    cryovox("train", "supervised", "--data", work / "sim", *network, *time, *quiet, log=log)
    tomogram, truth = (work / "sim" / test[kind] for kind in ("tomogram", "labels"))
    cryovox("segment", tomogram, "--model", work / "run", "--out", work / "found", *quiet, log=log)
    files = (
        "--predictions",
        work / "found" / "labels" / truth.name,
        "--truth",
        truth,
        "--dataset",
        work / "sim",
    )
    cryovox("evaluate", "labels", *files, "--tolerance", TOLERANCE, "--json", work / "scores.json", log=log)


def scores(seed: int, path: Path) -> dict[str, Any]:
    """Dice and surface Dice by species."""
    rows = {r["species"]: r for r in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    own = {name: {key: round(rows[name][key], 3) for key in METRICS} for name in SPECIES}
    return {"seed": seed, **own}


def main() -> None:
    """Print and store a row for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in args.seeds:
            work = (args.work or Path(temporary)) / str(seed)
            if not (work / "scores.json").exists():  # of an earlier run with this --work
                work.mkdir(parents=True)
                one(seed, args.minutes, work)
            rows.append(scores(seed, work / "scores.json"))
            print(rows[-1], flush=True)
    means = {
        name: {key: round(float(np.mean([row[name][key] for row in rows])), 3) for key in METRICS}
        for name in SPECIES
    }
    facts = {"minutes": args.minutes, "tolerance": TOLERANCE, "load": round(os.getloadavg()[0], 1)}
    write_result("membranes", {**facts, "rows": rows, "mean": means})


if __name__ == "__main__":
    main()
