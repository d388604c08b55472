"""Processor time of a training step in float32 and bfloat16, with weights as they are and channels last.

Networks of size s on one thread, with the patch and the batch of a training: forward and backward pass, loss, clipping,
AdamW and averaged weights, on one batch of noise. All variants take a step in turn, and ratios are medians of rounds. The
first variant is how trainings were computed at first; the starred ones are what `--precision 32-true` and
`--precision bf16-mixed` do now.

    OMP_NUM_THREADS=1 python benchmarks/speed/training_step.py               # about two processor minutes
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result
from cryovox.data.streams import Batch
from cryovox.models import build, options
from cryovox.models.memory_format import infer_channels_last, use_channels_last
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.supervised import Supervised
from cryovox.workflows.devices import keep_freed_memory

NETWORKS, SPECIES, BATCH = ("heatmap-unet", "voxresnet"), 6, 4
VARIANTS = {
    "float32, contiguous": (False, False),
    "float32, channels last": (False, True),
    "bfloat16, contiguous": (True, False),
    "bfloat16, channels last": (True, True),
}
"""bfloat16, channels last."""


class Training:
    """A strategy with its optimizer and one batch."""

    def __init__(self, name: str, bf16: bool, channels_last: bool) -> None:
        torch.manual_seed(0)
        chosen = options(name, "s")
        mask = build(name, chosen, 1, 1).activation == "softmax"
        network = build(name, chosen, 1, SPECIES + mask)
        self.patch, stride = int(getattr(network, "patch", 32)), int(network.output_stride)
        self.strategy = Supervised(network, SupervisedConfig(), name).train()
        if channels_last:
            infer_channels_last(self.strategy, "cpu")  # all weights
        self.optimizer = torch.optim.AdamW(self.strategy.student.parameters(), 1e-5)
        self.bf16, self.batch = bf16, batch_of(mask, self.patch, stride)

    def step(self) -> float:
        """Processor seconds of a step."""
        start = time.process_time()
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            terms = self.strategy({"labeled": self.batch}, 0.5)
        torch.stack([*terms.values()]).sum().backward()
        nn.utils.clip_grad_norm_(self.strategy.student.parameters(), 1.0)
        self.optimizer.step()
        self.strategy.after_step(100)
        return time.process_time() - start


def batch_of(mask: bool, patch: int, stride: int) -> Batch:
    """Noise with one particle of each species."""
    image = torch.randn(BATCH, 1, patch, patch, patch)
    if mask:
        target = torch.zeros(BATCH, patch, patch, patch, dtype=torch.int64)
        for k in range(SPECIES):
            target[:, 4 * k : 4 * k + 4, 4:10, 4:10] = k + 1
        return Batch(image, target, torch.ones_like(target, dtype=torch.bool))
    edge = patch // stride
    heatmaps = torch.rand(BATCH, SPECIES, edge, edge, edge) * 0.4
    heatmaps[:, :, edge // 2, edge // 2, edge // 2] = 1
    return Batch(image, heatmaps, torch.ones_like(heatmaps, dtype=torch.bool))


def taken(name: str, bf16: bool) -> str:
    """Variant that a training in a precision uses on a CPU."""
    network = build(name, options(name, "s"), 1, SPECIES)
    use_channels_last(network, "cpu")
    last = any(p.ndim == 5 and not p.is_contiguous() for p in network.parameters())
    return next(label for label, kind in VARIANTS.items() if kind == (bf16, last))


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of each variant, and the median ratio to the first."""
    trainings = {label: Training(name, *kind) for label, kind in VARIANTS.items()}
    for training in trainings.values():
        training.step()  # chooses kernels
    times = [{label: training.step() for label, training in trainings.items()} for _ in range(rounds)]
    first = next(iter(VARIANTS))
    variants = {
        label: {
            "ms": round(1e3 * median(row[label] for row in times), 1),
            "ratio": round(median(row[label] / row[first] for row in times), 3),
        }
        for label in VARIANTS
    }
    now = {"32-true": taken(name, False), "bf16-mixed": taken(name, True)}
    patch = next(iter(trainings.values())).patch
    return {"network": name, "patch": patch, "batch": BATCH, "variants": variants, "now": now}


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = []
    for name in NETWORKS:
        rows.append(measure(name, rounds))
        for label, values in rows[-1]["variants"].items():
            star = "*" if label in rows[-1]["now"].values() else " "
            print(f"{name:14s} {label:24s}{star} {values['ms']:7.1f} ms, ratio {values['ratio']:.2f}")
    write_result("training_step", {"threads": 1, "rounds": rounds, "rows": rows})


if __name__ == "__main__":
    main()
