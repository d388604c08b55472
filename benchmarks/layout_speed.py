"""Speed-up by channels-last weights on a CPU: processor seconds of a training step and of an inference pass.

All networks that use channels-last weights, and one that does not, in size s on one thread; minimum of five runs.

    OMP_NUM_THREADS=1 python benchmarks/layout_speed.py
"""

from __future__ import annotations

import argparse
import time

import torch

from common import write_result
from cryovox.models import MODELS, build, options

SIDES = ((32, 2), (64, 1))
WITHOUT = ("fcn8",)
REPEATS = 5


def seconds(name: str, side: int, batch: int, *, channels_last: bool, training: bool) -> float:
    """Processor seconds of a forward pass, with the backward pass in training."""
    torch.manual_seed(0)
    network = build(name, options(name, "s"), 1, 3).train(training)
    if channels_last:
        network.to(memory_format=torch.channels_last_3d)
    x, best = torch.randn(batch, 1, side, side, side), float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        with torch.set_grad_enabled(training):
            loss = network(x).float().square().mean()
        if training:
            loss.backward()
            network.zero_grad()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Measure, print, store."""
    options_ = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options_.add_argument("--only", nargs="*", help="only these networks, without a result file")
    chosen = options_.parse_args().only
    names = chosen or [n for n in MODELS if getattr(MODELS[n], "channels_last", False)] + list(WITHOUT)
    rows = []
    for name in names:
        for side, batch in SIDES:
            for training in (True, False):
                plain, last = (
                    seconds(name, side, batch, channels_last=last, training=training)
                    for last in (False, True)
                )
                row = {"network": name, "side": side, "batch": batch, "learning": training}
                rows.append({**row, "plain": round(plain, 4), "channels_last": round(last, 4)})
                what = "step" if training else "inference"
                print(
                    f"{name:14s} {batch} x {side}^3 {what:9s} {plain:.3f} {last:.3f} s, ratio {plain / last:.2f}"
                )
    if not chosen:
        write_result("layout_speed", {"threads": torch.get_num_threads(), "rows": rows})


if __name__ == "__main__":
    main()
