"""Power spectra of tomograms on a cylindrical grid of nodes, independent of the size of the volume.

With tilts about y, transfer and noise depend on the distance from the tilt axis (kz, kx) and on the angle
around it, and smoothly on the frequency ky along it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, signal, sparse

Floats = NDArray[np.float64]
Shape = tuple[int, int, int]

KY_NODES = 0.5 * np.linspace(0, 1, 12) ** 1.6
"""Nodes of abs(ky) in cycles per voxel, denser at low frequencies."""
RADIUS_NODES = np.sqrt(0.5) * np.linspace(0, 1, 18) ** 1.6
"""Nodes of the distance from the tilt axis, sqrt(kz^2 + kx^2)."""
ANGLE_NODES = np.arange(-90.0, 90.0, 5.0)
"""Nodes of the tilt atan(kz / kx) in degrees, periodic: 90 equals -90."""
SHELLS = 32
TILE = 128  # maximum tile size in voxels
MAX_TILES = 12  # tiles of a large tomogram, evenly spaced
POWER_FLOOR = 1e-8  # minimum power relative to the mean
RING_WIDTH = 0.15  # half width of a ring of nodes in the logarithm of the frequency
MAX_RING_RATIO = 1.2  # maximum power of a node relative to the median of its ring


@dataclass(frozen=True, eq=False)
class SpectralGrid:
    """Linear interpolation between a half-spectrum and the nodes.

    Attributes
    ----------
    along : (y, len(KY_NODES))
        Weights of the nodes of abs(ky) for every ky.
    plane : (z * x, len(RADIUS_NODES) * len(ANGLE_NODES)) sparse
        Weights of the nodes of radius and angle for every (kz, kx).
    """

    along: Floats
    plane: Any

    def accumulate(self, power: NDArray[Any]) -> tuple[Floats, Floats]:
        """Weighted sums of (z, y, x) values on the nodes, and the sums of the weights."""
        z, _, x = power.shape
        sums = np.zeros((len(KY_NODES), z, x))
        for i in range(z):
            sums[:, i] = self.along.T @ power[i]
        weight = np.outer(self.along.sum(axis=0), np.asarray(self.plane.sum(axis=0)).ravel())
        spread = (self.plane.T @ sums.reshape(len(KY_NODES), z * x).T).T
        return spread.reshape(SHAPE), weight.reshape(SHAPE)

    def interpolate(self, values: Floats, shape: Shape) -> NDArray[np.float32]:
        """Interpolate (ky, radius, angle) node values at every frequency of a half-spectrum."""
        z, x = shape[0], shape[2] // 2 + 1
        plane = (self.plane @ values.reshape(len(KY_NODES), -1).T).astype(np.float32)
        along = self.along.astype(np.float32)
        out = np.empty((z, shape[1], x), np.float32)
        for i in range(z):
            out[i] = along @ plane[i * x : (i + 1) * x].T
        return out


SHAPE = (len(KY_NODES), len(RADIUS_NODES), len(ANGLE_NODES))


@lru_cache(maxsize=4)
def spectral_grid(shape: Shape) -> SpectralGrid:
    """Interpolation weights for volumes of *shape* (z, y, x)."""
    kz, kx = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[2])[None, :]
    around = _linear_weights(RADIUS_NODES, np.hypot(kz, kx).ravel())
    position = (np.degrees(np.arctan2(kz, kx)).ravel() - ANGLE_NODES[0]) / (ANGLE_NODES[1] - ANGLE_NODES[0])
    low = np.floor(position).astype(int)
    rows = np.arange(position.size)
    lower = sparse.csr_matrix(
        (1 - (position - low), (rows, low % len(ANGLE_NODES))), (position.size, len(ANGLE_NODES))
    )
    upper = sparse.csr_matrix(
        (position - low, (rows, (low + 1) % len(ANGLE_NODES))), (position.size, len(ANGLE_NODES))
    )
    plane = _row_products(around, lower + upper)
    return SpectralGrid(_linear_weights(KY_NODES, np.abs(fft.fftfreq(shape[1]))).toarray(), plane)


def power_spectrum(data: NDArray[Any], voxels: int = TILE) -> Floats:
    """Power spectrum on the nodes in squared units of *data*; white noise of variance v has power v.

    Parameters
    ----------
    data : (z, y, x)
        Cut into tiles of at most *voxels* along each side, which are tapered (Tukey, half flat); their
        spectra are averaged (Welch 1967, doi 10.1109/TAU.1967.1161901).

    Returns
    -------
    (KY_NODES, RADIUS_NODES, ANGLE_NODES) float64
        Positive; nodes with few samples are regularized toward their neighbors.
    """
    total, weight = np.zeros(SHAPE), np.zeros(SHAPE)
    for tile in _overlapping_tiles(data, voxels):
        sums, weights = spectral_grid(tile.shape).accumulate(periodogram(tile))
        total, weight = total + sums, weight + weights
    return _regularized_mean(total, weight)


def robust_power_spectrum(data: NDArray[Any], voxels: int = TILE) -> Floats:
    """`power_spectrum` without the ridges of single large objects.

    Disordered matter has about the same power in all directions around the beam. A flat membrane has all
    of its power along its normal, and Gaussian noise of such a spectrum would show streaks. Therefore no
    node on a ring of equal frequency and tilt keeps more than `MAX_RING_RATIO` times the median of the
    ring; lower values, as in the missing wedge, are kept.
    """
    log = np.log(power_spectrum(data, voxels)).reshape(len(KY_NODES) * len(RADIUS_NODES), len(ANGLE_NODES))
    rings = _rings()
    trend = np.array([np.median(log[ring]) for ring in rings])[:, None]
    flat = log - trend
    middle = np.array([np.median(flat[ring], axis=0) for ring in rings])
    return np.exp(np.minimum(flat, middle + np.log(MAX_RING_RATIO)) + trend).reshape(SHAPE)


@lru_cache(maxsize=1)
def _rings() -> NDArray[np.bool_]:
    """Pairs of nodes (|ky|, radius) of about the same frequency."""
    k = np.log(np.maximum(np.hypot(KY_NODES[:, None], RADIUS_NODES).ravel(), RADIUS_NODES[1]))
    return np.abs(k[:, None] - k) < RING_WIDTH


def periodogram(tile: NDArray[Any]) -> NDArray[np.float32]:
    """Power spectrum of one tapered volume; white noise of variance v has power v."""
    taper = [signal.windows.tukey(n + 2, 0.5)[1:-1].astype(np.float32) for n in tile.shape]
    window = taper[0][:, None, None] * taper[1][:, None] * taper[2]
    piece = np.asarray(tile, dtype=np.float32)
    piece = (piece - np.average(piece, weights=window)).astype(np.float32) * window
    spectrum = fft.rfftn(piece, overwrite_x=True)
    squares = spectrum.real**2 + spectrum.imag**2
    return squares / np.float32(np.square(window, dtype=np.float64).sum())


def amplitude_filter(values: Floats, shape: Shape) -> NDArray[np.float32]:
    """Square root of the node values on the half-spectrum of a volume, by log-linear interpolation."""
    return np.exp(0.5 * spectral_grid(shape).interpolate(np.log(np.maximum(values, 1e-30)), shape))


def radial_power(data: NDArray[Any], shells: int = SHELLS) -> Floats:
    """Mean power (shells,) in equal shells up to 0.5 cycles per voxel, in squared units of *data*.

    Tiles and taper are those of `power_spectrum`.
    """
    sums, counts = np.zeros(shells + 1), np.zeros(shells + 1)
    for tile in _overlapping_tiles(data, TILE):
        power = periodogram(tile)
        for squares, plane in _kz_planes(tile.shape, power):
            index = np.minimum((np.sqrt(squares) * 2 * shells).astype(int), shells).ravel()
            sums += np.bincount(index, plane.ravel(), shells + 1)
            counts += np.bincount(index, minlength=shells + 1)
    floor = POWER_FLOOR * sums.sum() / max(counts.sum(), 1) + 1e-30
    return np.maximum(sums / np.maximum(counts, 1), floor)[:shells]


def radial_frequency(shells: int = SHELLS) -> Floats:
    """Central frequency of each shell of `radial_power` in cycles per voxel."""
    return (np.arange(shells) + 0.5) / (2 * shells)


def radial_filter(values: Floats, shape: Shape) -> NDArray[np.float32]:
    """Square root of the shell values on the half-spectrum of a volume."""
    amplitude = np.sqrt(np.maximum(values, 0)).astype(np.float32)
    at = radial_frequency(len(values))
    out = np.empty((shape[0], shape[1], shape[2] // 2 + 1), np.float32)
    for squares, plane in _kz_planes(shape, out):
        plane[:] = np.interp(np.sqrt(squares), at, amplitude)
    return out


def spectrum_rmse(a: NDArray[Any], b: NDArray[Any], *, tilt_axis: bool = False) -> float:
    """Root mean square difference of the log power spectra of two z-scored tomograms.

    Both have the same voxel size. The mean is over 32 shells of the frequency, or with *tilt_axis* over
    all nodes up to 0.5 cycles per voxel. Frequencies below two cycles per shortest side are left out.
    """
    floor = 2.0 / min(min(a.shape), min(b.shape))
    if tilt_axis:
        k = np.hypot(KY_NODES[:, None], RADIUS_NODES[None, :])
        use = np.broadcast_to(((k >= floor) & (k <= 0.5) & (floor < RADIUS_NODES))[:, :, None], SHAPE)
        first, second = (power_spectrum(z_score(v)) for v in (a, b))
    else:
        use = radial_frequency() >= floor
        first, second = (radial_power(z_score(v)) for v in (a, b))
    return float(np.sqrt(np.mean(np.log(first[use] / second[use]) ** 2)))


def z_score(data: NDArray[Any]) -> NDArray[np.float32]:
    """Zero mean and unit standard deviation; values that are not finite become 0."""
    values = np.asarray(data, dtype=np.float32)
    finite = np.isfinite(values)
    good = values if finite.all() else values[finite]
    if good.size == 0:
        return np.zeros(values.shape, np.float32)
    mean, std = float(good.mean(dtype=np.float64)), float(good.std(dtype=np.float64))
    scaled = (values - np.float32(mean)) / np.float32(max(std, 1e-30))
    return scaled if finite.all() else np.where(finite, scaled, 0).astype(np.float32)


def frequencies(shape: tuple[int, ...]) -> tuple[Floats, Floats, Floats]:
    """kz, ky, kx of the half-spectrum in cycles per voxel, for broadcasting."""
    z, y, x = shape
    return fft.fftfreq(z)[:, None, None], fft.fftfreq(y)[None, :, None], fft.rfftfreq(x)[None, None, :]


def _kz_planes(shape: Shape, volume: NDArray[Any]) -> Iterator[tuple[Floats, NDArray[Any]]]:
    """Squared frequencies of each kz plane of a half-spectrum, and the plane of *volume*."""
    kz, ky, kx = frequencies(shape)
    across = ky[0] ** 2 + kx[0] ** 2
    for i in range(shape[0]):
        yield across + kz[i, 0, 0] ** 2, volume[i]


def _overlapping_tiles(data: NDArray[Any], side: int) -> Iterator[NDArray[Any]]:
    """Tiles of at most *side* voxels along each axis with 50 % overlap; at most `MAX_TILES` of them."""
    starts = []
    for n in data.shape:
        pieces = 1 if n <= side else int(np.ceil(2 * n / side)) - 1
        starts.append(np.linspace(0, max(0, n - side), pieces).astype(int))
    corners = list(itertools.product(*starts))
    for i in np.unique(np.linspace(0, len(corners) - 1, MAX_TILES).astype(int)):
        z, y, x = (slice(a, a + side) for a in corners[i])
        yield data[z, y, x]


def _linear_weights(at: Floats, values: Floats) -> Any:
    """Weights of linear interpolation between the nodes *at*, one row per value."""
    values = np.clip(values, at[0], at[-1])
    low = np.clip(np.searchsorted(at, values, side="right") - 1, 0, len(at) - 2)
    part = (values - at[low]) / (at[low + 1] - at[low])
    rows = np.arange(values.size)
    ends = (np.concatenate([rows, rows]), np.concatenate([low, low + 1]))
    return sparse.csr_matrix((np.concatenate([1 - part, part]), ends), (values.size, len(at)))


def _row_products(a: Any, b: Any) -> Any:
    """Row-wise Kronecker product of two sparse matrices."""
    columns = [a[:, i].multiply(b) for i in range(a.shape[1])]
    return sparse.hstack(columns, format="csr")


def _regularized_mean(total: Floats, weight: Floats, prior_weight: float = 6.0) -> Floats:
    """Mean power on each node, regularized toward a smooth model if the node has little weight.

    The model is refined from coarse to fine. Ratios of powers are averaged rather than logarithms, since
    the mean logarithm of few samples of a spectrum is biased (by -0.58 for one).
    """
    own = total / np.maximum(weight, 1e-30)
    floor = POWER_FLOOR * total.sum() / max(weight.sum(), 1e-30) + 1e-30
    model = np.full(SHAPE, max(total.sum() / max(weight.sum(), 1e-30), floor))
    for width in (5.0, 2.5, 1.2, 0.7):
        support = smooth_nodes(weight, width)
        ratio = smooth_nodes(weight * own / model, width) / np.maximum(support, 1e-12)
        model = np.maximum(np.where(support > 0.5, model * ratio, model), floor)
    return np.maximum((weight * own + prior_weight * model) / (weight + prior_weight), floor)


def smooth_nodes(values: Floats, width: float) -> Floats:
    """Gaussian filter of node values, periodic along the tilt."""
    return ndimage.gaussian_filter(values, width, mode=("nearest", "nearest", "wrap"))
