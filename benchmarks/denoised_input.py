"""Whether a filter before the network helps a model that has seen no target: all worlds of the suite `zsda`.

The models are those of a finished run of the suite. Every subtomogram is normalised and filtered as
`cryovox denoise` does, and then labelled as it would be without.

    cryovox benchmark zsda --contestants source-only heavy-augmentation vox-zsda --time 90s --out WORK
    OMP_NUM_THREADS=1 python benchmarks/denoised_input.py --work WORK
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import write_result
from cryovox.benchmark.subtomograms import images, masks
from cryovox.benchmark.zero_shot import WORLDS, judged
from cryovox.data.cubes import normalised
from cryovox.filters.bilateral import bilateral
from cryovox.filters.noise import low_passed
from cryovox.formats import subtomograms as files
from cryovox.formats.subtomograms import Subtomograms
from cryovox.workflows.sets import label_set

MODELS = ("source-only", "heavy-augmentation", "vox-zsda")
FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "ibf": bilateral,
    "bf": lambda x: bilateral(x, by="intensity"),
    "ngm": low_passed,
}
SEEDS = 3


def filtered(found: Subtomograms, kind: str) -> Subtomograms:
    """The set without masks, each cube normalised and filtered."""
    cubes = torch.from_numpy(normalised(images(found), "bright"))[:, None]
    done = torch.cat([FILTERS[kind](part) for part in cubes.split(32)])
    return replace(found, images=np.asarray(done[:, 0]), masks=None)


def main() -> None:
    """Filter, label, score, print, store."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--work", type=Path, required=True, help="folder of a finished run of zsda")
    options.add_argument("--time", default="90s", help="budget of its runs")
    chosen = options.parse_args()
    rows: list[dict[str, Any]] = []
    for world in WORLDS:
        whole = files.read(chosen.work / "data" / f"{world}.zarr")
        for kind in FILTERS:
            shown = filtered(whole, kind)
            for name in MODELS:
                runs = [chosen.work / "runs" / f"{name}_{chosen.time}_seed{seed}" for seed in range(SEEDS)]
                found = [label_set(run / "run" / "model.safetensors", shown, "cpu") for run in runs]
                seeds = [judged(labels, masks(whole)) for labels in found]
                rows.append({"world": world, "filter": kind, "model": name, "seeds": seeds})
                iou = [s["iou"] for s in seeds]
                print(f"{world:26s} {kind:5s} {name:20s} IoU {np.mean(iou):.3f} ± {np.std(iou, ddof=1):.3f}")
    write_result("denoised_input", {"time": chosen.time, "rows": rows})


if __name__ == "__main__":
    main()
