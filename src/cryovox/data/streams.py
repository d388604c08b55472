"""Endless streams of batches; batch number n is the same whenever and wherever it is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cryovox.data.augment import augment
from cryovox.data.patches import Patch, TargetSpec, align_tilt_axis, cut, sample_corner
from cryovox.data.regions import Region
from cryovox.data.sampling import SamplingConfig


class Batch(NamedTuple):
    """A training batch; a tuple, in which Fabric finds the tensors.

    Attributes
    ----------
    image : (b, 1, z, y, x) float32
    target
        mask: (b, z, y, x) int64, 255 is ignored; heatmap: (b, k, z / s, ...) float32.
    valid_mask
        Where the target is annotated, shaped as the target, bool; other voxels are ignored in the loss.
    """

    image: Tensor
    target: Tensor
    valid_mask: Tensor

    def to(self, device: torch.device) -> Batch:
        """Move to a device."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))


class Prefetcher(ABC):
    """A stream that prepares the next batch in a thread.

    Parameters
    ----------
    rank, world
        Number of this process and of all, which take the batches in turn.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self._rank, self._world = rank, world
        self._pool = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Future[Batch]] | None = None

    @abstractmethod
    def make(self, number: int) -> Batch:
        """Draw batch *number* now."""

    def batch(self, number: int) -> Batch:
        """Return batch *number* of this process and start drawing the next."""
        if self._ahead is not None and self._ahead[0] == number:
            batch = self._ahead[1].result()
        else:
            batch = self.make(number * self._world + self._rank)
        following = (number + 1) * self._world + self._rank
        self._ahead = (number + 1, self._pool.submit(self.make, following))
        return batch

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def collate(patches: list[Patch], spec: TargetSpec) -> Batch:
    """Put patches into one batch."""
    dtype = torch.float32 if spec.kind == "heatmap" else torch.int64
    return Batch(
        torch.from_numpy(np.stack([p.image for p in patches])[:, None]),
        torch.from_numpy(np.stack([p.target for p in patches])).to(dtype),
        torch.from_numpy(np.stack([p.valid_mask for p in patches])),
    )


class PatchStream(Prefetcher):
    """Batches of patches out of tomograms.

    A resumed run sees the batches that the interrupted one would have seen.

    Parameters
    ----------
    regions
        Where to cut.
    sampling
        How to cut.
    """

    def __init__(self, regions: list[Region], sampling: SamplingConfig) -> None:
        super().__init__(sampling.rank, sampling.world)
        self.regions, self.sampling = regions, sampling

    def make(self, number: int) -> Batch:
        """Draw batch *number* now."""
        return collate(self.patches(number), self.sampling.spec)

    def patches(self, number: int) -> list[Patch]:
        """The patches of a batch."""
        rng = np.random.default_rng([*self.sampling.seed, number])
        return [self._patch(rng) for _ in range(self.sampling.batch_size)]

    def _patch(self, rng: np.random.Generator) -> Patch:
        patches, size = self.sampling.patches, self.sampling.patch_size
        region, corner = sample_corner(self.regions, patches, size, rng)
        patch = align_tilt_axis(cut(region, corner, size, self.sampling.spec, patches.rim), region.tilt_axis)
        return augment(patch, self.sampling.augment, rng)
