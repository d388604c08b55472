"""How far a tomogram lies from those that a model knows, from its spectrum alone.

A network that was adapted to some tomograms is at home among those that look like them. What a
tomogram looks like is put into a few numbers, the fingerprint; the distance between two fingerprints is
told in units of how much the pieces of one tomogram differ among themselves. The measure is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import fft

from cryovox.core.config import Config

BINS = 24
"""Of the frequency, up to Nyquist (0.5 cycles per voxel)."""
LEAST_SPREAD = 0.02
"""Least spread of a bin: 5 % of the amplitude. Simulated pieces can be alike to less than that."""
LEAST_LIMIT = 2.0
"""Distance within which a tomogram is always at home."""


class Fingerprint(Config):
    """What the pieces of a tomogram have in common, each z-scored by itself."""

    spectrum: list[float] = Field(min_length=BINS, max_length=BINS)
    """Mean over the pieces of the decimal logarithm of the root mean squared amplitude in 24 equal bins
    of the frequency up to Nyquist; 0 everywhere for white noise."""
    spread: list[float] = Field(min_length=BINS, max_length=BINS)
    """Standard deviation over the pieces, in each bin."""
    skewness: float
    """Mean over the pieces of that of their grey values."""
    kurtosis: float
    """... and of their excess kurtosis."""
    cubes: int = Field(ge=1)
    """Pieces that were measured."""
    voxel_size: float = Field(gt=0)
    """Å. Frequencies are in cycles per voxel all the same, as a network sees them."""


class Domain(Config):
    """What a model was adapted to."""

    fingerprint: Fingerprint
    """Of all its tomograms together."""
    tomograms: list[dict[str, str]] = Field(default_factory=list)
    """Their `name` and `sha256`."""
    limit: float = Field(LEAST_LIMIT, gt=0)
    """Distance from the fingerprint up to which a tomogram is like them."""


def fingerprint(cubes: NDArray[Any], voxel_size: float) -> Fingerprint:
    """Measure pieces of a tomogram.

    Parameters
    ----------
    cubes : (n, z, y, x)
        Those that are constant or not finite are left out; ValueError where none is left.
    voxel_size
        In Å.
    """
    if cubes.ndim != 4:
        raise ValueError(f"cubes are (n, z, y, x), got {cubes.shape}")
    good = [_standardised(cube) for cube in cubes if _varied(cube)]
    if not good:
        raise ValueError("every cube is constant or not finite")
    curves = np.log10([radial_amplitude(cube) for cube in good])
    return Fingerprint(
        spectrum=curves.mean(axis=0).tolist(),
        spread=curves.std(axis=0).tolist(),
        skewness=float(np.mean([(cube**3).mean() for cube in good])),
        kurtosis=float(np.mean([(cube**4).mean() for cube in good])) - 3,
        cubes=len(good),
        voxel_size=voxel_size,
    )


def fingerprint_of(
    data: Any,
    normalise: Callable[[NDArray[Any]], NDArray[np.float32]],
    voxel_size: float,
    side: int = 32,
    count: int = 64,
    seed: int = 0,
) -> Fingerprint:
    """Measure a volume from cubes spread evenly over it.

    Parameters
    ----------
    data : (z, y, x)
        May be a memory map; only the cubes are read.
    normalise
        From raw grey values to what a network sees; its sign decides that of the skewness.
    """
    return fingerprint(draw(data, normalise, side, count, seed), voxel_size)


def draw(
    data: Any,
    normalise: Callable[[NDArray[Any]], NDArray[np.float32]],
    side: int = 32,
    count: int = 64,
    seed: int = 0,
) -> NDArray[np.float32]:
    """About *count* cubes of a volume: one at random in every cell of a grid that fills it.

    Returns
    -------
    (n, side, side, side)
        In the order of z, y, x; shorter along an axis that has fewer voxels.
    """
    sides = [min(side, n) for n in data.shape]
    room = np.array([n - s for n, s in zip(data.shape, sides, strict=True)])
    rng = np.random.default_rng(seed)
    cells = _cells(room + side, count)
    cubes = []
    for cell in np.ndindex(*cells):
        corner = ((np.array(cell) + rng.random(3)) / cells * (room + 1)).astype(int)
        z, y, x = (slice(a, a + s) for a, s in zip(corner.tolist(), sides, strict=True))
        cubes.append(normalise(np.asarray(data[z, y, x])))
    return np.stack(cubes)


def distance(a: Fingerprint, b: Fingerprint) -> float:
    """How far two fingerprints lie apart, in units of the spread within a tomogram.

    Root of the mean over the bins of the squared difference of the spectra (decimal logarithms of
    amplitude), each difference divided by the pooled spread of its bin, ``sqrt((s_a^2 + s_b^2) / 2)``, but
    by no less than 0.02. Two halves of one tomogram lie about 1 or less apart.
    """
    apart = np.subtract(a.spectrum, b.spectrum)
    pooled = np.sqrt((np.square(a.spread) + np.square(b.spread)) / 2)
    return float(np.sqrt(np.mean(np.square(apart / np.maximum(pooled, LEAST_SPREAD)))))


def limit(tomograms: Sequence[NDArray[Any]], voxel_size: float) -> float:
    """Distance up to which a tomogram is at home among those given.

    The largest between any two halves of them, and at least 2.

    Parameters
    ----------
    tomograms
        Cubes (n, z, y, x) of each, in the order of :func:`draw`: its halves are the first and the last.
    """
    halves = [half for cubes in tomograms for half in np.array_split(cubes, 2) if len(half)]
    measured = [fingerprint(half, voxel_size) for half in halves if any(map(_varied, half))]
    return max([LEAST_LIMIT, *(distance(a, b) for a, b in combinations(measured, 2))])


def radial_amplitude(cube: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean squared amplitude of a cube (z, y, x) in each bin; 1 for unit white noise.

    The edges are tapered (Hann); bins between the frequencies of a small cube are interpolated.
    """
    window, which, counts = _grid(cube.shape)
    piece = (cube - np.average(cube, weights=window)) * window
    found = fft.rfftn(piece)
    power = np.bincount(which, (found.real**2 + found.imag**2).ravel(), BINS + 1)[:BINS]
    filled = np.flatnonzero(counts)
    mean = power[filled] / counts[filled] / np.square(window).sum()
    return np.sqrt(np.maximum(np.interp(np.arange(BINS), filled, mean), 1e-12))


@lru_cache(maxsize=4)
def _grid(
    shape: tuple[int, int, int],
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Taper of a cube, and the bin of each of its frequencies with how many there are in each.

    What lies beyond Nyquist has a bin of its own, the last; the mean (frequency 0) is counted there too.
    """
    z, y, x = (np.hanning(n + 2)[1:-1] for n in shape)
    kz, ky, kx = fft.fftfreq(shape[0]), fft.fftfreq(shape[1]), fft.rfftfreq(shape[2])
    k = np.sqrt(kz[:, None, None] ** 2 + ky[:, None] ** 2 + kx**2).ravel()
    which = np.minimum((k * 2 * BINS).astype(np.intp), BINS)
    which[k == 0] = BINS
    return z[:, None, None] * y[:, None] * x, which, np.bincount(which, minlength=BINS + 1)[:BINS]


def _cells(extent: NDArray[Any], count: int) -> tuple[int, int, int]:
    """Cells along each axis, as near to cubes as can be, about *count* in all."""
    edge = (np.prod(extent.astype(float)) / count) ** (1 / 3)
    z, y, x = (max(1, round(n / edge)) for n in extent.tolist())
    return z, y, x


def _varied(cube: NDArray[Any]) -> bool:
    """Whether a cube is finite and not constant, rounding errors apart."""
    values = np.asarray(cube, np.float64)
    return bool(np.isfinite(values).all() and values.std() > 1e-6 * max(abs(values).max(), 1e-30))


def _standardised(cube: NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(cube, np.float64)
    return (values - values.mean()) / values.std()
