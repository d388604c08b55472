"""Template matching of a large tomogram as the command does it: time and memory of its parts.

A volume of noise is read from a file, brought to the grid of the search, and searched for an 80S ribosome with all rotations
of the step, or with the first of them. Neither controls nor refinement. Processor seconds of one thread.

    python benchmarks/match_whole.py
    python benchmarks/match_whole.py --shape 200 512 512 --voxel 13 --rotations 200 --name match_whole_large
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from math import prod
from pathlib import Path

import numpy as np
import torch

from common import write_result
from cryovox.core.volume import Volume
from cryovox.formats import write_volume
from cryovox.inference.matching import match
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.matching.config import MatchConfig
from cryovox.workflows.matching.search_grid import on_search_grid
from cryovox.workflows.matching.target import Imaging, open_target

SPECIES = "ribosome-80s"


def main() -> None:
    """Search and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=(128, 256, 256))
    parser.add_argument("--voxel", type=float, default=20.0)
    parser.add_argument("--angle", type=float, default=15.0)
    parser.add_argument("--rotations", type=int, default=0, help="0 for all")
    parser.add_argument("--name", default="match_whole", help="of the result file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    grid = rotation_grid(args.angle)
    rotations = grid[: args.rotations or None]
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "noise.mrc"
        data = np.random.default_rng(0).standard_normal(args.shape, np.float32)
        write_volume(file, Volume(data, args.voxel))
        del data
        times = [time.process_time()]
        config = MatchConfig(angle=args.angle, contrast="bright")
        target = open_target(file, "a", Path(SPECIES), Imaging((-60.0, 60.0), "y", "bright", None), config)
        times.append(time.process_time())
        target = on_search_grid(target)
        times.append(time.process_time())
        match(target.volume.data, target.normalize, target.search, rotations)
        times.append(time.process_time())
    seconds = dict(zip(("reading", "grid", "search"), np.diff(times).tolist(), strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    facts = {
        "rotations_of_grid": len(grid), "rotations": len(rotations),
        "search_shape": list(target.volume.shape), "search_voxel_size": target.volume.voxel_size,
        "seconds": seconds, "memory_gib": memory,
        "rotation_voxels_per_second": prod(args.shape) * len(rotations) / seconds["search"],
    }  # fmt: skip
    print(facts)
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(args).items()}
    print(write_result(args.name, {"settings": settings, **facts}))


if __name__ == "__main__":
    main()
