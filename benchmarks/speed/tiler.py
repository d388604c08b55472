"""Streaming tiler beside MONAI's sliding window: processor seconds and memory as ratios, on one thread.

Same network, tile, overlap and window, each measurement in a process of its own, in turn: MONAI, cryovox in float32,
cryovox in bfloat16 with channels-last weights, both with OpenVINO, MONAI again, and so on. MONAI has tiles in batches of 4, since single
tiles take plain torch 4 times as long (`one_tile_ms`), and cryovox its default, which is one tile of 64^3 voxels or four of 32^3. Beside them, in the same run: the peak of a matrix
product in float32 and bfloat16, and the bandwidth of a copy. Memory is the highest resident memory above that before the
run, when network and volume are loaded, OpenVINO has compiled the network (`compiling`, seconds) and a volume of 16^3 voxels was scored and written; cryovox writes its scores to
disk, MONAI returns them.

    OMP_NUM_THREADS=1 python benchmarks/speed/tiler.py               # about 12 processor minutes
    OMP_NUM_THREADS=1 python benchmarks/speed/tiler.py --small       # about 2
    OMP_NUM_THREADS=1 python benchmarks/speed/tiler.py --sides MONAI 'cryovox, float32'   # where the CPU has no bfloat16
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result
from cryovox.core.intensity import Normalization
from cryovox.core.particles import Species
from cryovox.formats import scores
from cryovox.inference.openvino import OpenVinoNetwork
from cryovox.inference.stream import TilePlan, activate, score, stream
from cryovox.inference.tiling import plan
from cryovox.models import build, options
from cryovox.models.memory_format import infer_channels_last
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.score_tiles import default_batch

SPECIES, BATCH = 6, 4
"""Species, and tiles per forward pass of MONAI."""
CASES: dict[str, tuple[tuple[int, int, int], int, float]] = {
    "heatmap-unet": ((128, 256, 256), 64, 0.25),
    "voxresnet": ((64, 128, 128), 32, 0.5),
}
"""Shape of the volume, tile, overlap."""
SMALL: dict[str, tuple[int, int, int]] = {"heatmap-unet": (64, 128, 128), "voxresnet": (32, 64, 64)}
"""Shapes with --small; memory is then ruled by the tile rather than by the volume."""
SIDES = (
    "MONAI",
    "cryovox, float32",
    "cryovox, bfloat16",
    "cryovox, OpenVINO, float32",
    "cryovox, OpenVINO, bfloat16",
)


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Processor seconds, the least of some repeats."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def machine() -> dict[str, float]:
    """Peaks of this machine at this moment: Gflop/s of a matrix product, GB/s of a copy."""
    peaks = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(1024, 1024).to(dtype)
        peaks[f"matmul {name}, Gflop/s"] = 2 * 1024**3 / seconds(lambda a=a: a @ a) / 1e9
    a = torch.zeros(1 << 26)
    b = torch.zeros_like(a)
    peaks["copy, GB/s"] = 2 * 4 * len(a) / seconds(lambda: b.copy_(a)) / 1e9
    return {name: round(value, 1) for name, value in peaks.items()}


def resident(key: str) -> float:
    """A figure of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def with_monai(network: nn.Module, data: Any, tile: int, overlap: float) -> None:
    """The sliding window of MONAI with scores of the species."""
    from monai.inferers import sliding_window_inference

    def predictor(x: torch.Tensor) -> torch.Tensor:
        return activate(network(x), str(network.activation))

    with torch.inference_mode():
        volume = torch.from_numpy(data)[None, None]
        sliding_window_inference(volume, (tile,) * 3, BATCH, predictor, overlap=overlap, mode="gaussian")


def with_cryovox(network: nn.Module, data: Any, tiles: TilePlan) -> None:
    """The streaming tiler, to disk."""
    z, y, x = (plan(n, tiles.tile, tiles.overlap, tiles.stride).out_size for n in data.shape)
    species = [Species(name=f"s{i}", label=i + 1, radius=100.0) for i in range(SPECIES)]
    with (
        tempfile.TemporaryDirectory() as folder,
        scores.create(Path(folder) / "scores.zarr", (SPECIES, z, y, x), 10.0, species) as writer,
    ):
        stream(network, data, Normalization(0.0, 1.0), tiles, writer.write)


def measure(name: str, side: str, shape: tuple[int, int, int]) -> dict[str, float]:
    """One run in this process: processor seconds, and peak memory in MB."""
    keep_freed_memory()
    torch.manual_seed(0)
    _, tile, overlap = CASES[name]
    mask = build(name, options(name, "s"), 1, 1).activation == "softmax"
    network = build(name, options(name, "s"), 1, SPECIES + mask).eval()
    bf16 = side.endswith("bfloat16")
    tiles = TilePlan(
        tile, overlap, network.output_stride, network.activation, default_batch(tile, "cpu"), bf16=bf16
    )
    compiling = time.process_time()
    if "OpenVINO" in side:
        network = OpenVinoNetwork(network, bf16)
        for batch in {1, tiles.batch}:
            score(network, torch.zeros(batch, 1, tile, tile, tile), tiles)
    elif bf16:
        infer_channels_last(network, "cpu")
    compiling = time.process_time() - compiling
    data = np.random.default_rng(0).standard_normal(shape, np.float32)
    import monai.inferers  # noqa: F401 (imports are no part of what is measured)

    small = replace(tiles, tile=16)  # loads what computes and what writes, in little memory
    with_cryovox(network, np.zeros((16, 16, 16), np.float32), small)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident("VmRSS")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    if side == "MONAI":
        with_monai(network, data, tile, overlap)
    else:
        with_cryovox(network, data, tiles)
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime - usage.ru_utime + after.ru_stime - usage.ru_stime
    return {
        "seconds": round(spent, 3),
        "memory": round(resident("VmHWM") - before, 1),
        "compiling": round(compiling, 2),
    }


def one_tile(name: str) -> dict[str, float]:
    """Processor milliseconds of a tile alone and in a batch: plain torch, and as cryovox calls it."""
    torch.manual_seed(0)
    tile = CASES[name][1]
    network = build(name, options(name, "s"), 1, SPECIES).eval()
    tiles, images = TilePlan(tile, 0.5, 1, "sigmoid"), torch.randn(BATCH, 1, tile, tile, tile)
    with torch.inference_mode():
        alone, batch = seconds(lambda: network(images[:1])), seconds(lambda: network(images)) / BATCH
    ours = seconds(lambda: score(network, images[:1], tiles))
    each = {"alone, torch": alone, "in a batch of 4, torch": batch, "alone, cryovox": ours}
    return {key: round(1e3 * value, 1) for key, value in each.items()}


def main() -> None:
    """Measure in turn, print ratios, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    parser.add_argument("--small", action="store_true", help="volumes of a few tiles")
    parser.add_argument("--measure", nargs=2, metavar=("NETWORK", "SIDE"), help="one run, as JSON")
    args = parser.parse_args()
    if args.measure:
        shapes = SMALL if args.small else {name: case[0] for name, case in CASES.items()}
        print(json.dumps(measure(*args.measure, shapes[args.measure[0]])))
        return
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name, (whole, tile, overlap) in CASES.items():
        shape = SMALL[name] if args.small else whole
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in args.sides}
        for _ in range(args.rounds):
            for side in args.sides:
                command = [sys.executable, __file__, "--measure", name, side, *["--small"] * args.small]
                answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                runs[side].append(json.loads(answer.splitlines()[-1]))
        rows.append({"network": name, "shape": shape, "tile": tile, "overlap": overlap, "runs": runs})
        for side in args.sides:
            pairs = list(zip(runs["MONAI"], runs[side], strict=True))
            speed = median(a["seconds"] / b["seconds"] for a, b in pairs)
            memory = median(b["memory"] / a["memory"] for a, b in pairs)
            print(
                f"{name:14s} {side:18s} {speed:.2f} times as fast, {100 * memory:.0f} % of the memory",
                flush=True,
            )
    tiles = {name: one_tile(name) for name in CASES}
    result = {
        "threads": torch.get_num_threads(),
        "batch": {"MONAI": BATCH, "cryovox": "default"},
        "machine_peaks": machine(),
    }
    print(result, tiles)
    write_result("tiler_speed", {**result, "rows": rows, "one_tile_ms": tiles})


if __name__ == "__main__":
    main()
