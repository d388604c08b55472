"""Spectral whitening: all tomograms get the same radial amplitude spectrum, which falls slowly.

Microscope, reconstruction and filters multiply the spectrum of a tomogram by an unknown curve, the same for
particles and noise, and a network that was trained under other curves sees an unknown texture. The mean
amplitude over all directions divides the curve out. The missing wedge stays. What lies above the resolution,
such as frequencies that a resampled tomogram cannot hold, becomes 0.

Whitening is known from template matching (Rickgauer, Grigorieff and Denk, eLife 2017), and DeePiCt matches
the spectrum of a tomogram to that of another before a network (de Teresa-Trueba et al., Nature Methods 2023);
one curve for all, in training and search, is ours.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cryovox.core.intensity import Normalization
from cryovox.core.on_access import Float32, Span, VoxelsOnAccess
from cryovox.core.volume import Voxels

FALL = 60.0
"""Length in Å: the amplitude falls as 1 / (1 + FALL f)."""
EDGE = 0.04
"""Width of the edge at the resolution, relative to its frequency."""
COARSE = 1.1
"""Resolution that a tomogram is taken to hold, in units of its Nyquist limit of two voxels."""
SMOOTH = 0.7
"""Standard deviation in shells of a Gaussian that smooths the measured curve."""
TILE, MOST_TILES, CLIP = 64, 27, 6.0
"""Edge of the tiles whose spectra are measured, their number, and the standard deviations at which their gray
values are clipped."""
REACH = 16
"""Voxels around a voxel that its whitened value depends on, on each side."""
BLOCK = (56, 128, 128)
"""Largest blocks of voxels (z, y, x) that are filtered at a time."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Whitening:
    """Gains by frequency.

    Attributes
    ----------
    step
        Frequencies between gains in 1/Å.
    gains : (n,)
        From frequency 0 on; beyond the last one it stays.
    resolution
        In Å; higher frequencies are removed.
    deviation
        Standard deviation of the whitened tomogram, where it was measured.
    """

    step: float
    gains: Floats
    resolution: float
    deviation: float = 1.0

    @classmethod
    def of_power(cls, power: Floats, step: float, resolution: float) -> Whitening:
        """The gains that give a radial power spectrum the reference curve; frequency 0 does not count."""
        log = np.log(np.maximum(power, power.max() * 1e-12))
        log[0] = log[min(1, len(log) - 1)]
        smoothed = ndimage.gaussian_filter1d(log, SMOOTH, mode="nearest")
        return cls(step, np.exp(-smoothed / 2) / (1 + FALL * step * np.arange(len(power))), resolution)

    def at(self, frequencies: Any) -> Floats:
        """Gains at frequencies in 1/Å; 0 at 0."""
        gains = np.interp(frequencies, self.step * np.arange(len(self.gains)), self.gains)
        edge = np.clip((frequencies * self.resolution - 1) / EDGE, -50, 50)
        return np.where(frequencies > 0, gains / (1 + np.exp(edge)), 0.0)


def resolution_of(voxel_size: float, model_voxel_size: float) -> float:
    """Resolution in Å that a tomogram of some voxel size has for a model of another one."""
    return 2 * max(COARSE * voxel_size, model_voxel_size)


def measured(data: Voxels, voxel_size: float, resolution: float) -> Whitening:
    """The whitening of a tomogram, from the mean spectrum of tiles that are spread over it.

    The mean is that of the logarithm, so that single tiles with gold or ice do not decide.

    Parameters
    ----------
    data : (z, y, x)
        Constant tiles do not count; ValueError if all are constant.
    voxel_size, resolution
        In Å.
    """
    tile = tuple(min(TILE, n) for n in data.shape)
    step = 1 / (voxel_size * min(tile))
    shells = np.rint(_frequencies(tile, voxel_size) / step).astype(np.intp).ravel()
    counts = np.bincount(shells)
    windows = [np.hanning(n + 2)[1:-1] for n in tile]
    window = windows[0][:, None, None] * windows[1][:, None] * windows[2]
    sums, variances = [], []
    for corner in _corners(data.shape, tile):
        values = _clipped(np.asarray(data[tuple(slice(a, a + n) for a, n in zip(corner, tile, strict=True))]))
        if (variance := float(values.var())) > 0:
            half = fft.rfftn((values - values.mean()) * (window / np.sqrt(variance)))
            sums.append(np.bincount(shells, (half.real**2 + half.imag**2).ravel()))
            variances.append(variance)
    if not sums:
        raise ValueError("every tile is constant")
    logs = [np.log(one / np.maximum(counts, 1) + 1e-12) for one in sums]
    whitening = Whitening.of_power(np.exp(np.mean(logs, axis=0)), step, resolution)
    kept = np.square(whitening.at(step * np.arange(len(counts))))
    shares = [(one * kept).sum() / one.sum() for one in sums]
    return replace(whitening, deviation=float(np.sqrt(np.mean(np.multiply(variances, shares)))))


class WhitenedVoxels(VoxelsOnAccess):
    """A whitened tomogram, filtered when it is read.

    It is filtered in blocks at fixed places, so that a voxel has the same value however it is read. The last
    blocks are kept, as many as a slab has. Beyond its faces the tomogram is mirrored.

    Parameters
    ----------
    data : (z, y, x)
        May be read on access as well.
    voxel_size
        In Å.
    """

    def __init__(self, data: Voxels, voxel_size: float, whitening: Whitening) -> None:
        z, y, x = data.shape
        super().__init__((z, y, x))
        self._data, self._voxel_size, self._whitening = data, voxel_size, whitening
        self._kept: OrderedDict[tuple[int, ...], Float32] = OrderedDict()
        counts = [-(-n // most) for n, most in zip(self.shape, BLOCK, strict=True)]
        self._edges = tuple(-(-n // count) for n, count in zip(self.shape, counts, strict=True))
        self._of_slab = counts[1] * counts[2]
        self._lock = threading.Lock()

    def box(self, z: Span, y: Span, x: Span) -> Float32:
        spans = (z, y, x)
        out = np.empty([b - a for a, b in spans], np.float32)
        if not out.size:
            return out
        ranges = [range(a // n, -(-b // n)) for (a, b), n in zip(spans, self._edges, strict=True)]
        for place in ((i, j, k) for i in ranges[0] for j in ranges[1] for k in ranges[2]):
            source, target = [], []
            for at, n, (a, b) in zip(place, self._edges, spans, strict=True):
                low, high = max(a, at * n), min(b, (at + 1) * n)
                source.append(slice(low - at * n, high - at * n))
                target.append(slice(low - a, high - a))
            out[tuple(target)] = self._block(place)[tuple(source)]
        return out

    def alike(self, data: Voxels) -> WhitenedVoxels:
        """Other voxels of the same shape, such as those of a half tomogram, with the same gains."""
        return WhitenedVoxels(data, self._voxel_size, self._whitening)

    def normalization(self, sign: int) -> Normalization:
        """Scale of the whitened tomogram, whose mean is 0."""
        return Normalization(0.0, self._whitening.deviation, sign)

    def _block(self, place: tuple[int, ...]) -> Float32:
        with self._lock:
            block = self._kept.get(place)
            if block is None:
                block = self._filtered(place)
                self._kept[place] = block
                if len(self._kept) > self._of_slab:
                    self._kept.popitem(last=False)
            return block

    def _filtered(self, place: tuple[int, ...]) -> Float32:
        """Block at a place, with values of no meaning beyond the faces of the tomogram."""
        parts, margins = [], []
        for at, n, size in zip(place, self._edges, self.shape, strict=True):
            low, high = at * n - REACH, min((at + 1) * n, size) + REACH
            parts.append(slice(max(low, 0), min(high, size)))
            margins.append((max(-low, 0), max(high - size, 0)))
        raw = np.pad(np.asarray(self._data[tuple(parts)], np.float32), margins, mode="reflect")
        filtered = fft.irfftn(fft.rfftn(raw - raw.mean(), s=self._padded) * self._transfer, s=self._padded)
        z, y, x = (slice(REACH, REACH + n) for n in self._edges)
        return np.ascontiguousarray(filtered[z, y, x], np.float32)

    @cached_property
    def _padded(self) -> tuple[int, ...]:
        """Sides of a block with its margin, rounded up to sides that are fast to transform."""
        return tuple(fft.next_fast_len(n + 2 * REACH, real=True) for n in self._edges)

    @cached_property
    def _transfer(self) -> NDArray[np.complex64]:
        """Transfer function on the `rfftn` of a block and its margin, of a kernel that ends at `REACH`."""
        edge = TILE
        shape = (edge, edge, edge)
        kernel = fft.irfftn(self._whitening.at(_frequencies(shape, self._voxel_size)), s=shape)
        away = np.sqrt(sum(np.meshgrid(*[np.square(fft.fftfreq(edge, 1 / edge))] * 3, indexing="ij")))
        taper = np.cos(np.pi / 2 * np.clip(2 * away / REACH - 1, 0, 1)) ** 2
        kernel = kernel * taper
        kernel -= taper * (kernel.sum() / taper.sum())  # a constant tomogram stays 0
        padded = np.zeros(self._padded)
        inner = np.ix_(*[np.arange(-REACH, REACH + 1)] * 3)
        padded[inner] = kernel[inner]
        return fft.rfftn(padded).astype(np.complex64)


def _frequencies(shape: tuple[int, ...], voxel_size: float) -> Float32:
    """Spatial frequencies in 1/Å on the half-space of an `rfftn`."""
    axes = [fft.fftfreq(n, voxel_size) for n in shape[:-1]] + [fft.rfftfreq(shape[-1], voxel_size)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.sqrt(z**2 + y**2 + x**2).astype(np.float32)


def _corners(shape: tuple[int, ...], tile: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Low corners of at most `MOST_TILES` tiles, evenly spread."""
    most = round(MOST_TILES ** (1 / 3))
    counts = [min(most, 2 * n // m) if n > m else 1 for n, m in zip(shape, tile, strict=True)]
    starts = [np.linspace(0, n - m, c).astype(int) for n, m, c in zip(shape, tile, counts, strict=True)]
    return [(int(z), int(y), int(x)) for z in starts[0] for y in starts[1] for x in starts[2]]


def _clipped(values: NDArray[Any]) -> Floats:
    """Values without outliers; exactly constant if they vary by rounding errors only."""
    values = values.astype(float)
    mean, std = values.mean(), values.std()
    if std <= 1e-6 * np.abs(values).max():
        return np.full_like(values, mean)
    return np.clip(values, mean - CLIP * std, mean + CLIP * std)
