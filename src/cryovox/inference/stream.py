"""Score a whole tomogram, slab by slab from disk to disk.

Tiles are laid on a regular grid, so the sum of their blending weights is a product of three short
vectors and no count map is kept. Finished planes leave as soon as no further tile touches them. Pages of
files that were read or written are dropped after every batch, so that they do not count as memory. On a GPU
the sums stay there, and reading and writing go on in threads while it computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cryovox.core.intensity import Normalization
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Voxels
from cryovox.inference.backoff import Backoff, is_out_of_memory
from cryovox.inference.convolutions import OneDnnConvolutions
from cryovox.inference.held import (
    Axes,
    DeviceSums,
    HostSums,
    Place,
    Planes,
    Rows,
    Sink,
    StoredOverlaps,
    Sums,
    device_planes,
    host_planes,
)
from cryovox.inference.tiling import Axis, plan
from cryovox.models.supervision import predict


@dataclass(frozen=True)
class TilePlan:
    """Tiling of a model (tile, overlap, stride, activation) and of a machine (batch, rows)."""

    tile: int
    overlap: float
    stride: int
    activation: str
    batch: int = 4
    rows: int = 1
    """Rows of tiles held at once: the height of a slab. Changes memory use, never the result."""
    flips: tuple[tuple[int, ...], ...] = ((),)
    """Test-time augmentation: axes to flip, for each view to average."""
    tilt_axis: Literal["y", "x"] = "y"
    """Networks expect tilts about y: tiles of a tilt about x are rotated by 90°, and scores back."""
    bf16: bool = False
    """Compute in bfloat16 where torch's autocast does so."""
    scratch: Path | None = None
    """Folder for the sums of the scores of overlapping tiles, where memory is too small for them."""
    on_host: bool = False
    """Keep sums and planes of the volume in the memory of the machine, where a GPU has too little."""


@dataclass(frozen=True, eq=False)
class SearchMask:
    """Region in which scores are computed.

    Attributes
    ----------
    mask : (z, y, x)
        True inside.
    margin
        Distance in voxels around it within which scores are as without a mask.
    """

    mask: NDArray[np.bool_]
    margin: int = 0

    def touches(self, place: Place, tile: int) -> bool:
        """Whether a tile that starts at *place* overlaps the region."""
        around = tuple(slice(max(0, s - self.margin), s + tile + self.margin) for s in place)
        return bool(np.any(self.mask[around]))


def stream(  # noqa: PLR0913 (what is scored, how, and where it goes)
    network: nn.Module,
    data: Voxels,
    normalize: Normalization,
    tiles: TilePlan,
    sink: Sink,
    on_progress: ProgressCallback = no_progress,
    region: SearchMask | None = None,
    part: tuple[int, int] | None = None,
    overlaps: StoredOverlaps | None = None,
) -> None:
    """Score a volume and pass finished planes to *sink*.

    Parameters
    ----------
    network
        In eval mode, on its device.
    data : (z, y, x)
        Raw gray values; only slabs of it are read.
    normalize
        From raw values to network input.
    tiles
        Geometry and batch.
    sink
        Receives the scores, species only, shape (k, n, y / stride, x / stride).
    on_progress
        Called with "tiles" and the fraction of tiles done.
    region
        Tiles that do not overlap it are skipped and score 0; planes before the first tile that does are not
        passed on.
    part
        First output plane to pass on and the one after the last; all by default. Scores of a part are those
        of the whole to the bit: all tiles that touch it are scored, in the same batches and order.
    overlaps
        Keeps, for each slab, the sums of the planes that the next one overlaps. A part that begins where
        an interrupted run has stored them needs no tile of the slab before.
    """
    axes = _axes(data.shape, tiles)
    part = part or (0, axes[0].out_size)
    stored = None if overlaps is None else overlaps.load(part[0])
    groups, first = _of_part(_groups(axes, tiles, region), axes[0], part, stored is not None)
    sink, device = _limited(sink, *part), next(network.parameters()).device
    planes = _planes(data, axes, groups, normalize, None if tiles.on_host else device)
    run = Backoff(partial(score_on_device, network, tiles=tiles), tiles.batch)
    sums = None if stored is None else _restored(stored, axes, tiles, first, device)
    total, done = sum(len(rows.places) for rows in groups), 0
    try:
        for rows in groups:
            held = next(planes) if rows.places else None
            for chunk in _chunks(rows.places, tiles.batch):
                assert held is not None
                scored = chain.from_iterable(run(held.tiles(chunk)))
                for place, values in zip(chunk, scored, strict=True):
                    sums = sums or _sums(axes, tiles, len(values), first, values.device)
                    sums.add(place, values)
                done += len(chunk)
                on_progress("tiles", done / total, f"{done} of {total} tiles")
            if sums is not None:
                if overlaps is not None and rows.ready < part[1]:
                    overlaps.store(rows.ready, sums.overlap(rows.ready, rows.end(axes[0])))
                sums.finish(rows.ready, sink)
            first = rows.ready
    finally:
        if sums is not None:
            sums.close()


def _axes(shape: tuple[int, ...], tiles: TilePlan) -> Axes:
    z, y, x = (plan(n, tiles.tile, tiles.overlap, tiles.stride) for n in shape)
    return z, y, x


def _groups(axes: Axes, tiles: TilePlan, region: SearchMask | None) -> list[Rows]:
    """Rows of tiles that are held at once, from the first plane to the last."""
    z, selected, groups = axes[0], tile_places(axes, region), []
    for row in range(0, len(z.starts), tiles.rows):
        starts = z.starts[row : row + tiles.rows]
        places = tuple(place for place in selected if starts[0] <= place[0] <= starts[-1])
        last = row + tiles.rows >= len(z.starts)
        ready = z.out_size if last else max(0, z.starts[row + tiles.rows] // tiles.stride)
        groups.append(Rows(starts, places, ready))
    return groups


def _of_part(
    groups: list[Rows], z: Axis, part: tuple[int, int], is_continued: bool
) -> tuple[list[Rows], int]:
    """Rows with tiles that touch some output planes, and the first plane whose scores they sum.

    Where the sums of earlier rows are stored, those are left out.
    """
    low, high = part
    own = [rows for rows in groups if rows.end(z) > low and z.overlap(rows.starts[0])[1].start < high]
    if is_continued:
        return [rows for rows in own if rows.ready > low], low
    return own, max(0, own[0].starts[0] // z.stride) if own else 0


def _limited(sink: Sink, low: int, high: int) -> Sink:
    """A sink that receives the planes from *low* to *high* alone."""

    def limited(first: int, block: NDArray[np.float32]) -> None:
        start, stop = max(first, low), min(first + block.shape[1], high)
        if start < stop:
            sink(start, block[:, start - first : stop - first])

    return limited


def _planes(
    data: Voxels, axes: Axes, groups: list[Rows], normalize: Normalization, device: torch.device | None
) -> Iterator[Planes]:
    """Planes under each group with tiles; on the GPU if there is one with enough memory."""
    groups, given = [rows for rows in groups if rows.places], 0
    if groups and device is not None and device.type != "cpu":
        try:
            for planes in device_planes(data, axes, groups, normalize, device):
                given += 1
                yield planes
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    yield from host_planes(data, axes, groups[given:], normalize)


def _sums(axes: Axes, tiles: TilePlan, channels: int, first: int, device: torch.device) -> Sums:
    """Sums of scores, on the device if it has enough memory."""
    if device.type != "cpu" and not tiles.on_host and tiles.scratch is None:
        try:
            return DeviceSums(axes, tiles.rows, channels, first, device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    return HostSums(axes, tiles.rows, channels, first, tiles.scratch)


def _restored(
    stored: NDArray[np.float32], axes: Axes, tiles: TilePlan, first: int, device: torch.device
) -> Sums:
    """Sums that begin with those of an interrupted run."""
    sums = _sums(axes, tiles, len(stored), first, device)
    sums.restore(stored)
    return sums


def tile_places(axes: Axes, region: SearchMask | None = None) -> list[Place]:
    """First voxels (z, y, x) of the tiles that are scored, in order."""
    z, y, x = axes
    lattice = [(zs, ys, xs) for zs in z.starts for ys in y.starts for xs in x.starts]
    return [place for place in lattice if region is None or region.touches(place, z.tile)]


def score(network: nn.Module, images: Tensor, tiles: TilePlan) -> NDArray[np.float32]:
    """Scores of :func:`score_on_device` as an array."""
    return score_on_device(network, images, tiles).float().cpu().numpy()


def score_on_device(network: nn.Module, images: Tensor, tiles: TilePlan) -> Tensor:
    """Scores of a batch of tiles, species only, averaged over the views.

    Parameters
    ----------
    images : (b, 1, z, y, x)
        Normalized.

    Returns
    -------
    (b, k, z / stride, y / stride, x / stride) float32
        On the device of the network.
    """
    device = next(network.parameters()).device
    precision = torch.autocast(device.type, torch.bfloat16, enabled=tiles.bf16)
    is_compiled = getattr(network, "is_compiled", False)
    single = OneDnnConvolutions() if len(images) == 1 and not is_compiled else nullcontext()
    with torch.inference_mode(), precision, single:
        images = images.to(device)
        if tiles.tilt_axis == "x":
            images = torch.rot90(images, dims=(-2, -1))
        views = [
            torch.flip(activate(predict(network, torch.flip(images, axes)), tiles.activation), axes)
            for axes in tiles.flips
        ]
        mean = views[0] if len(views) == 1 else torch.stack(views).mean(0)
        if tiles.tilt_axis == "x":
            mean = torch.rot90(mean, -1, dims=(-2, -1))
    return mean


def activate(logits: Tensor, activation: str) -> Tensor:
    """Scores of the species from logits (b, c, z, y, x), without the background of a softmax."""
    if activation == "softmax":
        return logits.float().softmax(1)[:, 1:]
    return logits.float().sigmoid()


def _chunks(places: Sequence[Place], size: int) -> Iterator[Sequence[Place]]:
    for i in range(0, len(places), size):
        yield places[i : i + size]
