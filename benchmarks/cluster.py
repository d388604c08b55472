"""What spreading tomograms over Dask workers costs: memory over many tomograms, and what bounds many nodes.

`memory` denoises many small tomograms in one process and notes its resident memory after each. `workers` does the same on one
and on two workers with one thread each; times come from Dask's performance report (it needs bokeh), which is written beside the
outputs, from its task stream, and from the processor time of the processes. The model of many nodes: calls arrive at one
scheduler, which serves them one by one; all nodes read from one file system; the last and the slowest tomograms leave nodes idle.

    python benchmarks/cluster.py memory --count 100 --work /tmp/many     # minutes
    python benchmarks/cluster.py workers --count 24 --work /tmp/many     # minutes
"""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

from common import write_result
from cryovox.cli.interface.workers import makespan
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
    """Times of a run: by the wall clock, of processors, and of the tasks by Dask's performance report."""
    config = ClusterConfig(workers=workers, threads=1)
    calls = {p.stem: (without_result, (denoise, [p], out, CONFIG), {"device": "cpu"}) for p in paths}
    page = out.parent / f"performance-{workers}.html"
    with connected(config) as client:
        from distributed import performance_report  # its log is quiet from now on

        client.wait_for_workers(workers)
        warm = {f"warm {i}": (without_result, (denoise, [paths[i]], out / f"warm-{i}", CONFIG), {"device": "cpu"})
                for i in range(2 * workers)}  # fmt: skip
        spread(client, config, warm, out)
        before, own = sum(client.run(time.process_time).values()), time.process_time()
        started = time.time()
        with client.as_current(), performance_report(filename=str(page)):
            start = time.perf_counter()
            _, failures = spread(client, config, calls, out)
            wall = time.perf_counter() - start
            own = time.process_time() - own
        processor = sum(client.run(time.process_time).values()) - before
        stream = list(client.get_task_stream(start=started))
    assert not failures, failures
    steps = [step for row in stream for step in row["startstops"]]
    spans = [s["stop"] - s["start"] for s in steps if s["action"] == "compute"]
    return {
        "workers": workers, "wall": round(wall, 2), "load": [round(x, 2) for x in os.getloadavg()],
        "report": reported(page), "spans": [round(span, 3) for span in spans],
        "busy": round(sum(spans) / (wall * workers), 4),
        "processor_per_call": round(processor / len(spans), 4),
        "scheduler_per_call": round(own / len(spans), 5),
    }  # fmt: skip


def reported(page: Path) -> dict[str, str]:
    """What the first page of Dask's performance report says: tasks, and time of computing and transfers."""
    text = page.read_text(encoding="utf-8").replace("\\n", "\n")
    found = re.findall(
        r"(number of tasks|compute time|deserialize time|disk-\w+ time|transfer time): ([^\n<\\&]+)", text
    )
    return {name: value.strip() for name, value in found}


def model(result: dict[str, Any], nodes: int, count: int) -> dict[str, float]:
    """Efficiency of many nodes that each bound allows alone.

    Parameters
    ----------
    result
        Of :func:`run`: processor time of the scheduler per call, and times of the calls, whose spread about
        their median is taken as that of the tomograms.
    """
    rng, spans = np.random.default_rng(0), np.array(result["spans"]) / np.median(result["spans"])
    drawn = SECONDS * rng.choice(spans, size=(20, count))
    late = [seconds.sum() / (nodes * makespan(seconds.tolist(), nodes)) for seconds in drawn]
    even = count / (nodes * -(-count // nodes))
    moved = 2 * TOMOGRAM * nodes / DISK  # read and written, by all nodes at once
    return {
        "nodes": nodes, "tomograms": count,
        "scheduler": round(min(1.0, SECONDS / (result["scheduler_per_call"] * nodes)), 4),
        "disk": round(min(1.0, SECONDS / moved), 4),
        "last_round": round(even, 4),
        "stragglers": round(float(np.mean(late)), 4),
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
        one, two = (run(paths, options.work / f"workers-{n}", n) for n in (1, 2))
        models = [model(two, nodes, count) for nodes, count in ((8, 300), (64, 300), (64, 640), (64, 6400))]
        result = {
            "runs": [one, two], "model": models,
            "efficiency": {
                "wall": round(one["wall"] / (2 * two["wall"]), 4),
                "processor": round(one["processor_per_call"] / two["processor_per_call"], 4),
                "busy": two["busy"],
            },
        }  # fmt: skip
    result |= {"count": options.count, "edge": options.edge, "note": options.note}
    print({key: value for key, value in result.items() if key != "MB"})
    write_result(f"cluster_{options.what}", result)


if __name__ == "__main__":
    main()
