"""Time to denoise a volume, relative to a copy of the same bytes.

python benchmarks/denoise_speed.py
python benchmarks/denoise_speed.py --shape 200 1024 1024 --threads 16 --device cuda

A filter must read and write every voxel at least once, which is 8 bytes per voxel. The lower bound is the time of a
copy of these bytes within memory. The comparison uses processor seconds, because other work may run on the same
cores. Each method runs in its own process, to measure its peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from common import write_result
from cryovox.core.intensity import Normalization
from cryovox.core.volume import Volume
from cryovox.workflows.config import DenoiseConfig
from cryovox.workflows.denoise import denoise_into
from cryovox.workflows.devices import keep_freed_memory

METHODS = ("ibf", "bf", "ngm")


def measure(
    method: str, shape: tuple[int, int, int], device: str, threads: int, repeats: int
) -> dict[str, Any]:
    """Minimum time of a filter and of a copy over repeats, on a volume of white noise in memory."""
    keep_freed_memory()  # as the command does
    torch.set_num_threads(threads)
    data = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    volume, scale, out = Volume(data, 10.0), Normalization(0, 1), np.zeros_like(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, processor = best(
        lambda: denoise_into(out, volume, scale, DenoiseConfig(method=method), device), repeats
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    copied, copying = best(lambda: np.copyto(out, data), 5)
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "copy_seconds": copied,
        "copy_processor_seconds": copying,
        "times_the_copy": processor / copying,
        "working_GB": (peak - before) / 1e6,
    }


def best(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Minimum wall and processor seconds over repeats."""
    wall, processor = [], []
    for _ in range(repeats):
        start, processor_start = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - processor_start)
    return min(wall), min(processor)


def main() -> None:
    """Measure all methods and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=(48, 512, 512))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    shape, load = tuple(args.shape), os.getloadavg()
    table = {}
    for method in METHODS:
        with get_context("spawn").Pool(1) as pool:
            table[method] = pool.apply(measure, (method, shape, args.device, args.threads, args.repeats))
        print(method, {k: round(v, 3) for k, v in table[method].items()}, flush=True)
    settings = {**vars(args), "shape": shape, "floor_bytes": 8 * int(np.prod(shape)), "load_before": load}
    print(write_result("denoise_speed", {"settings": settings, "table": table}))


if __name__ == "__main__":
    main()
