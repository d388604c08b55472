"""Widths of the denoising filters: white noise that they remove, and a source-only model on filtered input.

Range widths of the bilateral filters are in the units of their input. The first table filters white noise with mean 0
and standard deviation 1 (z-scores), and the same noise scaled to 0 to 1 (min-max), for which the range width of the
improved filter was published. The second scores the source-only models of the suite `zsda` on filtered subtomograms of
the domains of `zsda-ablations`, which are kept for the choice of settings. Missing models are trained.

    OMP_NUM_THREADS=1 python benchmarks/filter_widths.py --work WORK      # about 15 processor minutes
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import write_result
from cryovox.benchmark.adaptation.cubes import Scale
from cryovox.benchmark.adaptation.suite import SOURCE_ONLY
from cryovox.benchmark.subtomograms import images, masks, scores
from cryovox.benchmark.zero_shot.suite import VALIDATION_DOMAINS
from cryovox.data.cubes import standardize
from cryovox.filters.bilateral import bilateral
from cryovox.filters.config import Feature
from cryovox.filters.noise import low_pass
from cryovox.formats.subtomograms import Subtomograms
from cryovox.workflows.label_sets import label_set
from denoised_input import trained

WIDTHS: dict[Feature, tuple[float, ...]] = {
    "gradient": (0.8, 1.0, 1.2, 1.4, 4.0, 7.0, 9.8, 14.0),
    "intensity": (0.3, 0.6, 1.2, 2.4),
}
CUBES = (0.4375, 0.5, 0.625, 0.75)
NAMES: dict[Feature, str] = {"gradient": "ibf", "intensity": "bf"}
CHOSEN_FROM: dict[Feature, tuple[float, ...]] = {
    "gradient": (1.2, 4.0, 7.0, 9.8, 14.0),
    "intensity": (0.6, 1.2, 2.4),
}
"""Widths that are compared by the score of the model."""
DOMAINS = ("target", "seen, other microscope", "seen, same microscope")
REPEATS, SIDE = 5, 32


def noise_removed() -> list[dict[str, Any]]:
    """Share of the standard deviation of white noise that each filter removes, by units of the input."""
    generator = torch.Generator().manual_seed(0)
    z_scores = torch.randn(REPEATS, 1, SIDE, SIDE, SIDE, generator=generator)
    lowest, highest = z_scores.amin((1, 2, 3, 4), keepdim=True), z_scores.amax((1, 2, 3, 4), keepdim=True)
    inputs = {"z-scores": z_scores, "min-max": (z_scores - lowest) / (highest - lowest)}
    rows = []
    for units, cubes in inputs.items():
        filters: list[tuple[str, float, Callable[[Tensor], Tensor]]] = [
            (NAMES[by], width, _bilateral(by, width)) for by, widths in WIDTHS.items() for width in widths
        ]
        filters += [("ngm", cube, _low_pass(cube)) for cube in CUBES]
        for name, width, apply in filters:
            removed = 1 - apply(cubes).std((1, 2, 3, 4)) / cubes.std((1, 2, 3, 4))
            shares = [round(float(share), 4) for share in removed]
            rows.append({"units": units, "filter": name, "width": width, "removed": shares})
    return rows


def filters() -> dict[str, Callable[[Tensor], Tensor]]:
    """Filters that are compared by the score of the model."""
    table: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x}
    for by, widths in CHOSEN_FROM.items():
        table |= {f"{NAMES[by]} {width:g}": _bilateral(by, width) for width in widths}
    return table | {f"ngm {cube:g}": _low_pass(cube) for cube in CUBES}


def _bilateral(by: Feature, width: float) -> Callable[[Tensor], Tensor]:
    return lambda x: bilateral(x, sigma_r=width, by=by)


def _low_pass(cube: float) -> Callable[[Tensor], Tensor]:
    return lambda x: low_pass(x, cube=cube)


def filtered(data: Subtomograms, apply: Callable[[Tensor], Tensor]) -> Subtomograms:
    """The set without masks, each cube normalized and filtered."""
    cubes = torch.from_numpy(standardize(images(data), "bright"))[:, None]
    return replace(data, images=np.asarray(torch.cat([apply(x) for x in cubes.split(32)])[:, 0]), masks=None)


def scored(models: list[Path], simulations: Path, count: int) -> list[dict[str, Any]]:
    """Scores of the models in each domain by filter."""
    rows = []
    for domain in DOMAINS:
        data = VALIDATION_DOMAINS[domain](simulations, Scale(target=count))
        for name, apply in filters().items():
            inputs = filtered(data, apply)
            values = [scores(label_set(model, inputs, "cpu"), masks(data)) for model in models]
            print(f"{domain:24s} {name:10s}", *(f"{value['iou']:.3f}" for value in values), flush=True)
            rows.append({"world": domain, "filter": name, "seeds": values})
    return rows


def main() -> None:
    """Filter, score, print, store."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--work", type=Path, required=True, help="folder of a run of the suite zsda")
    options.add_argument("--time", default="90s", help="budget of its runs")
    options.add_argument("--seeds", type=int, default=3, help="models of each filter; 0 for the noise alone")
    options.add_argument("--count", type=int, default=100, help="subtomograms of each unseen species")
    args = options.parse_args()
    noise = noise_removed()
    for row in noise:
        print(f"{row['units']:8s} {row['filter']:3s} {row['width']:5g} removes {mean(row['removed']):.1%}")
    rows: list[dict[str, Any]] = []
    if args.seeds:
        models = trained("zsda", args.work, args.time, (SOURCE_ONLY,), args.seeds)[SOURCE_ONLY]
        rows = scored(models, args.work / f"widths-{args.count}", args.count)
    write_result("filter_widths", {"time": args.time, "count": args.count, "noise": noise, "rows": rows})


if __name__ == "__main__":
    main()
