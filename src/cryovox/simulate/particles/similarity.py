"""Similarity of two particles: their maximum correlation over rotations and small shifts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from cryovox.simulate.particles.template import Template

_Pose = tuple[Rotation, NDArray[np.float64]]

_MIN_SEPARATION = np.deg2rad(25.0)
"""Minimum angle between starts of the refinement, in radians."""
_MAX_POINTS = 1000
"""Voxels of the smaller particle above which the ranking uses one in eight."""


def spread_rotations(count: int) -> Rotation:
    """Nearly uniform rotations: the super-Fibonacci spiral (Alexa, CVPR 2022, eq. 13).

    2,000 rotations are about 20 degrees apart, 16,000 about 10.
    """
    phi, psi = np.sqrt(2.0), 1.533751168755204288118041
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    a, b = 2 * np.pi * s / phi, 2 * np.pi * s / psi
    return Rotation.from_quat(
        np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], 1)
    )


def max_cross_correlation(
    one: Template, other: Template, *, rotations: int = 2000, starts: int = 5, shift: float = 1.0
) -> float:
    """Maximum normalized cross-correlation of two particles centered on their centers of mass.

    Zero-mean, in a cube that contains both; the smaller one is rotated. The best rotations of a grid are
    refined with shifts of up to *shift* voxels along each axis, and the two best of those once more with
    cubic splines.

    Parameters
    ----------
    one, other
        Templates with the same voxel size.
    rotations
        Size of the grid.
    starts
        Number of rotations to refine, at least 25 degrees apart.

    Returns
    -------
    float
        1 for identical particles.
    """
    if one.voxel_size != other.voxel_size:
        raise ValueError(f"voxel sizes differ: {one.voxel_size} and {other.voxel_size}")
    if np.count_nonzero(one.density) > np.count_nonzero(other.density):
        one, other = other, one
    pair = _Pair(one.density, other.density)
    grid = spread_rotations(rotations)
    coarse = np.array([pair.coarse(rotation) for rotation in grid.as_matrix()])
    maxima = [
        pair.refine((rotation, np.zeros(3)), shift, smooth=False)
        for rotation in _separated_maxima(grid, coarse, starts)
    ]
    maxima = sorted(maxima, key=lambda maximum: -maximum[0])[:2]
    return max(pair.refine(pose, shift, smooth=True)[0] for _, pose in maxima)


def _separated_maxima(grid: Rotation, values: NDArray[np.float64], count: int) -> list[Rotation]:
    """Best rotations of the grid that are not close to a better one."""
    chosen: list[Rotation] = []
    for i in np.argsort(-values):
        if all((grid[int(i)] * old.inv()).magnitude() > _MIN_SEPARATION for old in chosen):
            chosen.append(grid[int(i)])
        if len(chosen) == count:
            break
    return chosen


class _Pair:
    """Correlation of two cubes at any rotation of the first."""

    def __init__(self, small: NDArray[np.float32], large: NDArray[np.float32]) -> None:
        self._points, self._values = _nonzero_points(small)
        self._center = large.shape[0] // 2
        self._large = large.astype(float)
        self._spline = ndimage.spline_filter(self._large, order=3, mode="constant")
        self._subsampled = self._points, self._values, self._large
        if len(self._points) > _MAX_POINTS:
            blurred = [ndimage.gaussian_filter(a.astype(float), 1.0) for a in (small, large)]
            self._subsampled = *_nonzero_points(blurred[0], step=2), blurred[1]
        n = max(small.size, large.size)
        sums = [float(a.sum(dtype=np.float64)) for a in (small, large)]
        powers = [
            float((a.astype(float) ** 2).sum()) - s**2 / n for a, s in zip((small, large), sums, strict=True)
        ]
        self._offset = sums[0] * sums[1] / n
        self._scale = float(np.sqrt(powers[0] * powers[1]))

    def coarse(self, rotation: NDArray[np.float64]) -> float:
        """Unnormalized correlation without shift, subsampled, for ranking."""
        points, values, large = self._subsampled
        return float(values @ _interpolate(large, points @ rotation.T + self._center, order=1))

    def refine(self, start: _Pose, shift: float, *, smooth: bool) -> tuple[float, _Pose]:
        """Local maximum near *start*, and its pose."""

        def posed(step: NDArray[np.float64]) -> _Pose:
            return Rotation.from_rotvec(step[:3]) * start[0], np.clip(start[1] + step[3:], -shift, shift)

        def loss(step: NDArray[np.float64]) -> float:
            rotation, offset = posed(step)
            return -self._correlation(rotation.as_matrix(), offset, smooth)

        size = 0.04 if smooth else 0.15
        simplex = np.vstack([np.zeros(6), np.diag([size] * 3 + [2 * size * shift] * 3)])
        options = {"initial_simplex": simplex, "xatol": 5e-3, "fatol": 2e-4, "maxfev": 80 if smooth else 120}
        result = optimize.minimize(loss, np.zeros(6), method="Nelder-Mead", options=options)
        return -float(result.fun), posed(result.x)

    def _correlation(self, rotation: NDArray[np.float64], shift: NDArray[np.float64], smooth: bool) -> float:
        large, order = (self._spline, 3) if smooth else (self._large, 1)
        values = _interpolate(large, self._points @ rotation.T + shift + self._center, order)
        return float((float(self._values @ values) - self._offset) / self._scale)


def _nonzero_points(cube: NDArray[Any], step: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets (x, y, z) from the center of every *step*-th non-zero voxel, and its value."""
    middle = cube.shape[0] // 2
    where = np.argwhere(cube > 1e-3 * cube.max())
    where = where[((where - middle) % step == 0).all(1)]
    return (where - middle)[:, ::-1].astype(float), cube[tuple(where.T)].astype(float)


def _interpolate(large: NDArray[np.float64], at: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Interpolate at positions (x, y, z) in voxels; zero outside."""
    zyx = at[:, ::-1].T
    values = ndimage.map_coordinates(large, zyx, order=order, mode="constant", prefilter=False)
    return np.asarray(values, np.float64)
