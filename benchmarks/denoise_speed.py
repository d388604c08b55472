"""Seconds to denoise a volume, beside what a copy of the same bytes takes.

python benchmarks/denoise_speed.py
python benchmarks/denoise_speed.py --shape 200 1024 1024 --threads 16 --device cuda

A filter must at least read every voxel once and write it once: 8 bytes for each. That is the floor, in bytes and
in the seconds of a copy of so many bytes within memory. Processor seconds are compared, since other work may run
on the same cores. Each method runs in a process of its own, for its peak of memory.
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
from cryovox.core.intensity import Normalisation
from cryovox.core.volume import Volume
from cryovox.workflows.config import DenoiseConfig
from cryovox.workflows.denoise import denoise_into
from cryovox.workflows.devices import keep_freed_memory

METHODS = ("ibf", "bf", "ngm")


def measure(
    method: str, shape: tuple[int, int, int], device: str, threads: int, repeats: int
) -> dict[str, Any]:
    """Best of some runs of a filter, and of a copy, over a volume of white noise in memory."""
    keep_freed_memory()  # as the command does
    torch.set_num_threads(threads)
    data = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    volume, scale, out = Volume(data, 10.0), Normalisation(0, 1), np.zeros_like(data)
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
    """Least wall and processor seconds of some runs."""
    wall, processor = [], []
    for _ in range(repeats):
        began, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
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
