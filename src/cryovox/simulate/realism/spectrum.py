"""Power spectra of tomograms, on a few nodes that any size of volume can share.

A tilt about y makes frequency space cylindrical: what was measured, and how well, depends on the
distance from the tilt axis and on the angle around it, and on the frequency along it only smoothly.
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

ALONG = 0.5 * np.linspace(0, 1, 12) ** 1.6
"""Nodes of abs(ky) in cycles per voxel, closer where spectra are steep."""
AROUND = np.sqrt(0.5) * np.linspace(0, 1, 18) ** 1.6
"""Nodes of the distance from the tilt axis, sqrt(kz^2 + kx^2)."""
ANGLES = np.arange(-90.0, 90.0, 5.0)
"""Nodes of the tilt atan(kz / kx) in degrees; 90 is -90 again."""
SHELLS = 32
TILE = 128  # voxels: the longest side of what is transformed at once
MOST_TILES = 12  # evenly spread over a large tomogram
LEAST = 1e-8  # of the mean power: what is called nothing
RING = 0.15  # of the logarithm of the frequency: half the width of a ring of nodes
RIDGE = 1.2  # times the median of its ring: more power at a node is content


@dataclass(frozen=True, eq=False)
class Nodes:
    """How the half-space of a real Fourier transform is spread over the nodes.

    Attributes
    ----------
    along : (y, len(ALONG))
        Weights of the nodes of abs(ky) for every ky.
    plane : (z * x, len(AROUND) * len(ANGLES)) sparse
        Weights of the nodes of distance and angle for every (kz, kx).
    """

    along: Floats
    plane: Any

    def gather(self, power: NDArray[Any]) -> tuple[Floats, Floats]:
        """Sum (z, y, x) values on the nodes; and the weights that went into each sum."""
        z, _, x = power.shape
        sums = np.zeros((len(ALONG), z, x))
        for i in range(z):
            sums[:, i] = self.along.T @ power[i]
        weight = np.outer(self.along.sum(axis=0), np.asarray(self.plane.sum(axis=0)).ravel())
        spread = (self.plane.T @ sums.reshape(len(ALONG), z * x).T).T
        return spread.reshape(SHAPE), weight.reshape(SHAPE)

    def at(self, values: Floats, shape: Shape) -> NDArray[np.float32]:
        """Interpolate (ky, distance, angle) node values at every frequency of a volume's half-space."""
        z, x = shape[0], shape[2] // 2 + 1
        plane = (self.plane @ values.reshape(len(ALONG), -1).T).astype(np.float32)
        along = self.along.astype(np.float32)
        out = np.empty((z, shape[1], x), np.float32)
        for i in range(z):
            out[i] = along @ plane[i * x : (i + 1) * x].T
        return out


SHAPE = (len(ALONG), len(AROUND), len(ANGLES))


@lru_cache(maxsize=4)
def nodes(shape: Shape) -> Nodes:
    """The spread for volumes of that shape."""
    kz, kx = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[2])[None, :]
    around = _hats(AROUND, np.hypot(kz, kx).ravel())
    turn = (np.degrees(np.arctan2(kz, kx)).ravel() - ANGLES[0]) / (ANGLES[1] - ANGLES[0])
    low = np.floor(turn).astype(int)
    rows = np.arange(turn.size)
    lower = sparse.csr_matrix((1 - (turn - low), (rows, low % len(ANGLES))), (turn.size, len(ANGLES)))
    upper = sparse.csr_matrix((turn - low, (rows, (low + 1) % len(ANGLES))), (turn.size, len(ANGLES)))
    plane = _row_products(around, lower + upper)
    return Nodes(_hats(ALONG, np.abs(fft.fftfreq(shape[1]))).toarray(), plane)


def power_spectrum(data: NDArray[Any], voxels: int = TILE) -> Floats:
    """Power on the nodes, in squared units of *data*: white noise of variance v has power v everywhere.

    Parameters
    ----------
    data : (z, y, x)
        Cut into tiles of at most *voxels* along each side; each is tapered (Tukey, half of it flat)
        and the spectra are averaged (Welch 1967, doi 10.1109/TAU.1967.1161901).

    Returns
    -------
    (ALONG, AROUND, ANGLES) float64
        Positive. Nodes with few samples are drawn towards their neighbours.
    """
    total, weight = np.zeros(SHAPE), np.zeros(SHAPE)
    for tile in _tiles(data, voxels):
        sums, weights = nodes(tile.shape).gather(periodogram(tile))
        total, weight = total + sums, weight + weights
    return _filled(total, weight)


def robust_power_spectrum(data: NDArray[Any], voxels: int = TILE) -> Floats:
    """The power of `power_spectrum` without the ridges that single objects leave in it.

    Matter without order, seen through a microscope, has about the same power in all directions around
    the axis of the beam. A flat membrane does not: all of its power lies along its normal. Gaussian noise
    of such a spectrum would be streaks. Along a ring of equal frequency at one tilt no node keeps more
    than `RIDGE` times the median; what lies below it, as the wedge, stays as it is.
    """
    log = np.log(power_spectrum(data, voxels)).reshape(len(ALONG) * len(AROUND), len(ANGLES))
    rings = _rings()
    trend = np.array([np.median(log[ring]) for ring in rings])[:, None]
    flat = log - trend
    middle = np.array([np.median(flat[ring], axis=0) for ring in rings])
    return np.exp(np.minimum(flat, middle + np.log(RIDGE)) + trend).reshape(SHAPE)


@lru_cache(maxsize=1)
def _rings() -> NDArray[np.bool_]:
    """Which nodes have about the same frequency as each, over (|ky|, distance from the tilt axis)."""
    k = np.log(np.maximum(np.hypot(ALONG[:, None], AROUND).ravel(), AROUND[1]))
    return np.abs(k[:, None] - k) < RING


def periodogram(tile: NDArray[Any]) -> NDArray[np.float32]:
    """Squared Fourier transform of one tapered volume, white noise of variance v giving v."""
    taper = [signal.windows.tukey(n + 2, 0.5)[1:-1].astype(np.float32) for n in tile.shape]
    window = taper[0][:, None, None] * taper[1][:, None] * taper[2]
    piece = np.asarray(tile, dtype=np.float32)
    piece = (piece - np.average(piece, weights=window)).astype(np.float32) * window
    found = fft.rfftn(piece, overwrite_x=True)
    squares = found.real**2 + found.imag**2
    return squares / np.float32(np.square(window, dtype=np.float64).sum())


def amplitude_filter(values: Floats, shape: Shape) -> NDArray[np.float32]:
    """Amplitudes at every frequency of a volume's half-space whose squares are the node values.

    Between the nodes the logarithm is linear.
    """
    return np.exp(0.5 * nodes(shape).at(np.log(np.maximum(values, 1e-30)), shape))


def radial_power(data: NDArray[Any], shells: int = SHELLS) -> Floats:
    """Mean power in equal shells of the frequency up to 0.5 cycles per voxel: (shells,), positive.

    In squared units of *data*; tiles and taper are those of `power_spectrum`.
    """
    sums, counts = np.zeros(shells + 1), np.zeros(shells + 1)
    for tile in _tiles(data, TILE):
        power = periodogram(tile)
        for squares, plane in _planes(tile.shape, power):
            index = np.minimum((np.sqrt(squares) * 2 * shells).astype(int), shells).ravel()
            sums += np.bincount(index, plane.ravel(), shells + 1)
            counts += np.bincount(index, minlength=shells + 1)
    least = LEAST * sums.sum() / max(counts.sum(), 1) + 1e-30
    return np.maximum(sums / np.maximum(counts, 1), least)[:shells]


def radial_frequency(shells: int = SHELLS) -> Floats:
    """Middle of each shell of `radial_power` in cycles per voxel."""
    return (np.arange(shells) + 0.5) / (2 * shells)


def radial_filter(values: Floats, shape: Shape) -> NDArray[np.float32]:
    """Amplitudes over the half-space of a volume whose squares are the values of the shells."""
    amplitude = np.sqrt(np.maximum(values, 0)).astype(np.float32)
    at = radial_frequency(len(values))
    out = np.empty((shape[0], shape[1], shape[2] // 2 + 1), np.float32)
    for squares, plane in _planes(shape, out):
        plane[:] = np.interp(np.sqrt(squares), at, amplitude)
    return out


def spectrum_rmse(a: NDArray[Any], b: NDArray[Any], *, tilt_axis: bool = False) -> float:
    """How far the power spectra of two tomograms with the same voxel size lie apart.

    Root of the mean squared difference of natural logarithms of power, both tomograms z-scored, over
    32 shells of the frequency; or, with *tilt_axis*, over all nodes of the frequency along the tilt
    axis, across it and of the tilt inside of 0.5 cycles per voxel. The lowest frequencies (below two
    cycles per shorter side) are left out.
    """
    least = 2.0 / min(min(a.shape), min(b.shape))
    if tilt_axis:
        k = np.hypot(ALONG[:, None], AROUND[None, :])
        use = np.broadcast_to(((k >= least) & (k <= 0.5) & (least < AROUND))[:, :, None], SHAPE)
        first, second = (power_spectrum(z_score(v)) for v in (a, b))
    else:
        use = radial_frequency() >= least
        first, second = (radial_power(z_score(v)) for v in (a, b))
    return float(np.sqrt(np.mean(np.log(first[use] / second[use]) ** 2)))


def z_score(data: NDArray[Any]) -> NDArray[np.float32]:
    """Zero mean and unit standard deviation; what is not finite becomes 0."""
    values = np.asarray(data, dtype=np.float32)
    finite = np.isfinite(values)
    good = values if finite.all() else values[finite]
    if good.size == 0:
        return np.zeros(values.shape, np.float32)
    mean, std = float(good.mean(dtype=np.float64)), float(good.std(dtype=np.float64))
    scaled = (values - np.float32(mean)) / np.float32(max(std, 1e-30))
    return scaled if finite.all() else np.where(finite, scaled, 0).astype(np.float32)


def frequencies(shape: tuple[int, ...]) -> tuple[Floats, Floats, Floats]:
    """kz, ky, kx of the half-space in cycles per voxel, ready to be broadcast."""
    z, y, x = shape
    return fft.fftfreq(z)[:, None, None], fft.fftfreq(y)[None, :, None], fft.rfftfreq(x)[None, None, :]


def _planes(shape: Shape, volume: NDArray[Any]) -> Iterator[tuple[Floats, NDArray[Any]]]:
    """The squared frequency of every plane along kz of a half-space, and that plane of a volume."""
    kz, ky, kx = frequencies(shape)
    across = ky[0] ** 2 + kx[0] ** 2
    for i in range(shape[0]):
        yield across + kz[i, 0, 0] ** 2, volume[i]


def _tiles(data: NDArray[Any], side: int) -> Iterator[NDArray[Any]]:
    """Pieces of at most that many voxels along each axis, half overlapping where there are several.

    Not all of a large volume.
    """
    starts = []
    for n in data.shape:
        pieces = 1 if n <= side else int(np.ceil(2 * n / side)) - 1
        starts.append(np.linspace(0, max(0, n - side), pieces).astype(int))
    corners = list(itertools.product(*starts))
    for i in np.unique(np.linspace(0, len(corners) - 1, MOST_TILES).astype(int)):
        z, y, x = (slice(a, a + side) for a in corners[i])
        yield data[z, y, x]


def _hats(at: Floats, values: Floats) -> Any:
    """Weights of linear interpolation between the nodes *at*, one row for each value."""
    values = np.clip(values, at[0], at[-1])
    low = np.clip(np.searchsorted(at, values, side="right") - 1, 0, len(at) - 2)
    part = (values - at[low]) / (at[low + 1] - at[low])
    rows = np.arange(values.size)
    ends = (np.concatenate([rows, rows]), np.concatenate([low, low + 1]))
    return sparse.csr_matrix((np.concatenate([1 - part, part]), ends), (values.size, len(at)))


def _row_products(a: Any, b: Any) -> Any:
    """The Kronecker product of the rows of two sparse matrices, row by row."""
    columns = [a[:, i].multiply(b) for i in range(a.shape[1])]
    return sparse.hstack(columns, format="csr")


def _filled(total: Floats, weight: Floats, trust: float = 6.0) -> Floats:
    """Mean power on each node, drawn towards a smooth model where a node has little weight.

    The model is refined from coarse to fine. Ratios of powers are averaged, not logarithms: the mean
    logarithm of a few samples of a spectrum is too low (by 0.58 for one).
    """
    own = total / np.maximum(weight, 1e-30)
    least = LEAST * total.sum() / max(weight.sum(), 1e-30) + 1e-30
    model = np.full(SHAPE, max(total.sum() / max(weight.sum(), 1e-30), least))
    for width in (5.0, 2.5, 1.2, 0.7):
        sure = blurred(weight, width)
        ratio = blurred(weight * own / model, width) / np.maximum(sure, 1e-12)
        model = np.maximum(np.where(sure > 0.5, model * ratio, model), least)
    return np.maximum((weight * own + trust * model) / (weight + trust), least)


def blurred(values: Floats, width: float) -> Floats:
    """Gaussian mean over that many nodes; the tilt goes round."""
    return ndimage.gaussian_filter(values, width, mode=("nearest", "nearest", "wrap"))
