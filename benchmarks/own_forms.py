"""What two forms of our own are worth beside torch's, and how often noise is taken for particles.

Seconds of the processor on one thread, the best of some: the side outputs of VoxResNet, whose transposed convolutions are
products of matrices, and the cosine of features, for the depths of size xs and two cubes of 32. Then the test that
compares a target with noise, on sets of noise alone: the share whose p is 0.05 or less, where a twentieth is wanted.

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
from cryovox.models.networks.voxresnet import VOTE, enlarge
from cryovox.training.evaluation.model_selection import RULE
from cryovox.training.evaluation.noise_test import noise_p_value
from cryovox.training.strategies.uda.vox_uda import cosine

SIDE, BATCH, WIDTHS = 32, 2, (8, 16, 16, 16)
REPEATS = 12
SETS, CUBE = 100, 16
LAST = torch.channels_last_3d


def features(channels: int, factor: int) -> Tensor:
    """As a layer sees them in training."""
    side = SIDE // factor
    return torch.randn(BATCH, channels, side, side, side).contiguous(memory_format=LAST).requires_grad_()


def seconds(work: Callable[[], Tensor], *, learning: bool) -> float:
    """Of the processor, for one pass, or for one there and back."""
    best = float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        with torch.set_grad_enabled(learning):
            answer = work()
        if learning:
            answer.sum().backward()
        best = min(best, time.process_time() - began)
    return best


def enlarging(factor: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Ours, and torch's with the same weights."""
    ours = enlarge(WIDTHS[-1], factor).to(memory_format=LAST)
    torchs = nn.ConvTranspose3d(WIDTHS[-1], VOTE, factor, stride=factor).to(memory_format=LAST)
    torchs.load_state_dict(ours.state_dict())
    x = features(WIDTHS[-1], factor)
    return lambda: ours(x), lambda: torchs(x)


def cosines() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Ours and torch's over all depths."""
    some, others = ([features(w, 2**i) for i, w in enumerate(WIDTHS)] for _ in range(2))
    pairs = list(zip(some, others, strict=True))
    return (
        lambda: torch.stack([cosine(a, b).mean() for a, b in pairs]),
        lambda: torch.stack([F.cosine_similarity(a, b, dim=1).mean() for a, b in pairs]),
    )


class Bright(nn.Module):
    """Calls foreground what is bright after a blur."""

    def forward(self, x: Tensor) -> Tensor:
        found = 20 * (F.avg_pool3d(x, 3, 1, 1) - 0.5)
        return torch.cat([torch.zeros_like(found), found], 1)


def false_alarms(count: int, colour: int) -> float:
    """Share of the sets of so many cubes of noise, after a box filter, that are told from noise."""
    generator, told = torch.Generator().manual_seed(0), 0
    for _ in range(SETS):
        x = torch.randn(count, 1, *3 * [CUBE + colour - 1], generator=generator)
        x = F.avg_pool3d(x, colour, 1)
        told += noise_p_value(Bright(), x / x.std(), activation="softmax", device="cpu") <= RULE.significance
    return told / SETS


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
        for learning in (True, False):
            row = {
                form: seconds(work, learning=learning) for form, work in (("ours", ours), ("torch", torchs))
            }
            rows.append({"what": name, "learning": learning, **row})
            told = "there and back" if learning else "one way"
            ratio = row["torch"] / row["ours"]
            print(
                f"{name:32s} {told:14s} {1e3 * row['ours']:6.2f} {1e3 * row['torch']:6.2f} ms, ratio {ratio:.2f}"
            )
    noise = [
        {"cubes": count, "box": colour, "told from noise": false_alarms(count, colour)}
        for count in (32, 256)
        for colour in (1, 3, 5)
    ]
    print(*noise, sep="\n")
    write_result("own_forms", {"side": SIDE, "batch": BATCH, "rows": rows, "sets": SETS, "noise": noise})


if __name__ == "__main__":
    main()
