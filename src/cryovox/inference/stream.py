"""Score a whole tomogram, slab by slab from disk to disk.

Tiles are laid on a regular grid, so the sum of their blending weights is a product of three short
vectors and no count map is kept. Finished planes leave as soon as no further tile touches them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cryovox.core.intensity import Normalization
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Voxels
from cryovox.inference.convolutions import OneDnnConvolutions
from cryovox.inference.tiling import Axis, plan
from cryovox.models.supervision import predict

Sink = Callable[[int, NDArray[np.float32]], None]
"""Takes the first output plane and a block (k, n, y, x) of scores, which is overwritten after the call.
Blocks come in order of z."""


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

    def touches(self, place: tuple[int, int, int], tile: int) -> bool:
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
    norm_yx: NDArray[np.float32] = y.total()[:, None] * x.total()[None, :]
    norm_z = z.total()
    window = _window(z, y, x)
    lattice = [(zs, ys, xs) for zs in z.starts for ys in y.starts for xs in x.starts]
    selected = [place for place in lattice if region is None or region.touches(place, tiles.tile)]
    total, done = len(selected), 0
    buffer: NDArray[np.float32] | None = None
    first = 0  # output plane at buffer[:, 0]
    for row in range(0, len(z.starts), tiles.rows):
        starts = z.starts[row : row + tiles.rows]
        places = [place for place in selected if starts[0] <= place[0] <= starts[-1]]
        slab = _Slab(data, z, starts, normalize) if places else None
        for chunk in _chunks(places, tiles.batch):
            assert slab is not None
            images = np.stack([slab.tile(place, y, x) for place in chunk])
            scores = score(network, torch.from_numpy(images[:, None]), tiles)
            if buffer is None:
                height = (tiles.tile + (tiles.rows - 1) * _step(z)) // tiles.stride
                buffer = np.zeros((scores.shape[1], height, y.out_size, x.out_size), np.float32)
            for place, values in zip(chunk, scores, strict=True):
                _add(buffer, first, (z, y, x), place, np.multiply(values, window, out=values))
            done += len(chunk)
            on_progress("tiles", done / total, f"{done} of {total} tiles")
        last = row + tiles.rows >= len(z.starts)
        upto = z.out_size if last else max(0, z.starts[row + tiles.rows] // tiles.stride)
        ready = upto - first
        if buffer is None:
            first = max(first, upto)
        elif ready > 0:
            for channel in buffer:
                channel[:ready] /= norm_z[first:upto, None, None]
                channel[:ready] /= norm_yx
            sink(first, buffer[:, :ready])
            for channel in buffer:
                _shift(channel, ready)
            first = upto


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


def _window(z: Axis, y: Axis, x: Axis) -> NDArray[np.float32]:
    return z.window()[:, None, None] * y.window()[None, :, None] * x.window()[None, None, :]


def _step(axis: Axis) -> int:
    return axis.starts[1] - axis.starts[0] if len(axis.starts) > 1 else 0


def _shift(planes: NDArray[np.float32], by: int) -> None:
    """Move planes down, plane by plane and so without a copy, and clear those that become free."""
    kept = len(planes) - by
    for i in range(kept):
        planes[i] = planes[i + by]
    planes[kept:] = 0


class _Slab:
    """The raw planes under some rows of tiles; what is mirrored or normalized is only ever a tile.

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
        planes = z.indices(starts[0], starts[-1] + z.tile - starts[0])
        self.base, self.z, self.normalize = int(planes.min()), z, normalize
        self.raw = np.asarray(data[self.base : int(planes.max()) + 1])

    def tile(self, place: tuple[int, int, int], y: Axis, x: Axis) -> NDArray[np.float32]:
        """A tile (z, y, x), normalized; mirrored where it reaches beyond the volume."""
        box = self.raw
        for dim, (axis, start) in enumerate(zip((self.z, y, x), place, strict=True)):
            base = self.base if dim == 0 else 0
            inside = start >= 0 and start + axis.tile <= axis.size
            part = slice(start - base, start + axis.tile - base) if inside else axis.indices(start) - base
            box = box[(slice(None),) * dim + (part,)]
        return self.normalize(box)


def _chunks(places: list[tuple[int, int, int]], size: int) -> Iterator[list[tuple[int, int, int]]]:
    for i in range(0, len(places), size):
        yield places[i : i + size]


def _add(
    buffer: NDArray[np.float32],
    first: int,
    axes: tuple[Axis, Axis, Axis],
    place: tuple[int, int, int],
    values: NDArray[np.float32],
) -> None:
    (iz, oz), (iy, oy), (ix, ox) = (axis.overlap(start) for axis, start in zip(axes, place, strict=True))
    buffer[:, oz.start - first : oz.stop - first, oy, ox] += values[:, iz, iy, ix]
