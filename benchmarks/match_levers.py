"""Template matching: what each lever of its speed gains, and what a coarser grid of the search costs in recall.

Speed: one search of noise as `cryovox match` does it on a CPU, with one lever after another taken away. Recall: 80S
ribosomes among proteasomes and fatty acid synthases in simulated tomograms (tilt series, CTF, dose), those of `no_clicks.py`;
the voxel size of the search is a share of the radius of the particle times the angular step. Recall counts particles within
half a radius of one of the best candidates, 1, 2 and 4 times as many as there are particles. Processor seconds, one thread.

    python benchmarks/match_levers.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common import write_result
from cryovox.core.intensity import Normalization
from cryovox.formats import read_particles, read_volume
from cryovox.inference import matching
from cryovox.inference.correlation import AXES, Block
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.inference.search_template import SearchTemplate
from cryovox.inference.template_filters import filter_box, missing_wedge
from cryovox.picking import pick_counted
from cryovox.simulate.particles.library import build_template
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.matching import search_grid
from cryovox.workflows.matching.background import score_map
from cryovox.workflows.matching.config import MatchConfig
from cryovox.workflows.matching.target import MASK, Imaging, open_target
from match_peers import SPECIES, recall
from no_clicks import simulate

SHARES = (0.0, 0.4, 0.6, 0.8, 1.0)
"""Voxel sizes of the search over radius times angular step; 0 stands for that of the tomogram."""


def whole_transforms(spectrum: Tensor, kernels: Tensor, block: Block) -> Tensor:
    """As `correlate`, without leaving out zeros and margins."""
    half = kernels.shape[-1] // 2
    starts = [half if lead == 0 else 2 * half for lead in block.lead]
    spectra = torch.fft.rfftn(kernels.flip(AXES), s=block.fft, dim=AXES) * spectrum
    values = torch.fft.irfftn(spectra, s=block.fft, dim=AXES)
    return values[:, *(slice(a, a + n) for a, n in zip(starts, block.size, strict=True))]


def masked_update(search: matching.BlockSearch, values: Tensor, number: int) -> None:
    """As on a GPU."""
    search.index.masked_fill_(values > search.best, number)
    torch.maximum(search.best, values, out=search.best)


def speeds(args: argparse.Namespace) -> dict[str, float]:
    """Processor seconds of searches; levers are taken away one by one, and stay away."""
    template = build_template(SPECIES, args.voxel / 2, 2 * args.voxel)
    radius = MASK * template.radius / args.voxel
    search = SearchTemplate(template.density, 2, radius, missing_wedge(filter_box(radius), (-60, 60)))
    data = np.random.default_rng(0).standard_normal(tuple(args.shape)).astype(np.float32)
    rotations = rotation_grid(args.angle)[: args.rotations]
    changes: dict[str, Callable[[], object]] = {
        "as it is": lambda: None,
        "batches beyond the caches": lambda: matching.BATCH_VOXELS.update(cpu=1 << 22),
        "and update by masks": lambda: setattr(matching.BlockSearch, "_keep", masked_update),
        "and whole transforms": lambda: setattr(matching, "correlate", whole_transforms),
    }
    seconds = {}
    for name, change in changes.items():
        change()
        times = []
        for _ in range(args.rounds):
            start = time.process_time()
            matching.match(data, Normalization(0.0, 1.0), search, rotations)
            times.append(time.process_time() - start)
        seconds[name] = min(times)
        print(name, seconds[name], flush=True)
    return seconds


def search_recall(file: Path, true: np.ndarray, share: float, args: argparse.Namespace) -> dict[str, float]:
    """Seconds and recall of a search on a grid."""
    voxel_size: float | str = "tomogram"
    if share:
        radius = build_template(SPECIES, args.voxel / 2, 2 * args.voxel).radius
        voxel_size = share * np.radians(args.angle) * radius
    config = MatchConfig(angle=args.angle, border=0.0, search_voxel_size=voxel_size, refine=False)
    imaging = Imaging((-60.0, 60.0), "y", "auto", None)
    start = time.process_time()
    target = search_grid.on_search_grid(open_target(file, "a", Path(SPECIES), imaging, config))
    values, _ = matching.match(target.volume.data, target.normalize, target.search, rotation_grid(args.angle))
    seconds = time.process_time() - start
    picks, _ = pick_counted(score_map(values, target.volume, target.species, 0.0), config.picking(0.0))
    found = recall(picks, true, target.species.radius)
    return {"share": share, "voxel_size": target.volume.voxel_size, "seconds": seconds, **found}


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=(56, 120, 120))
    parser.add_argument("--voxel", type=float, default=20.0)
    parser.add_argument("--particles", type=int, default=16, help="of each species and tomogram")
    parser.add_argument("--snr", type=float, default=0.005, help="variance of signal over noise")
    parser.add_argument("--angle", type=float, default=21.1)
    parser.add_argument("--rotations", type=int, default=48, help="of the comparison of speeds")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder that keeps the tomograms")
    parser.add_argument("--name", default="match_levers", help="of the result file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    grids = []
    with tempfile.TemporaryDirectory() as name:
        folder = args.work or Path(name)
        for file in simulate(folder / "data", args.seed, args, folder / "log.txt"):
            truth = folder / "data" / "particles" / f"{file.stem}.star"
            true = read_particles(truth, tomogram=read_volume(file)).named(SPECIES).positions
            for share in SHARES:
                row = search_recall(file, true, share, args)
                grids.append({"tomogram": file.stem, "particles": len(true), **row})
                print(grids[-1], flush=True)
    seconds = speeds(args)
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(args).items() if k != "work"}
    print(write_result(args.name, {"settings": settings, "seconds": seconds, "grids": grids}))


if __name__ == "__main__":
    main()
