"""What is held of a tomogram while it is scored: planes under some rows of tiles, and sums of scores."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryovox.core.intensity import Normalization
from cryovox.core.volume import Voxels, release_pages
from cryovox.inference.tiling import Axis

Sink = Callable[[int, NDArray[np.float32]], None]
"""Takes the first output plane and a block (k, n, y, x) of scores, which is overwritten after the call.
Blocks come in order of z."""
Place = tuple[int, int, int]
Axes = tuple[Axis, Axis, Axis]


@dataclass(frozen=True)
class Rows:
    """Some rows of tiles.

    Attributes
    ----------
    starts
        First voxels along z.
    places
        First voxels (z, y, x) of the tiles to score.
    ready
        Output planes before this one are complete after them.
    """

    starts: tuple[int, ...]
    places: tuple[Place, ...]
    ready: int

    def planes(self, z: Axis) -> tuple[int, int]:
        """First plane of the volume under the tiles, and the one after the last."""
        return max(0, self.starts[0]), z.inside(self.starts[-1])[1].stop

    def end(self, z: Axis) -> int:
        """Output plane after the last that the tiles touch."""
        return z.overlap(self.starts[-1])[1].stop


class Planes(Protocol):
    """Planes of the volume under some rows of tiles."""

    def tiles(self, places: Sequence[Place]) -> Tensor:
        """Tiles (b, 1, z, y, x), normalized; 0, the mean of the volume, beyond its faces."""
        ...


class Sums(Protocol):
    """Weighted sums of the scores of overlapping tiles, for the planes that further tiles may touch."""

    def add(self, place: Place, values: Tensor) -> None:
        """Add the scores (k, z, y, x) of a tile, which may be overwritten."""
        ...

    def overlap(self, start: int, stop: int) -> NDArray[np.float32]:
        """Sums (k, n, y, x) of the planes from *start* to *stop*, to which further tiles are added."""
        ...

    def restore(self, overlap: NDArray[np.float32]) -> None:
        """Begin with such sums, as those of the first planes."""
        ...

    def finish(self, upto: int, sink: Sink) -> None:
        """Pass the planes before *upto* on, as means, and make place for others."""
        ...

    def close(self) -> None:
        """Wait until everything is passed on."""
        ...


class StoredOverlaps(Protocol):
    """Where the sums of planes that further tiles touch are kept, so that a run can continue from them."""

    def load(self, plane: int) -> NDArray[np.float32] | None:
        """Sums (k, n, y, x) from this output plane on; None where there are none."""
        ...

    def store(self, plane: int, sums: NDArray[np.float32]) -> None:
        """Keep sums until the planes before this one are recorded and a later one has its own."""
        ...


class _Held:
    """Geometry of the sums.

    Parameters
    ----------
    axes
        Tiles along z, y and x.
    rows
        Rows of tiles held at once.
    channels
        Species.
    first
        First output plane.
    """

    def __init__(self, axes: Axes, rows: int, channels: int, first: int) -> None:
        z, y, x = axes
        step = z.starts[1] - z.starts[0] if len(z.starts) > 1 else 0
        self.axes, self.first = axes, first
        self.shape = channels, (z.tile + (rows - 1) * step) // z.stride, y.out_size, x.out_size
        self.window = z.window()[:, None, None] * y.window()[None, :, None] * x.window()[None, None, :]
        self.norm_z = z.total()
        self.norm_yx: NDArray[np.float32] = y.total()[:, None] * x.total()[None, :]

    def parts(self, place: Place) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Part of a tile that lies in the volume, and its place among the planes."""
        (iz, oz), (iy, oy), (ix, ox) = (a.overlap(start) for a, start in zip(self.axes, place, strict=True))
        return (iz, iy, ix), (slice(oz.start - self.first, oz.stop - self.first), oy, ox)


class HostSums(_Held):
    """Sums in the memory of the machine, or in a file.

    Parameters
    ----------
    axes, rows, channels, first
        As of `_Held`.
    folder
        For the sums if they are not to be in memory.
    """

    def __init__(self, axes: Axes, rows: int, channels: int, first: int, folder: Path | None) -> None:
        super().__init__(axes, rows, channels, first)
        self.planes = _zeros(self.shape, folder)

    def add(self, place: Place, values: Tensor) -> None:
        scores = values.float().cpu().numpy()
        np.multiply(scores, self.window, out=scores)
        inner, (z, y, x) = self.parts(place)
        self.planes[:, z, y, x] += scores[(slice(None), *inner)]
        release_pages(self.planes)

    def overlap(self, start: int, stop: int) -> NDArray[np.float32]:
        return self.planes[:, start - self.first : stop - self.first]

    def restore(self, overlap: NDArray[np.float32]) -> None:
        self.planes[:, : overlap.shape[1]] = overlap

    def finish(self, upto: int, sink: Sink) -> None:
        ready = upto - self.first
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

    def close(self) -> None:
        """Nothing is left to pass on."""


class DeviceSums(_Held):
    """Sums on a GPU. Finished planes are copied and passed on in a thread, while further tiles are scored.

    Parameters
    ----------
    axes, rows, channels, first
        As of `_Held`.
    device
        The GPU.
    """

    def __init__(self, axes: Axes, rows: int, channels: int, first: int, device: torch.device) -> None:
        super().__init__(axes, rows, channels, first)
        self.planes = torch.zeros(self.shape, device=device)
        self.weights = torch.from_numpy(self.window).to(device)
        self.scale_z = torch.from_numpy(1 / self.norm_z).to(device)
        self.scale_yx = torch.from_numpy(1 / self.norm_yx).to(device)
        self.pool = ThreadPoolExecutor(1)
        self.passing: Future[None] | None = None

    def add(self, place: Place, values: Tensor) -> None:
        inner, (z, y, x) = self.parts(place)
        self.planes[:, z, y, x] += values.float()[(slice(None), *inner)] * self.weights[inner]

    def overlap(self, start: int, stop: int) -> NDArray[np.float32]:
        return self.planes[:, start - self.first : stop - self.first].cpu().numpy()

    def restore(self, overlap: NDArray[np.float32]) -> None:
        self.planes[:, : overlap.shape[1]] = torch.from_numpy(overlap)

    def finish(self, upto: int, sink: Sink) -> None:
        ready, first = upto - self.first, self.first
        if ready <= 0:
            return
        block = _pinned((len(self.planes), ready, *self.shape[2:]), self.planes.device)
        for target, channel in zip(block, self.planes, strict=True):
            scaled = channel[:ready] * self.scale_z[first:upto, None, None] * self.scale_yx
            target.copy_(scaled, non_blocking=True)
            kept = channel[ready:].clone()
            channel[: len(kept)] = kept
            channel[len(kept) :] = 0
        copied = _reached(self.planes.device)
        self._wait()  # at most one block waits
        self.passing = self.pool.submit(self._pass, copied, first, block, sink)
        self.first = upto

    @staticmethod
    def _pass(copied: Callable[[], None], first: int, block: Tensor, sink: Sink) -> None:
        copied()
        sink(first, block.numpy())

    def _wait(self) -> None:
        passing, self.passing = self.passing, None
        if passing is not None:
            passing.result()

    def close(self) -> None:
        try:
            self._wait()
        finally:
            self.pool.shutdown()


def _pinned(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Memory of the machine to which a GPU copies by itself."""
    return torch.empty(shape, pin_memory=device.type == "cuda")


def _reached(device: torch.device) -> Callable[[], None]:
    """Function that waits until the GPU has done what was asked of it so far."""
    if device.type != "cuda":
        return lambda: None
    event = torch.cuda.Event()
    event.record()
    wait: Callable[[], None] = event.synchronize
    return wait


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


class HostPlanes:
    """Raw planes in the memory of the machine; only ever a tile is normalized.

    Parameters
    ----------
    data : (z, y, x)
        The volume.
    axes
        Tiles along z, y and x.
    rows
        The rows of tiles.
    normalize
        From raw values to network input.
    """

    def __init__(self, data: Voxels, axes: Axes, rows: Rows, normalize: Normalization) -> None:
        self.axes, self.normalize, self.data = axes, normalize, data
        self.base, stop = rows.planes(axes[0])
        self.raw: Voxels = data
        if hasattr(data, "_mmap"):  # read tile by tile
            self.base = 0
        else:
            self.raw = np.asarray(data[self.base : stop])

    def tiles(self, places: Sequence[Place]) -> Tensor:
        images = torch.zeros(len(places), 1, *(self.axes[0].tile,) * 3)
        for image, place in zip(images[:, 0].numpy(), places, strict=True):
            inner, (z, y, x) = _inside(self.axes, place)
            image[inner] = self.normalize(self.raw[z.start - self.base : z.stop - self.base, y, x])
        release_pages(self.data)
        return images


class DevicePlanes:
    """Normalized planes on a GPU.

    Parameters
    ----------
    planes : (z, y, x)
        On the GPU.
    base
        Plane of the volume that comes first.
    axes
        Tiles along z, y and x.
    """

    def __init__(self, planes: Tensor, base: int, axes: Axes) -> None:
        self.planes, self.base, self.axes = planes, base, axes

    def tiles(self, places: Sequence[Place]) -> Tensor:
        images = self.planes.new_zeros(len(places), 1, *(self.axes[0].tile,) * 3)
        for image, place in zip(images[:, 0], places, strict=True):
            inner, (z, y, x) = _inside(self.axes, place)
            image[inner] = self.planes[z.start - self.base : z.stop - self.base, y, x]
        return images


def host_planes(
    data: Voxels, axes: Axes, groups: Sequence[Rows], normalize: Normalization
) -> Iterator[HostPlanes]:
    """Planes under each group of rows, read when they are asked for."""
    for rows in groups:
        yield HostPlanes(data, axes, rows, normalize)


def device_planes(
    data: Voxels, axes: Axes, groups: Sequence[Rows], normalize: Normalization, device: torch.device
) -> Iterator[DevicePlanes]:
    """The same on a GPU: what the next group needs is read and normalized in a thread meanwhile.

    Each gives its place to the next.
    """
    spans = [rows.planes(axes[0]) for rows in groups]
    unread, end = [], 0
    for first, stop in spans:
        unread.append((max(first, min(end, stop)), stop))
        end = max(end, stop)

    def read(span: tuple[int, int]) -> Tensor:
        planes = torch.from_numpy(np.ascontiguousarray(normalize(data[span[0] : span[1]])))
        release_pages(data)
        return planes.pin_memory() if device.type == "cuda" else planes

    height = max(stop - first for first, stop in spans)
    buffer, base = torch.empty(height, *data.shape[1:], device=device), 0
    for (first, _), (new, stop), planes in zip(spans, unread, _ahead(read, unread), strict=True):
        if new > first:
            buffer[: new - first] = buffer[first - base : new - base].clone()
        buffer[new - first : stop - first].copy_(planes, non_blocking=True)
        base = first
        yield DevicePlanes(buffer, base, axes)


def _ahead(read: Callable[[Any], Tensor], spans: Sequence[Any]) -> Iterator[Tensor]:
    """Results of a function, in order; the next one is computed in a thread."""
    with ThreadPoolExecutor(1) as pool:
        pending: Future[Tensor] | None = None
        for span, following in zip(spans, [*spans[1:], None], strict=True):
            planes = (pending or pool.submit(read, span)).result()
            pending = None if following is None else pool.submit(read, following)
            yield planes


def _inside(axes: Axes, place: Place) -> tuple[tuple[slice, ...], tuple[slice, slice, slice]]:
    """Part of a tile that lies in the volume: slices of the tile, and of the volume."""
    parts = [axis.inside(start) for axis, start in zip(axes, place, strict=True)]
    (_, z), (_, y), (_, x) = parts
    return tuple(inner for inner, _ in parts), (z, y, x)
