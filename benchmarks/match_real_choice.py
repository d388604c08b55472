"""Template matching with an 80S map on the front (y < 160) of a real in-situ tomogram: settings of the search.

Compares mask radii, filters and wedges by the recall of the picks there, with every fourth of 648 rotations, and coarser
grids of the search with all of them. The rest of the tomogram is neither searched nor scored, so that `match_real.py` can be run once with what is chosen here.

    python benchmarks/match_real_choice.py
    python benchmarks/match_real_choice.py --parts regularized --name match_real_choice_regularized
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common import write_result
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_volume, write_volume
from cryovox.inference.matching import match
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.inference.template_filters import filter_box, missing_wedge
from cryovox.picking import pick_counted
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.matching.background import score_map
from cryovox.workflows.matching.config import DEFAULT_TILTS, MatchConfig
from cryovox.workflows.matching.search_grid import on_search_grid
from cryovox.workflows.matching.target import Imaging, open_target
from match_real import MAP
from real_ribosomes import BUDGETS, NAME, TOMOGRAM, hits, inside, truth

FRONT, MARGIN = 160, 8
"""Voxels of y that are searched, and those before their end whose picks are not scored."""
MASKS = (0.76, 0.86, 1.0, 1.13, 1.24, 1.38)
"""Mask radii over the radius of the particle."""
FILTERS = {
    "whiten": {"whiten": True}, "high-pass 600": {"high_pass": 600.0}, "high-pass 300": {"high_pass": 300.0},
    "low-pass 100": {"low_pass": 100.0}, "tilts to 50": {"tilt_range": (-50.0, 50.0)},
    "no wedge": {"tilt_range": (-90.0, 90.0)},
}  # fmt: skip

GRIDS = (31.36, 39.2, 47.0, 54.9)
"""Voxel sizes of the search in Å, with all rotations."""
PARTS = ("masks", "filters", "grids")


def main() -> None:
    """Compare and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=4, help="search every so many rotations")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=(*PARTS, "regularized"))
    parser.add_argument("--name", default="match_real_choice", help="of the result file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    volume = read_volume(TOMOGRAM)
    true = inside(truth(), (0, FRONT - MARGIN), volume.voxel_size)
    runs: dict[str, tuple[float | None, dict[str, object], int]] = {}
    if "masks" in args.parts:
        runs |= {f"mask {mask:g}": (mask, {}, args.every) for mask in MASKS}
    if "filters" in args.parts:
        runs |= {name: (None, changed, args.every) for name, changed in FILTERS.items()}
    if "grids" in args.parts:
        runs |= {
            f"all rotations, voxels of {size:g} Å": (None, {"search_voxel_size": size}, 1) for size in GRIDS
        }
    if "regularized" in args.parts:
        runs["all rotations, regularized"] = (None, {"regularize": True}, 1)
    rows = {}
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "front.mrc"
        write_volume(file, Volume(np.ascontiguousarray(volume.data[:, :FRONT]), volume.voxel_size))
        for name, (mask, changed, every) in runs.items():
            picks = inside(search(file, mask, changed, every), (0, FRONT - MARGIN), volume.voxel_size)
            rows[name] = {str(b): float(np.mean(hits(picks, true, b))) for b in BUDGETS}
            print(name, rows[name], flush=True)
    print(write_result(args.name, {"settings": vars(args), "picks": len(true), "recall": rows}))


def search(file: Path, mask: float | None, changed: dict[str, object], every: int) -> Particles:
    """Picks at least a radius apart."""
    config = MatchConfig.model_validate({"contrast": "dark", "name": NAME, "border": 0.0, **changed})
    tilts = config.tilt_range or DEFAULT_TILTS
    target = on_search_grid(open_target(file, "front", MAP, Imaging(tilts, "y", "dark", None), config))
    template = target.search  # with the mask of the command
    if mask is not None:
        radius = mask * target.radius
        transfer = missing_wedge(filter_box(radius), tilts)
        template = replace(template, radius=radius, transfer=transfer)
    rotations = rotation_grid(21.1)[::every]
    values, _ = match(
        target.volume.data, target.normalize, template, rotations, floor=float(config.regularize)
    )
    return pick_counted(score_map(values, target.volume, target.species, 0.0), config.picking(0.0))[0]


if __name__ == "__main__":
    main()
