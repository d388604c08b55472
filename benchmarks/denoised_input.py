"""Effect of denoising the input of source-only and generalized models: suites `zsda` and `zsda-tomograms`.

The models are those of a finished run of the suite. Every subtomogram or tomogram is normalized and filtered as by
`cryovox denoise`, and then segmented as usual.

    cryovox benchmark SUITE --contestants source-only heavy-augmentation vox-zsda --time 90s --out WORK
    OMP_NUM_THREADS=1 python benchmarks/denoised_input.py --suite SUITE --work WORK
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import write_result
from cryovox.benchmark.adaptation_tomograms import subset_scores
from cryovox.benchmark.subtomograms import images, masks
from cryovox.benchmark.tables import cell
from cryovox.benchmark.zero_shot import DOMAINS, cube_scores
from cryovox.data.cubes import standardize
from cryovox.filters.bilateral import bilateral
from cryovox.filters.noise import low_pass
from cryovox.formats import dataset as dataset_files
from cryovox.formats import stem
from cryovox.formats import subtomograms as files
from cryovox.formats.subtomograms import Subtomograms
from cryovox.workflows.config import DenoiseConfig
from cryovox.workflows.denoise import denoise
from cryovox.workflows.segment import label_set, segment

MODELS = ("source-only", "heavy-augmentation", "vox-zsda")
FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "ibf": bilateral,
    "bf": lambda x: bilateral(x, by="intensity"),
    "ngm": low_pass,
}
SEEDS = 3
METRICS = ("iou", "dice", "localisation_f1")


def filtered(data: Subtomograms, kind: str) -> Subtomograms:
    """The set without masks, each cube normalized and filtered."""
    cubes = torch.from_numpy(standardize(images(data), "bright"))[:, None]
    denoised = torch.cat([FILTERS[kind](part) for part in cubes.split(32)])
    return replace(data, images=np.asarray(denoised[:, 0]), masks=None)


def on_subtomograms(work: Path, models: dict[str, list[Path]]) -> Iterator[dict[str, Any]]:
    """Scores on all subtomograms of each domain, by filter and model."""
    for domain in DOMAINS:
        data = files.read(work / "data" / f"{domain}.zarr")
        for kind in FILTERS:
            inputs = filtered(data, kind)
            for name, seeds in models.items():
                scores = [cube_scores(label_set(model, inputs, "cpu"), masks(data)) for model in seeds]
                yield {"world": domain, "filter": kind, "model": name, "seeds": scores}


def on_tomograms(work: Path, models: dict[str, list[Path]]) -> Iterator[dict[str, Any]]:
    """Scores pooled over all tomograms, by filter and model."""
    truth = dataset_files.read(work / "data" / "truth")
    tomograms = [entry.tomogram for entry in truth.entries]
    for kind in FILTERS:
        with tempfile.TemporaryDirectory() as folder:
            inputs, out = tomograms, Path(folder)
            if kind != "none":
                raise_failures(denoise(tomograms, out, DenoiseConfig(method=kind), device="cpu"))
                inputs = [out / "denoised" / f"{stem(path)}.mrc" for path in tomograms]
            for name, seeds in models.items():
                scores = []
                for model in seeds:
                    raise_failures(segment(inputs, model, out / "found", device="cpu", overwrite=True))
                    scores.append(subset_scores(truth, work / "data", out / "found")["all"])
                yield {"world": "tomograms", "filter": kind, "model": name, "seeds": scores}


def raise_failures(done: tuple[Any, dict[str, Exception]]) -> None:
    """Raise the first failure, because otherwise labels of the previous model would be scored."""
    for error in done[1].values():
        raise error


EVALUATIONS = {"zsda": on_subtomograms, "zsda-tomograms": on_tomograms}


def main() -> None:
    """Filter, label, score, print, store."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--suite", choices=EVALUATIONS, default="zsda")
    options.add_argument("--work", type=Path, required=True, help="folder of a finished run of the suite")
    options.add_argument("--time", default="90s", help="budget of its runs")
    args = options.parse_args()
    models = {
        name: [
            args.work / "runs" / f"{name}_{args.time}_seed{seed}" / "run" / "model.safetensors"
            for seed in range(SEEDS)
        ]
        for name in MODELS
    }
    rows: list[dict[str, Any]] = []
    for row in EVALUATIONS[args.suite](args.work, models):
        rows.append(row)
        cells = (f"{metric} {cell([seed[metric] for seed in row['seeds']])}" for metric in METRICS)
        print(f"{row['world']:26s} {row['filter']:5s} {row['model']:20s}", *cells)
    write_result(f"denoised_input-{args.suite}", {"time": args.time, "rows": rows})


if __name__ == "__main__":
    main()
