"""Time limit of a command: the time that is left, and the time that a network takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryovox.core.durations import seconds
from cryovox.training.config import LoopConfig

if TYPE_CHECKING:
    from torch import nn


def _now(processor: bool) -> float:
    return time.process_time() if processor else time.monotonic()


@dataclass(frozen=True)
class TimeBudget:
    """Time of a command, from the creation of this object.

    Attributes
    ----------
    total
        In seconds; None without a limit.
    processor
        Whether processor time counts, instead of wall time.
    """

    total: float | None = None
    processor: bool = False
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, loop: LoopConfig) -> TimeBudget:
        """From the settings of a training."""
        processor = loop.clock == "processor"
        total = None if loop.max_time is None else seconds(loop.max_time)
        return cls(total, processor, _now(processor))

    def left(self) -> float | None:
        """Remaining seconds; None without a limit."""
        return None if self.total is None else self.total - (_now(self.processor) - self.began)

    def forwards(self, each: float, share: float = 1.0) -> int | None:
        """Number of forward passes in a fraction of the whole time, at *each* seconds."""
        return None if self.total is None else int(share * self.total / each)

    def forwards_left(self, each: float) -> int | None:
        """Number of forward passes in the remaining time."""
        left = self.left()
        return None if left is None else max(0, int(left / each))


def forward_seconds(network: nn.Module, patch: int, device: str, *, processor: bool = False) -> float:
    """Seconds that a network takes for one patch, measured once after a warm-up."""
    import torch

    training = network.training
    network = network.to(device).eval()
    image = torch.zeros(1, 1, patch, patch, patch, device=device)
    with torch.no_grad():
        network(image).sum().item()
        began = _now(processor)
        network(image).sum().item()
    network.train(training)
    return max(1e-6, _now(processor) - began)


@contextmanager
def call_after_forward(network: nn.Module, callback: Callable[[], None]) -> Iterator[None]:
    """Within, call *callback* after each forward pass of a network."""
    hook = network.register_forward_hook(lambda *_: callback())
    try:
        yield
    finally:
        hook.remove()
