"""Score a whole tomogram, slab by slab from disk to disk.

Tiles are laid on a regular grid, so the sum of their blending weights is a product of three short
vectors and no count map is kept. Finished planes leave as soon as no further tile touches them. Pages of
files that were read or written are dropped after every batch, so that they do not count as memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cryovox.core.intensity import Normalization
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Voxels, release_pages
from cryovox.inference.backoff import Backoff
from cryovox.inference.convolutions import OneDnnConvolutions
from cryovox.inference.tiling import Axis, plan
from cryovox.models.supervision import predict

Sink = Callable[[int, NDArray[np.float32]], None]
"""Takes the first output plane and a block (k, n, y, x) of scores, which is overwritten after the call.
Blocks come in order of z."""
Place = tuple[int, int, int]


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


def stream(
    network: nn.Module,
    data: Voxels,
    normalize: Normalization,
    tiles: TilePlan,
    sink: Sink,
    on_progress: ProgressCallback = no_progress,
    region: SearchMask | None = None,
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
    """
    z, y, x = (plan(n, tiles.tile, tiles.overlap, tiles.stride) for n in data.shape)
    selected = tile_places((z, y, x), region)
    total, done = len(selected), 0
    run, sums = Backoff(partial(score, network, tiles=tiles), tiles.batch), _Sums((z, y, x), tiles)
    for row in range(0, len(z.starts), tiles.rows):
        starts = z.starts[row : row + tiles.rows]
        places = [place for place in selected if starts[0] <= place[0] <= starts[-1]]
        slab = _Slab(data, z, starts, normalize) if places else None
        for chunk in _chunks(places, tiles.batch):
            assert slab is not None
            images = np.stack([slab.tile(place, y, x) for place in chunk])
            for place, values in zip(chunk, run(torch.from_numpy(images[:, None])), strict=True):
                sums.add(place, values)
            release_pages(data)
            done += len(chunk)
            on_progress("tiles", done / total, f"{done} of {total} tiles")
        last = row + tiles.rows >= len(z.starts)
        sums.finish(z.out_size if last else max(0, z.starts[row + tiles.rows] // tiles.stride), sink)


def tile_places(axes: tuple[Axis, Axis, Axis], region: SearchMask | None = None) -> list[Place]:
    """First voxels (z, y, x) of the tiles that are scored, in order."""
    z, y, x = axes
    lattice = [(zs, ys, xs) for zs in z.starts for ys in y.starts for xs in x.starts]
    return [place for place in lattice if region is None or region.touches(place, z.tile)]


def score(network: nn.Module, images: Tensor, tiles: TilePlan) -> NDArray[np.float32]:
    """Scores of a batch of tiles, species only, averaged over the views.

    Parameters
    ----------
    images : (b, 1, z, y, x)
        Normalized.

    Returns
    -------
    (b, k, z / stride, y / stride, x / stride) float32
    """
    device = next(network.parameters()).device
    precision = torch.autocast(device.type, torch.bfloat16, enabled=tiles.bf16)
    with torch.inference_mode(), precision, OneDnnConvolutions():
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
    return mean.float().cpu().numpy()


def activate(logits: Tensor, activation: str) -> Tensor:
    """Scores of the species from logits (b, c, z, y, x), without the background of a softmax."""
    if activation == "softmax":
        return logits.float().softmax(1)[:, 1:]
    return logits.float().sigmoid()


class _Sums:
    """Weighted sums of the scores of overlapping tiles, for the planes that further tiles may touch.

    Parameters
    ----------
    axes
        Tiles along z, y and x.
    tiles
        Rows of tiles held at once, and the folder of the sums if they are not to be in memory.
    """

    def __init__(self, axes: tuple[Axis, Axis, Axis], tiles: TilePlan) -> None:
        z, y, x = axes
        step = z.starts[1] - z.starts[0] if len(z.starts) > 1 else 0
        self.axes, self.folder = axes, tiles.scratch
        self.shape = (tiles.tile + (tiles.rows - 1) * step) // tiles.stride, y.out_size, x.out_size
        self.window = z.window()[:, None, None] * y.window()[None, :, None] * x.window()[None, None, :]
        self.norm_z = z.total()
        self.norm_yx: NDArray[np.float32] = y.total()[:, None] * x.total()[None, :]
        self.first = 0  # output plane at planes[:, 0]
        self.planes: NDArray[np.float32] | None = None

    def add(self, place: Place, values: NDArray[np.float32]) -> None:
        """Add the scores (k, z, y, x) of a tile, which are overwritten."""
        if self.planes is None:
            self.planes = _zeros((len(values), *self.shape), self.folder)
        np.multiply(values, self.window, out=values)
        (iz, oz), (iy, oy), (ix, ox) = (a.overlap(start) for a, start in zip(self.axes, place, strict=True))
        self.planes[:, oz.start - self.first : oz.stop - self.first, oy, ox] += values[:, iz, iy, ix]
        release_pages(self.planes)

    def finish(self, upto: int, sink: Sink) -> None:
        """Pass the planes before *upto* on, as means, and make place for others."""
        ready = upto - self.first
        if self.planes is None:
            self.first = max(self.first, upto)
            return
        if ready <= 0:
            return
        for channel in self.planes:
            channel[:ready] /= self.norm_z[self.first : upto, None, None]
            channel[:ready] /= self.norm_yx
            release_pages(self.planes)
        sink(self.first, self.planes[:, :ready])
        for channel in self.planes:
            _shift(channel, ready)
        self.first = upto


def _zeros(shape: tuple[int, ...], folder: Path | None) -> NDArray[np.float32]:
    """An array of zeros, in memory or in a file of a folder that vanishes with it."""
    if folder is None:
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


def _shift(planes: NDArray[np.float32], by: int) -> None:
    """Move planes down, plane by plane and so without a copy, and clear those that become free."""
    kept = len(planes) - by
    for i in range(len(planes)):
        planes[i] = planes[i + by] if i < kept else 0
        release_pages(planes)


class _Slab:
    """The raw planes under some rows of tiles; only ever a tile is normalized.

    Parameters
    ----------
    data : (z, y, x)
        The volume.
    z
        Its tiles along z.
    starts
        Those of the rows.
    """

    def __init__(self, data: Voxels, z: Axis, starts: tuple[int, ...], normalize: Normalization) -> None:
        self.base, self.z, self.normalize = max(0, starts[0]), z, normalize
        self.raw = np.asarray(data[self.base : z.inside(starts[-1])[1].stop])

    def tile(self, place: Place, y: Axis, x: Axis) -> NDArray[np.float32]:
        """A tile (z, y, x), normalized; 0, the mean of the volume, beyond its faces."""
        parts = [axis.inside(start) for axis, start in zip((self.z, y, x), place, strict=True)]
        inner, (z, *yx) = tuple(i for i, _ in parts), (o for _, o in parts)
        box = self.normalize(self.raw[(slice(z.start - self.base, z.stop - self.base), *yx)])
        if box.shape == (self.z.tile,) * 3:
            return box
        tile = np.zeros((self.z.tile,) * 3, np.float32)
        tile[inner] = box
        return tile


def _chunks(places: list[Place], size: int) -> Iterator[list[Place]]:
    for i in range(0, len(places), size):
        yield places[i : i + size]
