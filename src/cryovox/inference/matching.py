"""Template matching: masked, locally normalized cross-correlation over a grid of rotations.

The score at a voxel is the Pearson correlation of the tomogram with the rotated template under a spherical
mask (Roseman, Acta Cryst. D56 (2000) 1332; Ultramicroscopy 94 (2003) 225), computed with Fourier transforms.
The template has the missing wedge, the CTF and the filters of the tomogram. Large tomograms are searched in
blocks that overlap by the template, so scores do not depend on the blocks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryovox.core.intensity import Normalization
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.unfinished import NO_PARTS, Arrays, UnfinishedParts
from cryovox.core.volume import Voxels
from cryovox.inference.correlation import AXES, Block, block_image, correlate, local_std, plan_blocks
from cryovox.inference.membranes import AxisCone
from cryovox.inference.search_template import SearchTemplate

MIN_VARIANCE = 1e-6
"""Local variance, relative to that of the tomogram, below which the score is 0: empty regions."""
BLOCK_VOXELS = 1 << 24
"""Voxels of a block with its margins; about 30 bytes are held for each."""
STORE_SECONDS = 30.0
"""Seconds of search after which the state of a block is stored."""
BATCH_VOXELS = {"cpu": 1 << 19, "cuda": 1 << 27, "mps": 1 << 25}
"""Voxels transformed at once, for several rotations of small blocks. On a CPU they stay in its caches."""


def match(  # noqa: PLR0913 (settings of a search)
    data: Voxels,
    normalize: Normalization,
    template: SearchTemplate,
    rotations: NDArray[np.float64],
    *,
    mask: NDArray[np.bool_] | None = None,
    cone: AxisCone | None = None,
    floor: float = 0.0,
    block_voxels: int = BLOCK_VOXELS,
    device: str = "cpu",
    parts: UnfinishedParts = NO_PARTS,
    on_progress: ProgressCallback = no_progress,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Search a tomogram for a template.

    Parameters
    ----------
    data : (z, y, x)
        Raw gray values, read block by block; 0 in normalized values continues the tomogram beyond its faces.
    normalize
        To mean 0, standard deviation 1, bright particles.
    rotations : (r, 3, 3)
        Active, reference to tomogram, acting on (x, y, z) columns.
    mask : (z, y, x) or None
        Blocks whose voxels are all false, and their neighbors too, are skipped and score 0.
    cone
        Directions of the z axis of the template that are allowed at each voxel; where none is, the score
        is 0.
    floor
        Added to the local standard deviation by which the covariance is divided, in units of that of the
        tomogram. 0 gives the correlation coefficient; with 1, places of low contrast score low.
    block_voxels
        Maximum number of voxels of a Fourier transform. Changes memory and speed, not the result.
    parts
        Blocks of an interrupted search, which continue where they were stored.

    Returns
    -------
    scores : (z, y, x) float32
        Highest correlation coefficient over the rotations, -1 to 1.
    best : (z, y, x) int32
        Index of its rotation.
    """
    z, y, x = data.shape
    scores, best = np.zeros((z, y, x), np.float32), np.zeros((z, y, x), np.int32)
    blocks = searched_blocks((z, y, x), template, mask, block_voxels)
    for number, block in enumerate(blocks):
        part_of_cone = None if cone is None else cone.within(block.inner)
        search = BlockSearch(data, normalize, template, block, device, part_of_cone)
        for done in _continued(search, rotations, parts, (0, len(rotations))):
            part = (number + done / len(rotations)) / len(blocks)
            on_progress("rotations", part, f"block {number + 1} of {len(blocks)}")
        scores[block.inner], best[block.inner] = search.result(floor)
    return scores, best


def match_share(  # noqa: PLR0913 (settings of a search)
    data: Voxels,
    normalize: Normalization,
    template: SearchTemplate,
    rotations: NDArray[np.float64],
    parts: UnfinishedParts,
    share: tuple[int, int],
    *,
    mask: NDArray[np.bool_] | None = None,
    cone: AxisCone | None = None,
    block_voxels: int = BLOCK_VOXELS,
    device: str = "cpu",
) -> None:
    """Search every block with a share of the rotations, and keep what is best in *parts*.

    A call of :func:`match` with these parts then gives the result of one without, to the bit.

    Parameters
    ----------
    share
        Number of the share, and of shares.
    """
    z, y, x = data.shape
    for block in searched_blocks((z, y, x), template, mask, block_voxels):
        part_of_cone = None if cone is None else cone.within(block.inner)
        search = BlockSearch(data, normalize, template, block, device, part_of_cone)
        batches = -(-len(rotations) // search.batch)
        low, high = (
            min(len(rotations), search.batch * (batches * i // share[1])) for i in (share[0], share[0] + 1)
        )
        for _ in _continued(search, rotations, parts, (low, high)):
            pass


def searched_blocks(
    shape: tuple[int, int, int],
    template: SearchTemplate,
    mask: NDArray[np.bool_] | None = None,
    block_voxels: int = BLOCK_VOXELS,
) -> list[Block]:
    """Blocks of a tomogram (z, y, x); parameters as of :func:`match`."""
    # a filter spreads gray values beyond the faces, so that both sides need their margins
    wraps = template.whitening is None
    blocks = plan_blocks(shape, template.margin, block_voxels, wraps=wraps)
    return [block for block in blocks if mask is None or mask[block.around(1)].any()]


def _continued(
    search: BlockSearch, rotations: NDArray[np.float64], parts: UnfinishedParts, span: tuple[int, int]
) -> Iterator[int]:
    """Search a block with a span of the rotations, and store its state from time to time.

    Spans that are stored already, by this process or by others, are merged. Yields rotations done.
    """
    name = "block-" + "-".join(map(str, (*search.block.start, *search.block.size)))
    starts = sorted(int(one.rpartition("-")[2]) for one in parts.names(f"{name}-"))
    done, stored = span[0], time.monotonic()
    while done < span[1]:
        if (known := parts.load(f"{name}-{done}")) is not None:
            done = search.merge(known)
            yield min(done, span[1])
            continue
        stop = min([start for start in starts if start > done], default=span[1])
        for done in search.run(rotations, done, min(stop, span[1])):  # noqa: B020
            if done == span[1] or time.monotonic() - stored > STORE_SECONDS:
                parts.store(f"{name}-{span[0]}", search.state(done))
                stored = time.monotonic()
            yield done


class BlockSearch:
    """Search of one block: its transform, and the best rotation of each voxel so far."""

    def __init__(
        self,
        data: Voxels,
        normalize: Normalization,
        template: SearchTemplate,
        block: Block,
        device: str,
        cone: AxisCone | None = None,
    ) -> None:
        self.cosine = None if cone is None else cone.cosine
        self.normals = None if cone is None else torch.from_numpy(cone.normals).to(device)
        self.template, self.block, self.device = template, block, device
        image = block_image(data, normalize, template, block, device)
        std = local_std(image, template.mask)[tuple(slice(0, n) for n in block.size)]
        self.std = std.cpu().numpy()
        first = [template.mask.shape[0] // 2 if lead == 0 else 0 for lead in block.lead]
        image = image[tuple(slice(n, None) for n in first)]
        self.spectrum = torch.fft.rfftn(image, s=block.fft, dim=AXES)
        self.best = torch.full(block.size, -torch.inf, device=device)
        self.index = torch.zeros(block.size, dtype=torch.int32, device=device)

    def state(self, done: int) -> Arrays:
        """Best rotations of each voxel after so many."""
        best, index = self.best.cpu().numpy(), self.index.cpu().numpy()
        return {"best": best, "index": index, "done": np.array(done)}

    def merge(self, state: Arrays) -> int:
        """Add what later rotations gave; returns the number of rotations done."""
        values = torch.from_numpy(state["best"]).to(self.device)
        index = torch.from_numpy(state["index"]).to(self.device)
        better = values > self.best
        self.index[better] = index[better]
        torch.maximum(self.best, values, out=self.best)
        return int(state["done"])

    @property
    def batch(self) -> int:
        """Rotations that are searched at once."""
        return max(1, BATCH_VOXELS[torch.device(self.device).type] // prod(self.block.fft))

    def run(self, rotations: NDArray[np.float64], start: int = 0, stop: int | None = None) -> Iterator[int]:
        """Search the rotations from *start* to *stop*, a batch at a time; yields the number of those done."""
        batch, stop = self.batch, len(rotations) if stop is None else stop
        with torch.inference_mode():
            # in one copy, so that no batch waits for a transfer
            matrices = torch.as_tensor(rotations, dtype=torch.float32, device=self.device)
            for first in range(start, stop, batch):
                kernels = self.template.rotated(matrices[first : min(first + batch, stop)], self.device)
                for number, values in enumerate(correlate(self.spectrum, kernels, self.block), first):
                    if self.normals is not None:
                        values.masked_fill_(~self._allows(matrices[number]), -torch.inf)
                    self._keep(values, number)
                yield min(first + batch, stop)

    def _keep(self, values: Tensor, number: int) -> None:
        """Update the best score and rotation of each voxel."""
        if self.device == "cpu":  # NumPy takes a quarter of the time here
            new, best = values.numpy(), self.best.numpy()
            np.copyto(self.index.numpy(), np.int32(number), where=new > best)
            np.maximum(best, new, out=best)
            return
        self.index.masked_fill_(values > self.best, number)
        torch.maximum(self.best, values, out=self.best)

    def _allows(self, rotation: Tensor) -> Tensor:
        """Voxels whose cone holds the z axis of the template."""
        assert self.normals is not None
        x, y, z = rotation[:, 2]
        return (self.normals[0] * x + self.normals[1] * y + self.normals[2] * z).abs() >= self.cosine

    def result(self, floor: float = 0.0) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scores and indices of the rotations; *floor* as of :func:`match`."""
        is_empty = (self.std**2 < MIN_VARIANCE) | torch.isneginf(self.best).cpu().numpy()
        scores = self.best.cpu().numpy() / np.where(is_empty, 1.0, self.std + floor)
        return np.where(is_empty, 0.0, scores).astype(np.float32), self.index.cpu().numpy()
