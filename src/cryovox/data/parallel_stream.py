"""Simulated batches made by several processes, for devices that are faster than one process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray

from cryovox.data.simulated import SimulatedStream
from cryovox.data.streams import Batch

Arrays = tuple[NDArray[np.float32], NDArray[np.generic], NDArray[np.bool_]]
AHEAD = 2
"""Groups of batches that are asked for in advance, per process."""


class ParallelStream:
    """The batches of a `SimulatedStream`, a group of boxes at a time, from a pool of processes.

    Batch n is that of the stream; it does not depend on the number of processes.

    Parameters
    ----------
    make
        Makes the stream; it is pickled.
    per_group
        Batches of a group of boxes, `SimulatedStream.batches_per_group`.
    processes
        Number of processes, each with one thread.
    """

    def __init__(self, make: Callable[[], SimulatedStream], per_group: int, processes: int) -> None:
        self.per_group, self.ahead = per_group, AHEAD * processes
        spawn = get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(make,))
        self._groups: dict[int, Future[list[Arrays]]] = {}

    def batch(self, number: int) -> Batch:
        """Return batch *number*, and ask for the next groups."""
        group, place = divmod(number, self.per_group)
        wanted = range(group, group + 1 + self.ahead)
        for other in set(self._groups) - set(wanted):
            self._groups.pop(other).cancel()
        for n in wanted:
            if n not in self._groups:
                self._groups[n] = self._pool.submit(_group, n * self.per_group, self.per_group)
        return Batch(*(torch.from_numpy(array) for array in self._groups[group].result()[place]))

    def close(self) -> None:
        """Stop the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)


_stream: SimulatedStream


def _start(make: Callable[[], SimulatedStream]) -> None:
    """Make the stream of this process."""
    global _stream
    torch.set_num_threads(1)
    _stream = make()


def _group(first: int, count: int) -> list[Arrays]:
    batches = [_stream.batch(first + i) for i in range(count)]
    return [(b.image.numpy(), b.target.numpy(), b.valid_mask.numpy()) for b in batches]
