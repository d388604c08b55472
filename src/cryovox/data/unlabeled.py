"""Batches without labels, and batches that are repeated for an epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from cryovox.data.cubes import Cubes
from cryovox.data.regions import Region
from cryovox.data.streams import Batch, PatchStream, collate
from cryovox.data.targets import IGNORE_INDEX


class BatchStream(Protocol):
    """Batch number n is the same whenever it is drawn."""

    def make(self, number: int) -> Batch: ...
    def batch(self, number: int) -> Batch: ...
    def close(self) -> None: ...


def drop_annotations(region: Region) -> Region:
    """The same region without its annotations; its valid mask is where the region lies."""
    nothing = np.empty(0, np.intp)
    all_over = np.ones_like(region.exhaustive)
    return replace(region, positions=np.empty((0, 3)), channels=nothing, labels=None, exhaustive=all_over)


def keep_picks(region: Region) -> Region:
    """The same region, not searched, with its picks; its valid mask is where the region lies.

    Species that were annotated exhaustively are `complete`.
    """
    everywhere = np.ones_like(region.exhaustive)
    return replace(region, labels=None, exhaustive=everywhere, complete=region.exhaustive)


def drop_labels(cubes: Cubes) -> Cubes:
    """The images of a set without its labels."""
    nothing = np.empty(0, np.intp)
    return replace(cubes, labels=None, cube_index=nothing, centers=np.empty((0, 3)), channels=nothing)


class PickedBatch(NamedTuple):
    """A batch of unlabeled patches with picks.

    Attributes
    ----------
    image, target, valid_mask
        As of `Batch`; the target has the picks alone, and the mask is where somebody looked for them.
    complete : (b, k) bool
        Whether all particles of the species are picked.
    """

    image: Tensor
    target: Tensor
    valid_mask: Tensor
    complete: Tensor

    def to(self, device: torch.device) -> PickedBatch:
        """Move to a device."""
        return PickedBatch(*(part.to(device, non_blocking=True) for part in self))


class PickStream(PatchStream):
    """Batches of unlabeled patches with the picks of regions from `keep_picks`."""

    def make(self, number: int) -> PickedBatch:  # type: ignore[override]
        """Draw batch *number* now."""
        patches = self.patches(number)
        complete = np.stack([patch.complete for patch in patches if patch.complete is not None])
        return PickedBatch(*collate(patches, self.sampling.spec), torch.from_numpy(complete))


def complete_species(batch: object) -> Tensor | None:
    """Of which species all particles are picked (b, k); None for a batch that is no `PickedBatch`."""
    return batch.complete if isinstance(batch, PickedBatch) else None


class UnlabeledBatches:
    """Batches of another stream, all of whose targets are ignored."""

    def __init__(self, stream: BatchStream) -> None:
        self.stream = stream

    def batch(self, number: int) -> Batch:
        """Return batch *number*."""
        batch = self.stream.batch(number)
        return batch._replace(target=torch.full_like(batch.target, IGNORE_INDEX))

    def close(self) -> None:
        """Stop the stream."""
        self.stream.close()


class RepeatedBatches:
    """Repeats each batch of another stream so many times, for data that are drawn once per epoch."""

    def __init__(self, stream: UnlabeledBatches, times: int) -> None:
        self.stream, self.times = stream, times
        self._kept: tuple[int, Batch] | None = None

    def batch(self, number: int) -> Batch:
        """Return the batch of the epoch of *number*."""
        epoch = number // self.times
        if self._kept is None or self._kept[0] != epoch:
            self._kept = epoch, self.stream.batch(epoch)
        return self._kept[1]

    def close(self) -> None:
        """Stop the stream."""
        self.stream.close()
