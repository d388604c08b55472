"""How the time that a command may take is kept: what is left of it, and what a network costs."""

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
    """Time of a command, from when this is made.

    Attributes
    ----------
    total
        In seconds; None without a limit.
    processor
        Whether it is counted in processor time.
    """

    total: float | None = None
    processor: bool = False
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, loop: LoopConfig) -> TimeBudget:
        """As the settings of a training say."""
        processor = loop.clock == "processor"
        total = None if loop.max_time is None else seconds(loop.max_time)
        return cls(total, processor, _now(processor))

    def left(self) -> float | None:
        """Seconds that are left; None without a limit."""
        return None if self.total is None else self.total - (_now(self.processor) - self.began)

    def forwards(self, each: float, share: float = 1.0) -> int | None:
        """How many patches a network can answer in a share of the whole time, at so many seconds each."""
        return None if self.total is None else int(share * self.total / each)

    def forwards_left(self, each: float) -> int | None:
        """The same in what is left."""
        left = self.left()
        return None if left is None else max(0, int(left / each))


def forward_seconds(network: nn.Module, patch: int, device: str, *, processor: bool = False) -> float:
    """Seconds (of the processor) that a network takes for one patch, by a trial after one that warms up."""
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
def ticking(network: nn.Module, tick: Callable[[], None]) -> Iterator[None]:
    """Call *tick* after each answer of a network."""
    hook = network.register_forward_hook(lambda *_: tick())
    try:
        yield
    finally:
        hook.remove()
