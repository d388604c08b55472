"""Tile and overlap of the embedded model: scores and processor seconds on the choice worlds of `embedded.py`.

F1 at the thresholds of the model and average precision of particles of any size with each choice. Near the border of a tile a network sees less than its
receptive field, so scores depend on the tile. Seconds include resampling, writing and picking.

    OMP_NUM_THREADS=1 python benchmarks/embedded_tiles.py --work DIR       # about 5 processor minutes
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean
from typing import Any

from common import write_result
from cryovox.models.card import EMBEDDED, model_file
from cryovox.models.checkpoint import load_model, save_model
from embed import f1_at
from embedded import WORLDS, candidate, metrics, open_world

CHOICES = [(48, 0.5), (48, 0.25), (64, 0.5), (64, 0.25), (64, 0.125), (96, 0.25), (96, 0.125)]
"""Tile and overlap; the first is that of the training."""


def main() -> None:
    """Score all choices, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    network, card = load_model(model_file(EMBEDDED))
    threshold = next(iter(card.thresholds.values()))
    worlds = {name: open_world(make(), args.work / "worlds" / name) for name, make in WORLDS.items()}
    rows = []
    for tile, overlap in CHOICES:
        model = args.work / f"tile-{tile}-{overlap}.safetensors"
        save_model(model, network, card.model_copy(update={"patch": tile, "overlap": overlap}))
        row: dict[str, Any] = {"tile": tile, "overlap": overlap, "seconds": 0.0}
        for name, world in worlds.items():
            start = time.process_time()
            picks = candidate(world, model, args.work / f"tiles-{name}", "cpu")
            row["seconds"] += time.process_time() - start
            row[name] = {
                "f1": round(f1_at(picks, world, threshold), 4),
                "average_precision": metrics(picks, world)["average_precision"],
            }
        row["seconds"] = round(row["seconds"], 2)
        row["mean_f1"] = round(mean(row[name]["f1"] for name in worlds), 4)
        row["mean_average_precision"] = round(mean(row[n]["average_precision"] for n in worlds), 4)
        rows.append(row)
        print(row, flush=True)
    print(write_result("tiles-embedded", {"rows": rows}))


if __name__ == "__main__":
    main()
