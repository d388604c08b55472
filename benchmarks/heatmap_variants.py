"""Cheaper forms of `heatmap-unet`: a coarse stem, and depth-wise convolutions, beside the network as it is.

- `stride-2 stem`: the first convolution, of 4 x 4 x 4 voxels, has a stride of 2; nothing is computed at full resolution.
- `depth-wise`: residual blocks of depth-wise convolutions and pointwise ones.

Size s, the defaults of `cryovox train supervised` in float32, and the same processor time for all; the score is the mean F1 at the best
thresholds on two tomograms of a smaller CZII phantom that were not trained on (`time_to_f1.py`). Beside it: processor milliseconds of a
tile of 64 x 64 x 64 voxels in inference, in float32 and bfloat16, and of a training step.

    OMP_NUM_THREADS=1 python benchmarks/heatmap_variants.py --work DIR        # about 12 processor minutes; resumes
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common import write_result
from cryovox.inference.stream import TilePlan, score
from cryovox.models import MODELS, NETWORKS, build, options
from cryovox.models.blocks.layers import he_init
from cryovox.models.memory_format import infer_channels_last
from cryovox.models.networks.heatmap_unet import HeatmapUNet, Residual, norm_relu
from time_to_f1 import WORLDS, World, cached, open_world, run

WORLD = "czii-picking"
SPECIES, TILE = 6, 64


class CoarseStem(HeatmapUNet):
    """The stem and the first step down in one convolution."""

    def __init__(self, in_channels: int, out_channels: int, *, widths: Any, blocks: Any, norm: str) -> None:
        super().__init__(in_channels, out_channels, widths=widths, blocks=blocks, norm=norm)
        self.stem = nn.Identity()
        first = nn.Conv3d(in_channels, widths[1], kernel_size=4, stride=2, padding=1)
        he_init(first)
        self.down[0][0] = first  # type: ignore[index]


class DepthWise(HeatmapUNet):
    """Residual blocks of depth-wise and pointwise convolutions."""

    def __init__(self, in_channels: int, out_channels: int, *, widths: Any, blocks: Any, norm: str) -> None:
        super().__init__(in_channels, out_channels, widths=widths, blocks=blocks, norm=norm)
        for block in [part for part in self.modules() if isinstance(part, Residual)]:
            width = block.body[2].in_channels
            block.body = nn.Sequential(
                *norm_relu(width, norm),
                nn.Conv3d(width, width, kernel_size=3, padding=1, groups=width, bias=False),
                nn.Conv3d(width, 2 * width, kernel_size=1, bias=False),
                *norm_relu(2 * width, norm),
                nn.Conv3d(2 * width, width, kernel_size=1, bias=False),
            )
            he_init(block)


VARIANTS = {"heatmap-unet": HeatmapUNet, "stride-2 stem": CoarseStem, "depth-wise": DepthWise}
"""The first is a network of the package."""


def register() -> None:
    """Let trainings build the variants by name."""
    for name, network in [*VARIANTS.items()][1:]:
        NETWORKS[name] = NETWORKS["heatmap-unet"]
        MODELS.add(name, f"heatmap_variants:{network.__name__}")


def milliseconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Least processor milliseconds of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return round(1e3 * best, 2)


def costs(name: str) -> dict[str, float]:
    """Milliseconds of a tile and of a training step, and weights in thousands."""
    torch.manual_seed(0)
    network = build(name, options("heatmap-unet", "s"), 1, SPECIES)
    images = torch.randn(4, 1, 48, 48, 48)

    def step() -> None:
        network.zero_grad()
        output: Tensor = network(images)
        output.square().mean().backward()

    training = milliseconds(step)
    network.eval()
    half = copy.deepcopy(network)
    infer_channels_last(half, "cpu")
    tile = torch.randn(1, 1, TILE, TILE, TILE)
    plans = (TilePlan(TILE, 0.5, 2, "sigmoid"), TilePlan(TILE, 0.5, 2, "sigmoid", bf16=True))
    full, rounded = (
        milliseconds(partial(score, n, tile, p)) for n, p in zip((network, half), plans, strict=True)
    )
    weights = sum(p.numel() for p in network.parameters()) / 1e3
    return {"step": training, "tile": full, "tile, bfloat16": rounded, "weights": round(weights, 1)}


def main() -> None:
    """Train all, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder of tomograms and finished trainings")
    parser.add_argument("--time", default="60s", help="processor time of each training")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    register()
    world = WORLDS[WORLD]
    data = open_world(world.data, args.work / world.data)
    table, runs = {name: costs(name) for name in VARIANTS}, []
    print(table, flush=True)
    for seed in range(args.seeds):
        for name in VARIANTS:
            file = args.work / "runs" / f"{name}, {seed}, {args.time}.json"
            own = World(world.data, name, world.target)
            row = cached(file, partial(run, own, data, {"loop.precision": "32-true"}, seed, args.time))
            runs.append(
                {"network": name, "seed": seed, "steps": row["steps"][-1], "score": row["scores"][-1]}
            )
            print(runs[-1], flush=True)
    print(write_result("heatmap_variants", {"time": args.time, "costs": table, "runs": runs}))


if __name__ == "__main__":
    main()
