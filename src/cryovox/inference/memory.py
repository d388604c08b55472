"""How much memory scoring a volume takes, computed from shapes without running the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cryovox.core.volume import Voxels
from cryovox.formats.scores import CHUNK
from cryovox.inference.stream import TilePlan
from cryovox.inference.tiling import plan
from cryovox.models.supervision import Prediction, predict

SPARE = 64 << 20
"""Bytes for buffers of the libraries, such as those of a few compressed chunks."""
PINNED = 2
"""torch rounds memory that a GPU reaches up to a power of two."""
HEAP = 1.15
"""Resident memory per byte of tensors: allocations leave gaps."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that scoring takes, on top of what the process holds already.

    Attributes
    ----------
    tile
        Network, input and scores, per tile of a batch.
    accumulator
        Sum of the scores of overlapping tiles, which may be on disk.
    slab
        Planes of the volume under a row of tiles, where they cannot be read tile by tile.
    output
        Planes on their way to disk.
    on_device
        What a GPU holds beside tiles: planes of the volume, and sums of scores.
    staging
        In the memory of the machine then: planes on their way to the GPU and from it.
    """

    tile: int
    accumulator: int
    slab: int
    output: int
    on_device: int = 0
    staging: int = 0

    def total(self, batch: int, on_disk: bool = False) -> int:
        """Bytes for tiles in batches of that size."""
        held = 0 if on_disk else self.accumulator
        return round(HEAP * (batch * self.tile + held + self.slab + self.output)) + SPARE

    def beside_gpu(self) -> int:
        """Bytes in the memory of the machine where planes and sums are on a GPU."""
        return round(HEAP * (self.staging + self.output)) + SPARE


def footprint(network: nn.Module, data: Voxels, channels: int, tiles: TilePlan) -> Footprint:
    """Bytes that scoring a volume takes.

    Parameters
    ----------
    network
        In eval mode.
    data : (z, y, x)
        A memory map is read tile by tile, other volumes slab by slab.
    channels
        Species.
    tiles
        Geometry and number of rows.
    """
    z, y, x = (plan(n, tiles.tile, tiles.overlap, tiles.stride) for n in data.shape)
    step = z.starts[1] - z.starts[0] if len(z.starts) > 1 else tiles.tile
    height = tiles.tile + (tiles.rows - 1) * step
    of_tile = 4 * tiles.tile**3
    scores = channels * of_tile // tiles.stride**3
    plane, below = y.out_size * x.out_size, y.size * x.size
    sums = 4 * channels * (height // tiles.stride) * plane
    fresh = step * tiles.rows
    return Footprint(
        tile=tile_bytes(network, tiles) + 2 * of_tile + 2 * len(tiles.flips) * scores,
        accumulator=sums,
        slab=0 if hasattr(data, "_mmap") else height * below * data.dtype.itemsize,
        output=3 * 4 * (step * tiles.rows // tiles.stride) * min(CHUNK[2], y.out_size) * x.out_size,
        on_device=round(1.5 * (sums + 4 * height * below)),  # with copies while planes move on
        staging=4 * (2 * PINNED * channels * (height // tiles.stride) * plane + (2 + PINNED) * fresh * below),
    )


def tile_bytes(network: nn.Module, tiles: TilePlan) -> int:
    """Highest number of bytes of tensors while the network scores one tile."""
    shape = (1, 1, *(tiles.tile,) * 3)
    weights = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shapes = {f"network.{name}": torch.empty_like(value, device="meta") for name, value in weights.items()}
    try:
        return _peak(
            lambda: torch.func.functional_call(Prediction(network), shapes, torch.empty(shape, device="meta"))
        )
    except (RuntimeError, NotImplementedError):  # what it computes depends on values, or on the device
        device = next(network.parameters()).device
        return _peak(lambda: predict(network, torch.zeros(shape, device=device)))


def _peak(run: Callable[[], Any]) -> int:
    tracker = _LiveTensors()
    with torch.no_grad(), tracker:
        run()
    return tracker.peak


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operations create, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self._live = {ref: size for ref, size in self._live.items() if not ref.expired()}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._live[StorageWeakRef(storage)] = storage.nbytes()
        reordered = sum(_bytes(t) for t in (args[0], out)) if "convolution" in str(func) else 0
        self.peak = max(self.peak, sum(self._live.values()) + reordered)
        return out


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
