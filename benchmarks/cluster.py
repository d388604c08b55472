"""What spreading tomograms over Dask workers costs: memory over many tomograms, and what bounds many nodes.

`memory` denoises many small tomograms in one process and notes its resident memory after each. `workers` does the same on one
and on two workers with one thread each, and takes from Dask's own task stream how long calls computed; Dask's performance report
is written beside the outputs. The model of many nodes: calls arrive at one scheduler, which serves them one by one; all nodes
read from one file system; the last tomograms leave nodes idle.

    python benchmarks/cluster.py memory --count 100 --work /tmp/many     # minutes
    python benchmarks/cluster.py workers --count 24 --work /tmp/many     # minutes
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

from common import write_result
from cryovox.core.progress import ProgressCallback
from cryovox.workflows.cluster.config import ClusterConfig
from cryovox.workflows.cluster.connect import connected
from cryovox.workflows.cluster.spread import spread
from cryovox.workflows.cluster.tomograms import without_result
from cryovox.workflows.config import DenoiseConfig
from cryovox.workflows.denoise import denoise

CONFIG = DenoiseConfig(method="ibf", sigma_d=3.0)
TOMOGRAM = 4 * 1000 * 1000 * 300
"""Bytes of a tomogram of a facility: 300 x 1000 x 1000 voxels of four bytes."""
SECONDS = 600.0
"""Its time on one node, an assumption of the model."""
DISK = 2e9
"""Bytes per second of a shared file system, another one."""


def tomograms(folder: Path, count: int, edge: int) -> list[Path]:
    """Write noise."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        path = folder / f"TS_{number:03d}.mrc"
        if not path.exists():
            with mrcfile.new(path) as file:
                file.set_data(np.random.default_rng(number).normal(size=(edge,) * 3).astype(np.float32))
                file.set_volume()
                file.voxel_size = 13.0
        paths.append(path)
    return paths


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(paths: list[Path], out: Path) -> dict[str, Any]:
    """Resident memory after each tomogram, and its growth from the tenth one on."""
    sizes: list[int] = []

    def noting() -> ProgressCallback:
        return lambda name, fraction, note="": None

    for path in paths:
        denoise([path], out, CONFIG, device="cpu", overwrite=True, on_progress=noting())
        sizes.append(resident())
    tail = np.array(sizes[10:], float)
    slope = np.polyfit(np.arange(len(tail)), tail, 1)[0] * len(paths) / tail[0]
    return {
        "MB": [round(size / 1e6, 2) for size in sizes],
        "growth_percent": round(100 * (sizes[-1] / sizes[9] - 1), 3),
        "trend_percent_per_run": round(100 * float(slope), 3),
    }


def run(paths: list[Path], out: Path, workers: int) -> dict[str, Any]:
    """Wall time of a run, and seconds that its calls computed by Dask's task stream."""
    from distributed import performance_report

    config = ClusterConfig(workers=workers, threads=1)
    calls = {p.stem: (without_result, (denoise, [p], out, CONFIG), {"device": "cpu"}) for p in paths}
    with connected(config) as client:
        client.wait_for_workers(workers)
        warm = {f"warm {i}": (time.sleep, (0.5,), {}) for i in range(2 * workers)}
        spread(client, config, warm, out)
        before = time.time()
        with (
            client.as_current(),
            performance_report(filename=str(out.parent / f"performance-{workers}.html")),
        ):
            start = time.perf_counter()
            _, failures = spread(client, config, calls, out)
            wall = time.perf_counter() - start
        stream = list(client.get_task_stream(start=before))
    assert not failures, failures
    spans = [s["stop"] - s["start"] for row in stream for s in row["startstops"] if s["action"] == "compute"]
    moved = [s["stop"] - s["start"] for row in stream for s in row["startstops"] if s["action"] != "compute"]
    return {
        "workers": workers, "wall": round(wall, 2), "computing": round(sum(spans), 2), "calls": len(spans),
        "other": round(sum(moved), 3), "busy": round(sum(spans) / (wall * workers), 4),
        "gap_per_call": round((wall * workers - sum(spans)) / max(1, len(spans)), 4),
    }  # fmt: skip


def model(gap: float, nodes: int, count: int) -> dict[str, float]:
    """Efficiency of many nodes that each bound allows alone.

    Parameters
    ----------
    gap
        Measured seconds between two calls of a worker, taken as time of the one scheduler: an upper bound.
    """
    reading = 2 * TOMOGRAM * nodes / DISK  # read and write, all nodes at once
    rounds = math.ceil(count / nodes)
    return {
        "nodes": nodes, "tomograms": count,
        "scheduler": round(min(1.0, SECONDS / (gap * nodes)), 4),
        "gap": round(SECONDS / (SECONDS + gap), 4),
        "disk": round(min(1.0, SECONDS / max(SECONDS, reading)), 4),
        "last_round": round(count / (rounds * nodes), 4),
    }  # fmt: skip


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "workers"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--edge", type=int, default=32)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--note", default="", help="such as what else the machine did")
    options = parser.parse_args()
    paths = tomograms(options.work / f"in-{options.edge}", options.count, options.edge)
    if options.what == "memory":
        result = memory(paths, options.work / "memory")
    else:
        rows = [run(paths, options.work / f"workers-{n}", n) for n in (1, 2)]
        ratio = rows[0]["wall"] / (2 * rows[1]["wall"])
        models = [
            model(rows[1]["gap_per_call"], nodes, count) for nodes, count in ((8, 300), (64, 300), (64, 640))
        ]
        result = {"runs": rows, "efficiency": round(ratio, 4), "model": models}
    result |= {"count": options.count, "edge": options.edge, "note": options.note}
    print({key: value for key, value in result.items() if key != "MB"})
    write_result(f"cluster_{options.what}", result)


if __name__ == "__main__":
    main()
