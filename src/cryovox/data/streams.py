"""Endless batches; batch number n is the same whenever and wherever it is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cryovox.data.augment import augment
from cryovox.data.config import AugmentConfig, PatchConfig
from cryovox.data.patches import Patch, TargetSpec, cut, draw_corner, upright
from cryovox.data.regions import Region


class Batch(NamedTuple):
    """What a strategy is given; a tuple, since Fabric looks for tensors inside it.

    Attributes
    ----------
    image : (b, 1, z, y, x) float32
    target
        mask: (b, z, y, x) int64 with 255 for unknown; heatmap: (b, k, z / s, ...) float32.
    known
        Where the target is to be believed, shaped as the target, bool.
    """

    image: Tensor
    target: Tensor
    valid_mask: Tensor

    def to(self, device: torch.device) -> Batch:
        """Move to a device."""
        return Batch(
            self.image.to(device, non_blocking=True),
            self.target.to(device, non_blocking=True),
            self.valid_mask.to(device, non_blocking=True),
        )


class Prefetcher(ABC):
    """Batches that are prepared one ahead in a thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Future[Batch]] | None = None

    @abstractmethod
    def make(self, number: int) -> Batch:
        """Draw batch *number* now."""

    def batch(self, number: int) -> Batch:
        """Give batch *number* and start on the next."""
        if self._ahead is not None and self._ahead[0] == number:
            ready = self._ahead[1].result()
        else:
            ready = self.make(number)
        self._ahead = (number + 1, self._pool.submit(self.make, number + 1))
        return ready

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def collate(patches: list[Patch], spec: TargetSpec) -> Batch:
    """Put patches into one batch."""
    kind = torch.float32 if spec.kind == "heatmap" else torch.int64
    return Batch(
        torch.from_numpy(np.stack([p.image for p in patches])[:, None]),
        torch.from_numpy(np.stack([p.target for p in patches])).to(kind),
        torch.from_numpy(np.stack([p.valid_mask for p in patches])),
    )


class PatchStream(Prefetcher):
    """Batches of patches out of tomograms.

    Parameters
    ----------
    sources
        Where to cut.
    spec
        What the network answers.
    side
        Edge of a patch in voxels.
    batch
        Patches per batch.
    seed
        Batch n depends on this, on n and on the rank alone, so that a resumed run sees the
        batches that the interrupted one would have seen.
    """

    def __init__(
        self,
        sources: list[Region],
        spec: TargetSpec,
        patch_size: int,
        batch: int,
        patches: PatchConfig,
        varied: AugmentConfig,
        seed: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.sources, self.spec, self.patch_size, self.size = sources, spec, patch_size, batch
        self.patches, self.varied, self.seed = patches, varied, seed

    def make(self, number: int) -> Batch:
        """Draw batch *number* now."""
        rng = np.random.default_rng([*self.seed, number])
        return collate([self._one(rng) for _ in range(self.size)], self.spec)

    def _one(self, rng: np.random.Generator) -> Patch:
        source, corner = draw_corner(self.sources, self.patches, self.patch_size, rng)
        patch = upright(cut(source, corner, self.patch_size, self.spec, self.patches.rim), source.tilt_axis)
        return augment(patch, self.varied, rng)
