"""Text of the page on many tomograms and many workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryovox.benchmark.tables import grid

RESULTS = Path(__file__).parent / "results"


def _load(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def workers() -> str:
    """Two workers against one, and what bounds many nodes."""
    result = _load("cluster_workers")
    if result is None:
        return ""
    one, two = result["runs"]
    rows = [
        [
            str(run["workers"]), run["report"]["compute time"], f"{run['wall']:.1f} s", f"{100 * run['busy']:.0f} %",
            f"{1000 * run['processor_per_call']:.0f} ms", f"{1000 * run['scheduler_per_call']:.0f} ms", f"{run['load'][0]:.1f}",
        ]
        for run in (one, two)
    ]  # fmt: skip
    columns = ["workers", "compute time (Dask's report)", "wall time", "workers busy", "processor per tomogram",
               "processor of scheduler and client per tomogram", "load of the machine"]  # fmt: skip
    shown = [
        [f"{row['nodes']}", f"{row['tomograms']}", *(f"{100 * row[key]:.1f} %" for key in BOUNDS)]
        for row in result["model"]
    ]
    ratio = result["efficiency"]
    return f"""
## Many tomograms on many workers

`{result["command"]}`, {result["written"]}, {result["machine"]["cores"]} cores.

{result["count"]} tomograms of {result["edge"]}³ voxels are denoised by one and by two workers of one thread each.

{grid(columns, rows)}

A tomogram takes {100 * ratio["processor"]:.1f} % as much processor time with one worker as with two: the second worker costs
{100 * (1 / ratio["processor"] - 1):.1f} %. While the scheduler hands out calls of {two["report"]["compute time"]} in all, two workers compute for
{100 * ratio["busy"]:.0f} % of the time; the rest is spent between calls, and is a smaller part of longer ones. By the wall clock the
efficiency was {100 * ratio["wall"]:.0f} %, with more processes than cores ({result["note"]}), so that number says nothing about Dask.

### What bounds 64 nodes: a model

Efficiency that each bound alone allows, for tomograms of 300 x 1000 x 1000 voxels that take ten minutes on a node. No such
cluster has been tried.

{grid(["nodes", "tomograms", *BOUNDS.values()], shown)}

- Scheduler: the measured {1000 * two["scheduler_per_call"]:.0f} ms of processor time per tomogram, one after the other.
- File system: all nodes read and write at 2 GB/s in all, an assumption. It is reached with about 500 nodes.
- Last round: nodes that are left without a tomogram at the end, if all take the same time.
- Stragglers: the same with the spread of the measured times; it contains the noise of a busy machine. Give a cluster many more tomograms
  than nodes, or split large ones: `segment` and `find` do where there are more workers than tomograms.
"""


BOUNDS = {
    "scheduler": "scheduler", "disk": "file system", "last_round": "last round",
    "stragglers": "last round and stragglers",
}  # fmt: skip
"""Bounds of the model, and how the page calls them."""


def memory() -> str:
    """Growth of the memory over many tomograms."""
    result = _load("cluster_memory")
    if result is None:
        return ""
    sizes = result["MB"]
    return f"""
### Memory over many tomograms

`{result["command"]}`, {result["written"]}. One process denoises {result["count"]} tomograms of {result["edge"]}³ voxels. Its resident memory is
{sizes[9]:.1f} MB after the tenth and {sizes[-1]:.1f} MB after the last one: {result["growth_percent"]:.2f} % more (target: at most 1 %).
"""
