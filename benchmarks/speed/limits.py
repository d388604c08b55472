"""Highest memory of `cryovox find` under --max-ram, measured from outside, and how it grows with the volume.

The tomogram is noise with balls, one block repeated. The command runs in a process of its own on one thread; its highest
resident memory is what the system counted for it when it ended, and processor seconds likewise. Each shape is one row.

    python benchmarks/speed/limits.py --shape 128 256 256 --max-ram 1500M                   # minutes
    python benchmarks/speed/limits.py --shape 512 1024 1024 --max-ram 4G --model FILE       # hours on one core
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import RESULTS, write_result
from cryovox.core.sizes import n_bytes
from cryovox.formats import mrc
from cryovox.models.card import read_card

BLOCK = 64


def tomogram(path: Path, shape: tuple[int, int, int], voxel_size: float) -> None:
    """Write noise with dark balls, a block at a time."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((BLOCK,) * 3, dtype=np.float32)
    grid = np.indices(block.shape)
    for center in rng.uniform(8, BLOCK - 8, (6, 3)):
        block[np.square(grid - center[:, None, None, None]).sum(0) <= 36] -= 2
    with mrc.create(path, shape, np.float32, voxel_size) as out:
        for z in range(0, shape[0], BLOCK):
            planes = np.tile(block, (1, -(-shape[1] // BLOCK), -(-shape[2] // BLOCK)))
            out[z : z + BLOCK] = planes[: shape[0] - z, : shape[1], : shape[2]]


def measured(words: list[str], source: Path | None = None) -> dict[str, Any]:
    """Run the command, of the package in another source folder if one is named.

    Returns seconds, processor seconds, and the highest resident memory in GB.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment |= {} if source is None else {"PYTHONPATH": str(source)}
    start = time.monotonic()
    arguments = [sys.executable, "-m", "cryovox", *words]
    pid = os.posix_spawn(sys.executable, arguments, environment)
    _, status, usage = os.wait4(pid, 0)
    return {
        "exit": os.waitstatus_to_exitcode(status),
        "seconds": round(time.monotonic() - start, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_GB": round(1024 * usage.ru_maxrss / 1e9, 3),
    }


def main() -> None:
    """Run one shape, and add its row to those of before."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, required=True)
    parser.add_argument("--max-ram", default=None, help="no limit by default")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--options", nargs="*", default=[], help="further options of find, without dashes")
    parser.add_argument("--name", default="speed-limits")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tomogram.mrc"
        tomogram(path, tuple(args.shape), read_card(Path(args.model)).voxel_size)
        limit = [] if args.max_ram is None else ["--max-ram", args.max_ram]
        further = [f"--{word}" for word in args.options]
        words = ["find", str(path), "--model", args.model, "--out", str(Path(folder) / "out"), "--quiet"]
        row = {"shape": args.shape, "max_ram": args.max_ram, **measured([*words, *limit, *further])}
    if args.max_ram is not None:
        row["within"] = row["peak_GB"] * 1e9 <= n_bytes(args.max_ram)
    print(row)
    before = RESULTS / f"{args.name}.json"
    rows = json.loads(before.read_text(encoding="utf-8"))["rows"] if before.exists() else []
    same = ("shape", "max_ram")
    rows = [r for r in rows if any(r[key] != row[key] for key in same)] + [row]
    write_result(args.name, {"model": args.model, "rows": rows})


if __name__ == "__main__":
    main()
