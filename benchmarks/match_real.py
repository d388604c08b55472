"""Template matching with an 80S map on half of a real in-situ tomogram (EMPIAR-11658): recall at a budget.

The picks are about a third of the ribosomes, so the metric is recall at 1, 2 and 4 candidates per pick, matched
one to one within 100 Å, in the whole tomogram and in y >= 160 alone. The 648 rotations are as many as other programs
search at 20 degrees. The radius of the mask, 1.2 times that of the particle, was selected on y < 160
(`benchmarks/match_real_choice.py`); nothing else is selected by a result.

    python benchmarks/match_real.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from common import DATA, write_result
from cryovox.core.particles import Particles
from cryovox.formats import read_particles, read_volume
from cryovox.metrics.bootstrap import interval
from cryovox.workflows.match import match
from cryovox.workflows.matching.config import MatchConfig
from real_ribosomes import BUDGETS, NAME, TOMOGRAM, hits, inside, truth

MAP = DATA / "maps_10A_czii" / "6qzp.mrc.gz"
SPANS = {"whole": (0, 256), "y >= 160": (160, 256)}
"""Parts of the tomogram, in voxels of y."""


def recall(
    picks: Particles, true: Particles, span: tuple[int, int], voxel_size: float
) -> dict[str, dict[str, float]]:
    """Recall at each budget in a part of the tomogram, with an interval over the picks of the list."""
    picks, true = (inside(particles, span, voxel_size) for particles in (picks, true))
    return {str(b): asdict(interval(np.array(hits(picks, true, b), float))) for b in BUDGETS}


def main() -> None:
    """Search, score and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--angle", type=float, default=21.1)
    parser.add_argument("--whiten", action="store_true")
    parser.add_argument("--regularize", action="store_true")
    parser.add_argument("--lamella", action="store_true", help="leave out picks outside the sample")
    parser.add_argument("--name", default="match_real", help="of the result file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = MatchConfig(
        angle=args.angle, whiten=args.whiten, contrast="dark", name=NAME,
        threshold=0.0, border=0.0, noise_control=0.0, lamella=args.lamella, max_count=600,
        regularize=args.regularize,
    )  # fmt: skip
    start = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        (entry,) = match(MAP, [TOMOGRAM], Path(work), config, device="cpu")[0].values()
        seconds = time.process_time() - start
        picks = read_particles(Path(work) / entry["outputs"]["particles"], tomogram=read_volume(TOMOGRAM))
    true = truth()
    recalls = {name: recall(picks, true, span, entry["voxel_size"]) for name, span in SPANS.items()}
    print(recalls, f"{seconds:.0f} s")
    facts = {key: entry[key] for key in ("rotations", "radius", "best", "noise", "count")}
    settings = {"config": config.model_dump(mode="json"), "map": MAP.name, "picks": len(true)}
    result = {"settings": settings, **facts, "processor_seconds": seconds}
    print(write_result(args.name, {**result, "recall": recalls["whole"], "parts": recalls}))


if __name__ == "__main__":
    main()
