"""Template matching on a GPU: agreement with the CPU, 200 rotations of a large tomogram, and whole fine searches.

First a small tomogram is searched on the CPU and on the device; scores must agree to 1e-3. Then 200 rotations of
200 x 512 x 512 voxels are timed beside the Fourier transforms alone, and 128 x 256 x 256 voxels are searched at 7
and 3 degrees. A search that would not end within --seconds gets the first rotations of its grid, and the time of
the whole is extrapolated. Poses at known positions come last.

    python benchmarks/gpu/match.py
    python benchmarks/gpu/match.py --device cpu --large 40 64 72 --rotations 10 --medium 32 48 56 --seconds 5 \
        --particles 8 --name gpu-match-trial
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result
from cryovox.core.intensity import Normalization
from cryovox.inference.correlation import AXES, plan_blocks
from cryovox.inference.matching import match
from cryovox.inference.poses import PoseSearch
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.inference.search_template import SearchTemplate
from cryovox.inference.template_filters import filter_box, missing_wedge, whitening
from cryovox.simulate.particles.library import build_template
from cryovox.workflows.devices import keep_freed_memory

AS_IS = Normalization(0.0, 1.0)
SMALL = (40, 52, 63)
TOLERANCE = 1e-3


def template(voxel: float, whitens: np.ndarray | None = None) -> SearchTemplate:
    """An 80S ribosome with a missing wedge."""
    density = build_template("ribosome-80s", voxel / 2, 2 * voxel)
    radius = density.radius / voxel
    transfer = missing_wedge(filter_box(radius), (-60, 60))
    filters = None if whitens is None else whitening(whitens, filter_box(radius))
    transfer = transfer if filters is None else transfer * filters
    return SearchTemplate(density.density, 2, radius, transfer, filters)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    """White noise."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def timed(work: Any, device: str) -> tuple[Any, float]:
    """Result and wall seconds of a call."""
    start = time.perf_counter()
    result = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def agreement(device: str) -> dict[str, Any]:
    """Scores of both devices, in several blocks, without and with whitening."""
    data, rotations = noise(SMALL), Rotation.random(60, random_state=0).as_matrix()
    rows = {}
    for name, whitens in (("plain", None), ("whitened", data)):
        search = template(35.0, whitens)
        (ours, ours_at), (theirs, theirs_at) = (
            match(data, AS_IS, search, rotations, device=kind, block_voxels=90_000)
            for kind in (device, "cpu")
        )
        places = np.argwhere(np.ones(SMALL))[:: prod(SMALL) // 20].astype(float)
        poses = [
            PoseSearch(data, AS_IS, search, kind).search(places, rotations)[0] for kind in (device, "cpu")
        ]
        rows[name] = {
            "largest_difference": float(np.abs(ours - theirs).max()),
            "equal_rotations": float((ours_at == theirs_at).mean()),
            "largest_difference_at_picks": float(np.abs(poses[0].scores - poses[1].scores).max()),
        }
    return rows


def transforms(shape: tuple[int, int, int], search: SearchTemplate, count: int, device: str) -> float:
    """Wall seconds of the forward and inverse transforms that a search without any shortcut needs."""
    blocks = plan_blocks(shape, search.margin, 1 << 24)
    data = {block.fft: torch.randn(block.fft, device=device) for block in blocks}

    def work() -> None:
        for block in blocks:
            for _ in range(count):
                torch.fft.irfftn(torch.fft.rfftn(data[block.fft], dim=AXES), s=block.fft, dim=AXES)

    with torch.inference_mode():
        return timed(work, device)[1]


def rate(shape: tuple[int, int, int], voxel: float, rotations: np.ndarray, device: str) -> dict[str, Any]:
    """Time of a search beside the transforms alone; a few rotations first load and choose kernels."""
    search, data = template(voxel), noise(shape)
    match(data, AS_IS, search, rotations[:8], device=device)
    transforms(shape, search, 1, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    _, seconds = timed(lambda: match(data, AS_IS, search, rotations, device=device), device)
    floor = transforms(shape, search, len(rotations), device)
    return {
        "shape": list(shape), "rotations": len(rotations), "seconds": seconds, "transform_seconds": floor,
        "rotation_voxels_per_second": prod(shape) * len(rotations) / seconds,
        "ratio_to_transforms": seconds / floor,
        "gpu_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
    }  # fmt: skip


def whole(
    shape: tuple[int, int, int], voxel: float, angle: float, args: argparse.Namespace
) -> dict[str, Any]:
    """A search over all rotations of a step, or over as many as there is time for."""
    grid, search, data = rotation_grid(angle), template(voxel), noise(shape)
    trial = grid[: min(len(grid), 200 if args.device == "cuda" else 5)]
    match(data, AS_IS, search, trial, device=args.device)
    _, seconds = timed(lambda: match(data, AS_IS, search, trial, device=args.device), args.device)
    count = min(len(grid), max(1, int(args.seconds * len(trial) / seconds)))
    _, seconds = timed(lambda: match(data, AS_IS, search, grid[:count], device=args.device), args.device)
    return {
        "shape": list(shape), "angle": angle, "rotations_of_grid": len(grid), "rotations": count,
        "seconds": seconds, "seconds_of_grid": seconds * len(grid) / count,
        "rotation_voxels_per_second": prod(shape) * count / seconds,
    }  # fmt: skip


def at_picks(shape: tuple[int, int, int], args: argparse.Namespace) -> dict[str, Any]:
    """Poses of particles at known positions, with shifts of up to two voxels."""
    search, data, step = template(20.0), noise(shape), 22.5
    grid = rotation_grid(step)
    places = np.random.default_rng(1).uniform(12, np.array(shape) - 12, (args.particles, 3))
    poses = PoseSearch(data, AS_IS, search, args.device)
    poses.locate(places[:2], grid, step, reach=2)
    _, seconds = timed(lambda: poses.locate(places, grid, step, reach=2), args.device)
    return {"particles": args.particles, "rotations": len(grid), "seconds": seconds}


def main() -> None:
    """Run all parts; the result file is written after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--large", nargs=3, type=int, default=(200, 512, 512))
    parser.add_argument("--rotations", type=int, default=200)
    parser.add_argument("--medium", nargs=3, type=int, default=(128, 256, 256))
    parser.add_argument("--angles", nargs="+", type=float, default=(7.0, 3.0))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each whole search")
    parser.add_argument("--particles", type=int, default=500)
    parser.add_argument("--name", default="gpu-match")
    args = parser.parse_args()
    keep_freed_memory()
    device = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(args).items() if k != "name"}
    result: dict[str, Any] = {"settings": settings, "device": device}
    large, medium = tuple(args.large), tuple(args.medium)

    def keep(name: str, value: Any) -> None:
        result[name] = value
        print(name, value, flush=True)
        path = write_result(args.name, result)
        if os.environ.get("OUT"):
            shutil.copy(path, os.environ["OUT"])

    keep("agreement", agreement(args.device))
    keep("large", rate(large, 13.0, rotation_grid(15.0)[: args.rotations], args.device))
    keep("whole", [])
    for angle in args.angles:
        keep("whole", [*result["whole"], whole(medium, 20.0, angle, args)])
    keep("at_picks", at_picks(medium, args))
    worst = max(v for row in result["agreement"].values() for k, v in row.items() if k.startswith("largest"))
    if worst > TOLERANCE:
        raise SystemExit(f"scores of {args.device} and cpu differ by {worst:.2g}, more than {TOLERANCE:g}")


if __name__ == "__main__":
    main()
