"""How alike two particles are: their largest correlation over all rotations and small shifts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from cryovox.simulate.particles.template import Template

_Pose = tuple[Rotation, NDArray[np.float64]]

_APART = np.deg2rad(25.0)
"""Starts of the refinement that are closer than this count as one."""
_MANY = 1000
"""Voxels of the smaller particle above which the ranking takes one in eight."""


def spread_rotations(count: int) -> Rotation:
    """Nearly evenly spread rotations: the super-Fibonacci spiral (Alexa, CVPR 2022, eq. 13).

    2 000 lie about 20 degrees from each other, 16 000 about 10.
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
    """Largest normalised cross-correlation of two particles centred on their centres of mass.

    Zero-mean, within a cube that holds both; the smaller one is turned. A grid of rotations is
    tried at no shift, the best of it are refined with shifts of up to *shift* voxels along each axis, and
    the two best of those once more with cubic splines, which lose nothing between voxels.

    Parameters
    ----------
    one, other
        At the same voxel size.
    rotations
        Size of the grid.
    starts
        How many of its best, each 25 degrees from the others, are refined.

    Returns
    -------
    float
        1 for a particle with itself.
    """
    if one.voxel_size != other.voxel_size:
        raise ValueError(f"voxel sizes differ: {one.voxel_size} and {other.voxel_size}")
    if np.count_nonzero(one.density) > np.count_nonzero(other.density):
        one, other = other, one
    pair = _Pair(one.density, other.density)
    grid = spread_rotations(rotations)
    rough = np.array([pair.rough(rotation) for rotation in grid.as_matrix()])
    tops = [
        pair.climb((rotation, np.zeros(3)), shift, smooth=False) for rotation in _best(grid, rough, starts)
    ]
    tops = sorted(tops, key=lambda top: -top[0])[:2]
    return max(pair.climb(pose, shift, smooth=True)[0] for _, pose in tops)


def _best(grid: Rotation, values: NDArray[np.float64], count: int) -> list[Rotation]:
    """The best of the grid that are not near a better one."""
    chosen: list[Rotation] = []
    for i in np.argsort(-values):
        if all((grid[int(i)] * old.inv()).magnitude() > _APART for old in chosen):
            chosen.append(grid[int(i)])
        if len(chosen) == count:
            break
    return chosen


class _Pair:
    """Two cubes, ready for their correlation at any rotation of the first."""

    def __init__(self, small: NDArray[np.float32], large: NDArray[np.float32]) -> None:
        self._points, self._values = _inside(small)
        self._centre = large.shape[0] // 2
        self._large = large.astype(float)
        self._spline = ndimage.spline_filter(self._large, order=3, mode="constant")
        self._thin = self._points, self._values, self._large
        if len(self._points) > _MANY:
            blurred = [ndimage.gaussian_filter(a.astype(float), 1.0) for a in (small, large)]
            self._thin = *_inside(blurred[0], step=2), blurred[1]
        n = max(small.size, large.size)
        sums = [float(a.sum(dtype=np.float64)) for a in (small, large)]
        powers = [
            float((a.astype(float) ** 2).sum()) - s**2 / n for a, s in zip((small, large), sums, strict=True)
        ]
        self._offset = sums[0] * sums[1] / n
        self._scale = float(np.sqrt(powers[0] * powers[1]))

    def rough(self, rotation: NDArray[np.float64]) -> float:
        """At no shift, up to scale, and on fewer points if there are many: good enough to rank."""
        points, values, large = self._thin
        return float(values @ _seen(large, points @ rotation.T + self._centre, order=1))

    def climb(self, start: _Pose, shift: float, *, smooth: bool) -> tuple[float, _Pose]:
        """The local maximum near *start* and where it lies."""

        def posed(step: NDArray[np.float64]) -> _Pose:
            return Rotation.from_rotvec(step[:3]) * start[0], np.clip(start[1] + step[3:], -shift, shift)

        def loss(step: NDArray[np.float64]) -> float:
            rotation, move = posed(step)
            return -self._at(rotation.as_matrix(), move, smooth)

        size = 0.04 if smooth else 0.15
        simplex = np.vstack([np.zeros(6), np.diag([size] * 3 + [2 * size * shift] * 3)])
        options = {"initial_simplex": simplex, "xatol": 5e-3, "fatol": 2e-4, "maxfev": 80 if smooth else 120}
        found = optimize.minimize(loss, np.zeros(6), method="Nelder-Mead", options=options)
        return -float(found.fun), posed(found.x)

    def _at(self, rotation: NDArray[np.float64], shift: NDArray[np.float64], smooth: bool) -> float:
        large, order = (self._spline, 3) if smooth else (self._large, 1)
        seen = _seen(large, self._points @ rotation.T + shift + self._centre, order)
        return float((float(self._values @ seen) - self._offset) / self._scale)


def _inside(cube: NDArray[Any], step: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets (x, y, z) from the centre of every *step*-th voxel that is not empty, and its value."""
    middle = cube.shape[0] // 2
    where = np.argwhere(cube > 1e-3 * cube.max())
    where = where[((where - middle) % step == 0).all(1)]
    return (where - middle)[:, ::-1].astype(float), cube[tuple(where.T)].astype(float)


def _seen(large: NDArray[np.float64], at: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Interpolated at positions (x, y, z) in voxels; nothing is outside."""
    found = ndimage.map_coordinates(large, at[:, ::-1].T, order=order, mode="constant", prefilter=False)
    return np.asarray(found, np.float64)
