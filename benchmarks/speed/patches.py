"""Patches per second of every network on one thread, in float32 and bfloat16, beside the peaks of the processor.

Every network of size s, and MVGFormer of the size of the paper, scores a batch as the tiler does (`score`; bfloat16 with
channels-last weights), both precisions in turn; the least processor time of some rounds counts. In the same run: the peak of
a matrix product, and the bandwidth of a copy in memory and in the cache. Operations are those of `cryovox.models.cost`; bytes
are what all operators of a forward pass read and write, as if nothing stayed in a cache. MVGFormer of the size of the paper
is also run with the decoder as the paper prints it: enlarge, convolve at full resolution, concatenate, classify.

    OMP_NUM_THREADS=1 python benchmarks/speed/patches.py                  # about five processor minutes
    OMP_NUM_THREADS=1 python benchmarks/speed/patches.py --networks fcn8  # seconds; writes no result
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiler import machine, seconds

from common import write_result
from cryovox.inference.stream import TilePlan, score
from cryovox.models import MODELS, build, options
from cryovox.models.blocks.p3da import P3DA
from cryovox.models.cost import cost
from cryovox.models.memory_format import infer_channels_last
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.score_tiles import default_batch

SPECIES = 6
PAPER = ("mvgformer", "paper")
CACHED = 1 << 18
"""Values of a copy that stays in the cache: 1 MB in float32."""


@dataclass(eq=False)
class Traffic(TorchDispatchMode):
    """Bytes that operators read and write; views move none."""

    total: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            sizes = (min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)
            self.total += sum(sizes)
        return out


@dataclass(eq=False)
class Case:
    """A network with a batch, in both precisions."""

    network: nn.Module
    batch: int
    side: int

    def __post_init__(self) -> None:
        half = copy.deepcopy(self.network)
        infer_channels_last(half, "cpu")
        self.networks = {"float32": self.network, "bfloat16": half}
        self.images = torch.randn(self.batch, 1, *(self.side,) * 3)

    def run(self, precision: str) -> object:
        """Score the batch as the tiler does."""
        network = self.networks[precision]
        plan = TilePlan(
            self.side, 0.5, network.output_stride, network.activation, bf16=precision == "bfloat16"
        )
        return score(network, self.images, plan)

    def bytes(self, precision: str) -> int:
        """Bytes per patch."""
        bf16 = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
        with torch.no_grad(), bf16, Traffic() as traffic:
            self.networks[precision](self.images)
        return traffic.total // self.batch


def network_of(name: str, size: str) -> nn.Module:
    """A network for six species."""
    torch.manual_seed(0)
    return build(name, options(name, size), 1, SPECIES + background(name)).eval()


def background(name: str) -> bool:
    """Whether a network has a channel for the background."""
    return MODELS[name].kind == "mask"


def in_turn(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least processor seconds of each, all in turn."""
    best = dict.fromkeys(works, float("inf"))
    for number in range(rounds + 1):  # the first round chooses kernels
        for key, work in works.items():
            start = time.process_time()
            work()
            taken = time.process_time() - start
            best[key] = min(best[key], taken) if number else best[key]
    return best


def measure(name: str, size: str, rounds: int) -> dict[str, Any]:
    """Patches per second, operations and bytes of a network in both precisions."""
    network, side = network_of(name, size), MODELS[name].patch
    case = Case(network, default_batch(side, "cpu"), side)
    best = in_turn({p: partial(case.run, p) for p in case.networks}, rounds)
    flops = cost(name, size, out_channels=SPECIES + background(name)).flops
    precisions = {
        precision: {
            "patches_per_s": round(case.batch / taken, 3),
            "Gflop_per_s": round(case.batch * flops / taken / 1e9, 2),
            "bytes": case.bytes(precision),
        }
        for precision, taken in best.items()
    }
    return {"network": name, "size": size, "patch": side, "batch": case.batch, "flops": flops} | precisions


def plain(decoder: P3DA, maps: list[Tensor]) -> Tensor:
    """The decoder as printed: enlarge, convolve at full resolution, concatenate, classify."""
    wide = F.interpolate(maps[-1], scale_factor=decoder.scale, mode="trilinear", align_corners=False)
    voxels = torch.cat([F.relu(branch.norm(branch.conv(wide))) for branch in decoder.branches], 1)
    return decoder.classify(F.relu(decoder.norm(decoder.mix(voxels))))


def decoder_of(network: nn.Module) -> P3DA:
    """P3DA of a MVGFormer."""
    return next(part for part in network.modules() if isinstance(part, P3DA))


def decoders(rounds: int) -> dict[str, Any]:
    """MVGFormer of the size of the paper with both forms of its decoder, one patch at a time."""
    name, size = PAPER
    networks = {"factored": network_of(name, size), "plain": network_of(name, size)}
    decoder = decoder_of(networks["plain"])
    decoder.forward = MethodType(plain, decoder)
    flops = {form: operations(network) for form, network in networks.items()}
    works: dict[str, Callable[[], object]] = {}
    for form, network in networks.items():
        for precision in ("float32", "bfloat16"):
            for layout in ("contiguous", "channels last"):
                works[f"{form}, {precision}, {layout}"] = partial(forward, placed(network, layout), precision)
    taken = in_turn(works, rounds)
    return {"flops": flops, "seconds": {key: round(value, 4) for key, value in taken.items()}}


def operations(network: nn.Module) -> int:
    """Operations of one patch without attention, which is fused here and not counted."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, 32, 32, 32))
    return counter.get_total_flops()


def placed(network: nn.Module, layout: str) -> nn.Module:
    """A copy with weights in a memory format."""
    own = copy.deepcopy(network)
    decoder = decoder_of(own)
    if "forward" in vars(decoder):  # bound to the decoder that was copied
        decoder.forward = MethodType(plain, decoder)
    if layout == "channels last":
        infer_channels_last(own, "cpu")
    return own


def forward(network: nn.Module, precision: str) -> object:
    """Score one patch."""
    plan = TilePlan(32, 0.5, 1, network.activation, bf16=precision == "bfloat16")
    return score(network, torch.zeros(1, 1, 32, 32, 32), plan)


def peaks() -> dict[str, float]:
    """Peaks of the machine, and the bandwidth of a copy that stays in the cache."""
    a = torch.zeros(CACHED)
    b = torch.zeros_like(a)

    def copies() -> None:
        for _ in range(1000):
            b.copy_(a)

    return machine() | {"copy in the cache, GB/s": round(1000 * 2 * 4 * CACHED / seconds(copies) / 1e9, 1)}


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", help="only these, of size s; writes no result")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    found = peaks()
    cases = [(name, "s") for name in args.networks or MODELS] + ([] if args.networks else [PAPER])
    rows = []
    for name, size in cases:
        rows.append(measure(name, size, args.rounds))
        print(rows[-1], flush=True)
    if args.networks:
        return
    result = {"threads": 1, "rounds": args.rounds, "species": SPECIES, "rows": rows, "machine_peaks": found}
    write_result("patches", result)
    result["decoders"] = decoders(max(1, args.rounds - 1))
    print(found, result["decoders"])
    write_result("patches", result)


if __name__ == "__main__":
    main()
