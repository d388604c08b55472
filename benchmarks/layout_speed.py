"""What the layout of the weights is worth on a CPU: seconds of the processor for a training step and an answer.

Every network that asks for channels last, and two that do not, in size s on one thread; the best of five.

    OMP_NUM_THREADS=1 python benchmarks/layout_speed.py
"""

from __future__ import annotations

import argparse
import time

import torch

from common import write_result
from cryovox.models import MODELS, build, options

SIDES = ((32, 2), (64, 1))
WITHOUT = ("heatmap-unet", "fcn8")
REPEATS = 5


def seconds(name: str, side: int, batch: int, *, last: bool, learning: bool) -> float:
    """Of the processor, for one pass, or for one pass there and back."""
    torch.manual_seed(0)
    network = build(name, options(name, "s"), 1, 3).train(learning)
    if last:
        network.to(memory_format=torch.channels_last_3d)
    x, best = torch.randn(batch, 1, side, side, side), float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        with torch.set_grad_enabled(learning):
            answer = network(x).float().square().mean()
        if learning:
            answer.backward()
            network.zero_grad()
        best = min(best, time.process_time() - began)
    return best


def main() -> None:
    """Measure, print, store."""
    options_ = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options_.add_argument("--only", nargs="*", help="these networks; nothing is stored")
    chosen = options_.parse_args().only
    names = chosen or [n for n in MODELS if getattr(MODELS[n], "channels_last", False)] + list(WITHOUT)
    rows = []
    for name in names:
        for side, batch in SIDES:
            for learning in (True, False):
                plain, last = (
                    seconds(name, side, batch, last=last, learning=learning) for last in (False, True)
                )
                row = {"network": name, "side": side, "batch": batch, "learning": learning}
                rows.append({**row, "plain": round(plain, 4), "channels_last": round(last, 4)})
                what = "step" if learning else "answer"
                print(
                    f"{name:14s} {batch} x {side}^3 {what:6s} {plain:.3f} {last:.3f} s, ratio {plain / last:.2f}"
                )
    if not chosen:
        write_result("layout_speed", {"threads": torch.get_num_threads(), "rows": rows})


if __name__ == "__main__":
    main()
