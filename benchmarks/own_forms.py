"""Speed of two own implementations against those of torch, and false positive rate of the noise test.

Minimum processor seconds on one thread: the side outputs of VoxResNet, whose transposed convolutions are matrix
products, and the cosine similarity of features, for the depths of size xs and two cubes of 32^3 voxels. The noise test
is applied to pure noise: the share with p <= 0.05 should be 0.05.

    OMP_NUM_THREADS=1 python benchmarks/own_forms.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common import write_result
from cryovox.models.networks.voxresnet import SIDE_CHANNELS, enlarge
from cryovox.training.evaluation.model_selection import RULE
from cryovox.training.evaluation.noise_test import noise_p_value
from cryovox.training.strategies.uda.vox_uda import cosine

SIDE, BATCH, WIDTHS = 32, 2, (8, 16, 16, 16)
REPEATS = 12
SETS, CUBE = 100, 16
LAST = torch.channels_last_3d


def features(channels: int, factor: int) -> Tensor:
    """Input of a layer in training."""
    side = SIDE // factor
    return torch.randn(BATCH, channels, side, side, side).contiguous(memory_format=LAST).requires_grad_()


def seconds(forward: Callable[[], Tensor], *, training: bool) -> float:
    """Processor seconds of a forward pass, with the backward pass in training."""
    best = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        with torch.set_grad_enabled(training):
            output = forward()
        if training:
            output.sum().backward()
        best = min(best, time.process_time() - start)
    return best


def enlarging(factor: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Our implementation and that of torch, with the same weights."""
    ours = enlarge(WIDTHS[-1], factor).to(memory_format=LAST)
    torchs = nn.ConvTranspose3d(WIDTHS[-1], SIDE_CHANNELS, factor, stride=factor).to(memory_format=LAST)
    torchs.load_state_dict(ours.state_dict())
    x = features(WIDTHS[-1], factor)
    return lambda: ours(x), lambda: torchs(x)


def cosines() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Our implementation and that of torch over all depths."""
    some, others = ([features(w, 2**i) for i, w in enumerate(WIDTHS)] for _ in range(2))
    pairs = list(zip(some, others, strict=True))
    return (
        lambda: torch.stack([cosine(a, b).mean() for a, b in pairs]),
        lambda: torch.stack([F.cosine_similarity(a, b, dim=1).mean() for a, b in pairs]),
    )


class Bright(nn.Module):
    """Predicts foreground where the smoothed input is bright."""

    def forward(self, x: Tensor) -> Tensor:
        logits = 20 * (F.avg_pool3d(x, 3, 1, 1) - 0.5)
        return torch.cat([torch.zeros_like(logits), logits], 1)


def false_alarms(count: int, box: int) -> float:
    """Share of sets of *count* cubes of box-filtered noise that the test distinguishes from noise."""
    generator, rejected = torch.Generator().manual_seed(0), 0
    for _ in range(SETS):
        x = torch.randn(count, 1, *3 * [CUBE + box - 1], generator=generator)
        x = F.avg_pool3d(x, box, 1)
        rejected += (
            noise_p_value(Bright(), x / x.std(), activation="softmax", device="cpu") <= RULE.significance
        )
    return rejected / SETS


def main() -> None:
    """Measure, print, store."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name, (ours, torchs) in {
        **{f"side output, enlarged {f} times": enlarging(f) for f in (2, 4, 8)},
        "cosine of features": cosines(),
    }.items():
        assert torch.allclose(ours(), torchs(), atol=1e-4)
        for training in (True, False):
            row = {
                form: seconds(work, training=training) for form, work in (("ours", ours), ("torch", torchs))
            }
            rows.append({"what": name, "learning": training, **row})
            direction = "forward, backward" if training else "forward"
            ratio = row["torch"] / row["ours"]
            print(
                f"{name:32s} {direction:17s} {1e3 * row['ours']:6.2f} {1e3 * row['torch']:6.2f} ms, ratio {ratio:.2f}"
            )
    noise = [
        {"cubes": count, "box": color, "told from noise": false_alarms(count, color)}
        for count in (32, 256)
        for color in (1, 3, 5)
    ]
    print(*noise, sep="\n")
    write_result("own_forms", {"side": SIDE, "batch": BATCH, "rows": rows, "sets": SETS, "noise": noise})


if __name__ == "__main__":
    main()
