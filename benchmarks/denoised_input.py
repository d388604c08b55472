"""Effect of denoising the input of source-only and generalized models: suites `zsda` and `zsda-tomograms`.

The models are those of a run of the suite in the folder WORK; missing ones are trained. Every subtomogram or tomogram
is normalized and filtered as by `cryovox denoise`, and then segmented as usual. "ibf, 1.2" has the published width
of the range kernel, but in standard deviations.

    OMP_NUM_THREADS=1 python benchmarks/denoised_input.py --suite SUITE --work WORK     # about 25 processor minutes
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import write_result
from cryovox.benchmark import SUITES
from cryovox.benchmark.adaptation.tomograms import subset_scores
from cryovox.benchmark.runner import run_suite
from cryovox.benchmark.subtomograms import images, masks
from cryovox.benchmark.suite import Budget
from cryovox.benchmark.tables import cell
from cryovox.benchmark.zero_shot.suite import DOMAINS, cube_scores
from cryovox.data.cubes import standardize
from cryovox.filters.bilateral import bilateral
from cryovox.filters.noise import low_pass
from cryovox.formats import dataset as dataset_files
from cryovox.formats import stem
from cryovox.formats import subtomograms as files
from cryovox.formats.subtomograms import Subtomograms
from cryovox.workflows.config import DenoiseConfig
from cryovox.workflows.denoise import denoise
from cryovox.workflows.label_sets import label_set
from cryovox.workflows.segment import segment

MODELS = ("source-only", "heavy-augmentation", "vox-zsda")
FILTERS: dict[str, DenoiseConfig | None] = {
    "none": None,
    "ibf": DenoiseConfig(method="ibf"),
    "ibf, 1.2": DenoiseConfig(method="ibf", sigma_r=1.2),
    "bf": DenoiseConfig(method="bf"),
    "ngm": DenoiseConfig(method="ngm"),
}
SEEDS = 3
METRICS = ("iou", "dice", "localisation_f1")


def trained(
    suite: str, work: Path, time: str, models: tuple[str, ...] = MODELS, seeds: int = SEEDS
) -> dict[str, list[Path]]:
    """Model files by name and seed; missing models are trained."""
    plan = replace(SUITES[suite].plan("cpu").select(models, "s"), budgets=(Budget(time=time),), seeds=seeds)
    run_suite(suite, work, plan, device="cpu")
    runs = {name: [work / "runs" / f"{name}_{time}_seed{seed}" for seed in range(seeds)] for name in models}
    return {name: [run / "run" / "model.safetensors" for run in seeds] for name, seeds in runs.items()}


def filtered(data: Subtomograms, config: DenoiseConfig | None) -> Subtomograms:
    """The set without masks, each cube normalized and filtered."""
    cubes = torch.from_numpy(standardize(images(data), "bright"))[:, None]
    if config is not None and config.method == "ngm":
        cubes = low_pass(cubes, cube=config.cube)
    elif config is not None:
        parts = [bilateral(x, sigma_r=config.sigma_r, by=config.feature) for x in cubes.split(32)]
        cubes = torch.cat(parts)
    return replace(data, images=np.asarray(cubes[:, 0]), masks=None)


def on_subtomograms(work: Path, models: dict[str, list[Path]]) -> Iterator[dict[str, Any]]:
    """Scores on all subtomograms of each domain, by filter and model."""
    for domain in DOMAINS:
        data = files.read(work / "data" / f"{domain}.zarr")
        for kind, config in FILTERS.items():
            inputs = filtered(data, config)
            for name, seeds in models.items():
                scores = [cube_scores(label_set(model, inputs, "cpu"), masks(data)) for model in seeds]
                yield {"world": domain, "filter": kind, "model": name, "seeds": scores}


def on_tomograms(work: Path, models: dict[str, list[Path]]) -> Iterator[dict[str, Any]]:
    """Scores pooled over all tomograms, by filter and model."""
    truth = dataset_files.read(work / "data" / "truth")
    tomograms = [entry.tomogram for entry in truth.entries]
    for kind, config in FILTERS.items():
        with tempfile.TemporaryDirectory() as folder:
            inputs, out = tomograms, Path(folder)
            if config is not None:
                raise_failures(denoise(tomograms, out, config, device="cpu"))
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
    options.add_argument("--work", type=Path, required=True, help="folder of a run of the suite")
    options.add_argument("--time", default="90s", help="budget of its runs")
    args = options.parse_args()
    models = trained(args.suite, args.work, args.time)
    rows: list[dict[str, Any]] = []
    for row in EVALUATIONS[args.suite](args.work, models):
        rows.append(row)
        cells = (f"{metric} {cell([seed[metric] for seed in row['seeds']])}" for metric in METRICS)
        print(f"{row['world']:26s} {row['filter']:8s} {row['model']:20s}", *cells)
    write_result(f"denoised_input-{args.suite}", {"time": args.time, "rows": rows})


if __name__ == "__main__":
    main()
