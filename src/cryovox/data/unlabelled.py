"""Patches of which nothing is known, and batches that stay the same for a while."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from cryovox.data.cubes import Cubes
from cryovox.data.regions import Region
from cryovox.data.streams import Batch
from cryovox.data.targets import IGNORE_INDEX


class BatchStream(Protocol):
    """Gives batch number n, the same whenever it is asked."""

    def make(self, number: int) -> Batch: ...
    def batch(self, number: int) -> Batch: ...
    def close(self) -> None: ...


def drop_annotations(region: Region) -> Region:
    """The same places without what is annotated; what is known of their patches is where the region lies."""
    nothing = np.empty(0, np.intp)
    all_over = np.ones_like(region.exhaustive)
    return replace(region, positions=np.empty((0, 3)), channels=nothing, labels=None, exhaustive=all_over)


def drop_labels(cubes: Cubes) -> Cubes:
    """The images of a set alone."""
    nothing = np.empty(0, np.intp)
    return replace(cubes, labels=None, owners=nothing, centres=np.empty((0, 3)), channels=nothing)


class UnlabelledBatches:
    """Batches of another stream without their targets; nothing of a target's labels is learned."""

    def __init__(self, drawn: BatchStream) -> None:
        self.drawn = drawn

    def batch(self, number: int) -> Batch:
        """Give batch *number*."""
        found = self.drawn.batch(number)
        return found._replace(target=torch.full_like(found.target, IGNORE_INDEX))

    def close(self) -> None:
        """Stop whatever prepares batches."""
        self.drawn.close()


class RepeatedBatches:
    """Gives each batch of another stream so many times: what is drawn anew once an epoch."""

    def __init__(self, drawn: UnlabelledBatches, times: int) -> None:
        self.drawn, self.times = drawn, times
        self._kept: tuple[int, Batch] | None = None

    def batch(self, number: int) -> Batch:
        """Give batch *number*, which is that of its epoch."""
        epoch = number // self.times
        if self._kept is None or self._kept[0] != epoch:
            self._kept = epoch, self.drawn.batch(epoch)
        return self._kept[1]

    def close(self) -> None:
        """Stop whatever prepares batches."""
        self.drawn.close()
