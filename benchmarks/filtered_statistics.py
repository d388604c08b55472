"""Pseudo-labels of Vox-UDA by whose batch-norm statistics the teacher has while it labels the filtered target.

The teachers are the models before and after the adaptation of the rows `vox-uda` of a finished run of the suite
`uda-shift`, whose folder is given. Each labels the filtered unlabeled target, in batches of 8, with statistics of the raw
target and with those of the filtered target. Printed are precision and recall of the foreground that is kept, for each seed.

    cryovox benchmark uda-shift --methods vox-uda --seeds 3 --time 3m --device cpu --out RUNS
    python benchmarks/filtered_statistics.py --runs RUNS      # a minute
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import write_result
from cryovox.benchmark.subtomograms import images, masks
from cryovox.data.cubes import standardize
from cryovox.formats import subtomograms as files
from cryovox.models.checkpoint import load_model
from cryovox.training.batch_norm import BatchNormStatistics
from cryovox.training.strategies import STRATEGIES
from cryovox.training.strategies.config.vox_uda import VoxUDAConfig
from cryovox.training.strategies.teacher import teacher_probabilities

BATCH = 8
STAGES = {"before the adaptation": "source", "after it": "adapted"}


def target(folder: Path) -> tuple[Tensor, Tensor]:
    """Cubes (n, 1, z, y, x) of the training part of a target, and where its particles are."""
    data = files.read(folder / "target-train.zarr")
    return torch.from_numpy(standardize(images(data), "dark")).float()[:, None], torch.from_numpy(
        masks(data) > 0
    )


def kept_foreground(model: Path, x: Tensor, truth: Tensor, *, filtered: bool) -> dict[str, float]:
    """Precision and recall of the foreground that becomes a pseudo-label."""
    network, _ = load_model(model)
    method = STRATEGIES["vox-uda"](network, VoxUDAConfig(denoised_statistics=filtered), "voxresnet")
    teacher = method.teacher
    raw = BatchNormStatistics(teacher)
    for batch in x.split(BATCH):
        with raw.updated(teacher, batch):
            pass
    right = count = 0
    for batch, true in zip(x.split(BATCH), truth.split(BATCH), strict=True):
        cleaned = method.denoised(batch)
        if filtered:
            chances = method.labeling_probabilities(cleaned)
        else:
            with raw.updated(teacher, batch), torch.no_grad():
                chances = teacher_probabilities(teacher, cleaned)
        confidence, labels = chances.max(1)
        kept = (confidence >= method._thresholds(chances)[labels]) & (labels > 0)
        right, count = right + int((kept & true).sum()), count + int(kept.sum())
    return {"precision": round(right / max(1, count), 4), "recall": round(right / int(truth.sum()), 4)}


def main() -> None:
    """Label with both statistics, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, required=True, help="output folder of `cryovox benchmark uda-shift`"
    )
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for run in sorted((args.runs / "runs").glob("vox-uda_*_seed*")):
        seed = int(run.name.rpartition("seed")[2])
        x, truth = target(args.runs / "data" / f"draw-{seed}")
        for stage, folder in STAGES.items():
            model = run / "run" / folder / "model.safetensors"
            for filtered in (False, True):
                own = kept_foreground(model, x, truth, filtered=filtered)
                rows.append(
                    {"seed": seed, "teacher": stage, "statistics": "filtered" if filtered else "raw"} | own
                )
                print(rows[-1], flush=True)
    print(write_result("filtered_statistics", {"runs": rows}))


if __name__ == "__main__":
    main()
