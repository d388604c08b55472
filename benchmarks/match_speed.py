"""Template matching: rotations times voxels per second, beside the Fourier transforms alone.

Each rotation needs one real transform of the rotated template and one inverse of the product. The floor is the
time of these two transforms of a block of the same size, interleaved with the search. Processor seconds are
reported, because other work may run on the same cores.

    python benchmarks/match_speed.py
    python benchmarks/match_speed.py --shape 128 256 256 --rotations 0 --floor 20 --rounds 1 --name match_speed_whole
    python benchmarks/match_speed.py --shape 200 512 512 --rotations 200 --device cuda
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch

from common import write_result
from cryovox.core.intensity import Normalization
from cryovox.inference.correlation import AXES, correlate, plan_blocks
from cryovox.inference.matching import match
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.inference.search_template import SearchTemplate
from cryovox.inference.template_filters import filter_box, missing_wedge
from cryovox.simulate.particles.library import build_template
from cryovox.workflows.devices import keep_freed_memory


def seconds(work: Callable[[], Any], device: str) -> float:
    """Processor seconds of a call, or wall seconds on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=(64, 96, 128))
    parser.add_argument("--voxel", type=float, default=20.0)
    parser.add_argument("--rotations", type=int, default=50, help="0 for all of 15 degrees")
    parser.add_argument("--floor", type=int, default=0, help="rotations of the other parts; 0 for as many")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="match_speed", help="of the result file")
    return parser.parse_args()


def main() -> None:
    """Measure and write the result file."""
    args = arguments()
    keep_freed_memory()  # as the command does
    torch.set_num_threads(args.threads)
    shape = tuple(args.shape)
    template = build_template("ribosome-80s", args.voxel / 2, 2 * args.voxel)
    radius = template.radius / args.voxel
    search = SearchTemplate(template.density, 2, radius, missing_wedge(filter_box(radius), (-60, 60)))
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    rotations = rotation_grid(15)[: args.rotations or None]
    few = rotations[: args.floor or None]
    blocks = plan_blocks(shape, search.margin, 1 << 24)
    noise = {block.fft: torch.randn(block.fft, device=args.device) for block in blocks}

    def transforms() -> None:
        for block in blocks:
            for _ in few:
                torch.fft.irfftn(torch.fft.rfftn(noise[block.fft], dim=AXES), s=block.fft, dim=AXES)

    def correlations() -> None:
        for block in blocks:
            spectrum = torch.fft.rfftn(noise[block.fft], dim=AXES)
            for kernel in kernels:
                correlate(spectrum, kernel[None], block)

    kernels = search.rotated(few, args.device)
    parts: dict[str, Callable[[], Any]] = {
        "search": lambda: match(data, Normalization(0.0, 1.0), search, rotations, device=args.device),
        "correlation": correlations,
        "templates": lambda: [search.rotated(few, args.device) for _ in blocks],
        "transforms": transforms,
    }
    spent: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(args.rounds):
        for name, work in parts.items():
            spent[name].append(seconds(work, args.device))
    best = {name: min(times) for name, times in spent.items()}
    scale = len(rotations) / len(few)
    best |= {name: scale * seconds for name, seconds in best.items() if name != "search"}
    rate = prod(shape) * len(rotations) / best["search"]
    result = {
        "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(args).items()},
        "blocks": [list(block.fft) for block in blocks],
        "template_box": search.box,
        "angle": 15,
        "rotations_searched": len(rotations),
        "rotations_of_the_other_parts": len(few),
        "seconds": spent,
        "rotation_voxels_per_second": rate,
        "ratio_to_transforms": best["search"] / best["transforms"],
    }
    print(
        f"{rate:.3g} rotations x voxels / s; {result['ratio_to_transforms']:.2f} x the transforms alone; {best}"
    )
    print(write_result(args.name, result))


if __name__ == "__main__":
    main()
