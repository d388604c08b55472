"""Distance of a tomogram from the domain of a model, computed from power spectra.

A network that was adapted to some tomograms works on tomograms that look like them. The appearance of a
tomogram is summarized in a few numbers, its fingerprint. The distance between two fingerprints is in units of
the variation among cubes of one tomogram. The measure is ours.
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
"""Frequency bins, up to Nyquist (0.5 cycles per voxel)."""
MIN_SPREAD = 0.02
"""Minimum spread of a bin: 5 % of the amplitude. Simulated cubes can differ by less than that."""
MIN_LIMIT = 2.0
"""Distance within which a tomogram always belongs to the domain."""


class Fingerprint(Config):
    """Statistics of the cubes of a tomogram, each z-scored by itself."""

    spectrum: list[float] = Field(min_length=BINS, max_length=BINS)
    """Mean over the cubes of the decimal logarithm of the root mean squared amplitude in 24 equal frequency
    bins up to Nyquist; 0 everywhere for white noise."""
    spread: list[float] = Field(min_length=BINS, max_length=BINS)
    """Standard deviation over the cubes, in each bin."""
    skewness: float
    """Mean over the cubes of the skewness of their gray values."""
    kurtosis: float
    """Mean over the cubes of the excess kurtosis of their gray values."""
    cubes: int = Field(ge=1)
    """Number of cubes."""
    voxel_size: float = Field(gt=0)
    """Voxel size in Å. Frequencies are in cycles per voxel, as for a network."""


class Domain(Config):
    """Tomograms to which a model was adapted."""

    fingerprint: Fingerprint
    """Fingerprint of all tomograms together."""
    tomograms: list[dict[str, str]] = Field(default_factory=list)
    """`name` and `sha256` of the tomograms."""
    limit: float = Field(MIN_LIMIT, gt=0)
    """Maximum distance from the fingerprint within the domain."""


def fingerprint(cubes: NDArray[Any], voxel_size: float) -> Fingerprint:
    """Compute the fingerprint of cubes of a tomogram.

    Parameters
    ----------
    cubes : (n, z, y, x)
        Cubes that are constant or not finite are ignored; ValueError if none remains.
    voxel_size
        In Å.
    """
    if cubes.ndim != 4:
        raise ValueError(f"cubes are (n, z, y, x), got {cubes.shape}")
    standardized = [_standardized(cube) for cube in cubes if _is_usable(cube)]
    if not standardized:
        raise ValueError("every cube is constant or not finite")
    curves = np.log10([radial_amplitude(cube) for cube in standardized])
    return Fingerprint(
        spectrum=curves.mean(axis=0).tolist(),
        spread=curves.std(axis=0).tolist(),
        skewness=float(np.mean([(cube**3).mean() for cube in standardized])),
        kurtosis=float(np.mean([(cube**4).mean() for cube in standardized])) - 3,
        cubes=len(standardized),
        voxel_size=voxel_size,
    )


def fingerprint_of(
    data: Any,
    normalize: Callable[[NDArray[Any]], NDArray[np.float32]],
    voxel_size: float,
    cube_size: int = 32,
    count: int = 64,
    seed: int = 0,
) -> Fingerprint:
    """Compute the fingerprint of a volume from cubes spread evenly over it.

    Parameters
    ----------
    data : (z, y, x)
        May be a memory map; only the cubes are read.
    normalize
        Function from raw gray values to the input of a network; its sign determines that of the skewness.
    """
    return fingerprint(sample_cubes(data, normalize, cube_size, count, seed), voxel_size)


def sample_cubes(
    data: Any,
    normalize: Callable[[NDArray[Any]], NDArray[np.float32]],
    cube_size: int = 32,
    count: int = 64,
    seed: int = 0,
) -> NDArray[np.float32]:
    """About *count* cubes of a volume: one at a random position in every cell of a grid that fills it.

    Returns
    -------
    (n, cube_size, cube_size, cube_size)
        In the order of z, y, x; shorter along an axis with fewer voxels.
    """
    sizes = [min(cube_size, n) for n in data.shape]
    room = np.array([n - s for n, s in zip(data.shape, sizes, strict=True)])
    rng = np.random.default_rng(seed)
    cells = _cells(room + cube_size, count)
    cubes = []
    for cell in np.ndindex(*cells):
        corner = ((np.array(cell) + rng.random(3)) / cells * (room + 1)).astype(int)
        z, y, x = (slice(a, a + s) for a, s in zip(corner.tolist(), sizes, strict=True))
        cubes.append(normalize(np.asarray(data[z, y, x])))
    return np.stack(cubes)


def distance(a: Fingerprint, b: Fingerprint) -> float:
    """Distance between two fingerprints, in units of the spread within a tomogram.

    Root of the mean over the bins of the squared difference of the spectra (decimal logarithms of
    amplitude), each difference divided by the pooled spread of its bin, ``sqrt((s_a^2 + s_b^2) / 2)``, of at
    least 0.02. The distance between two halves of one tomogram is about 1 or less.
    """
    difference = np.subtract(a.spectrum, b.spectrum)
    pooled = np.sqrt((np.square(a.spread) + np.square(b.spread)) / 2)
    return float(np.sqrt(np.mean(np.square(difference / np.maximum(pooled, MIN_SPREAD)))))


def limit(tomograms: Sequence[NDArray[Any]], voxel_size: float) -> float:
    """Distance within which a tomogram belongs to the same domain as some tomograms.

    It is the largest distance between any two halves of them, and at least 2.

    Parameters
    ----------
    tomograms
        Cubes (n, z, y, x) of each, in the order of :func:`sample_cubes`; their halves are the first and last.
    """
    halves = [half for cubes in tomograms for half in np.array_split(cubes, 2) if len(half)]
    fingerprints = [fingerprint(half, voxel_size) for half in halves if any(map(_is_usable, half))]
    return max([MIN_LIMIT, *(distance(a, b) for a, b in combinations(fingerprints, 2))])


def radial_amplitude(cube: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean squared amplitude of a cube (z, y, x) in each bin; 1 for unit white noise.

    The edges are tapered (Hann); bins between the frequencies of a small cube are interpolated.
    """
    window, bins, counts = _grid(cube.shape)
    tapered = (cube - np.average(cube, weights=window)) * window
    transform = fft.rfftn(tapered)
    power = np.bincount(bins, (transform.real**2 + transform.imag**2).ravel(), BINS + 1)[:BINS]
    filled = np.flatnonzero(counts)
    mean = power[filled] / counts[filled] / np.square(window).sum()
    return np.sqrt(np.maximum(np.interp(np.arange(BINS), filled, mean), 1e-12))


@lru_cache(maxsize=4)
def _grid(
    shape: tuple[int, int, int],
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Taper of a cube, the bin of each of its frequencies, and the number of frequencies in each bin.

    Frequencies beyond Nyquist, and the mean (frequency 0), are in the last bin.
    """
    z, y, x = (np.hanning(n + 2)[1:-1] for n in shape)
    kz, ky, kx = fft.fftfreq(shape[0]), fft.fftfreq(shape[1]), fft.rfftfreq(shape[2])
    k = np.sqrt(kz[:, None, None] ** 2 + ky[:, None] ** 2 + kx**2).ravel()
    bins = np.minimum((k * 2 * BINS).astype(np.intp), BINS)
    bins[k == 0] = BINS
    return z[:, None, None] * y[:, None] * x, bins, np.bincount(bins, minlength=BINS + 1)[:BINS]


def _cells(extent: NDArray[Any], count: int) -> tuple[int, int, int]:
    """Number of cells along each axis: nearly cubic cells, about *count* in total."""
    edge = (np.prod(extent.astype(float)) / count) ** (1 / 3)
    z, y, x = (max(1, round(n / edge)) for n in extent.tolist())
    return z, y, x


def _is_usable(cube: NDArray[Any]) -> bool:
    """Whether a cube is finite and not constant, except for rounding errors."""
    values = np.asarray(cube, np.float64)
    return bool(np.isfinite(values).all() and values.std() > 1e-6 * max(abs(values).max(), 1e-30))


def _standardized(cube: NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(cube, np.float64)
    return (values - values.mean()) / values.std()
