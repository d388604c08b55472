"""Hand and contrast of an average, beside another map of the same structure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

COARSE, FINE = 24, 40
"""Edge in voxels, even, of the cubes that are compared in all rotations, and in those of the refinement."""
ROTATIONS = 3000
"""Rotations of the first search, about 20 degrees apart."""
STARTS = 3
"""Best rotations of each hand and contrast that are refined."""
HOPEFUL = 0.7
"""Part of the highest correlation of the first search from which a hand and contrast is refined."""
STEP = 0.15
"""First step of the refinement, in radians and in twentieths of the edge."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class AverageRelation:
    """Best correlation with the reference by hand and contrast: (mirrored, inverted) -> correlation."""

    correlations: dict[tuple[bool, bool], float]

    @property
    def best(self) -> tuple[bool, bool]:
        """Whether the average is mirrored, and whether it is inverted."""
        return max(self.correlations, key=lambda key: self.correlations[key])

    @property
    def other_hand(self) -> float:
        """Correlation of the other hand, in the same contrast."""
        mirrored, inverted = self.best
        return self.correlations[not mirrored, inverted]

    @property
    def other_contrast(self) -> float:
        """Best correlation in the other contrast, of either hand."""
        return max(self.correlations[hand, not self.best[1]] for hand in (False, True))


def average_relation(average: NDArray[Any], reference: NDArray[Any]) -> AverageRelation:
    """Compare two maps in all rotations, as they are, mirrored, inverted, and both.

    Parameters
    ----------
    average, reference : (z, y, x)
        Maps of one structure with the same voxel size, each near the center of its volume. Their orientations
        may differ; a shift is found.
    """
    edge = max(*average.shape, *reference.shape)
    coarse = [_windowed(_cube(data, edge), COARSE) for data in (average, reference)]
    fine = [_windowed(_cube(data, edge), FINE) for data in (average, reference)]
    starts = _search(*coarse)
    correlations = {key: score for key, (score, _) in starts.items()}
    hopeful = {key for key, score in correlations.items() if score > HOPEFUL * max(correlations.values())}
    for mirrored, inverted in hopeful:
        rotations = starts[mirrored, inverted][1]
        target = (-1 if inverted else 1) * (fine[0][:, :, ::-1] if mirrored else fine[0])
        correlations[mirrored, inverted] = max(_refined(target, fine[1], rotation) for rotation in rotations)
    return AverageRelation(correlations)


def _cube(data: NDArray[Any], edge: int) -> NDArray[np.float32]:
    """The volume at the center of a cube, surrounded by the mean of its faces."""
    values = np.asarray(data, np.float32)
    faces = np.concatenate([np.take(values, (0, -1), axis=axis).ravel() for axis in range(3)])
    cube = np.full((edge,) * 3, faces.mean(), np.float32)
    cube[tuple(slice((edge - n) // 2, (edge - n) // 2 + n) for n in values.shape)] = values
    return cube


def _windowed(cube: NDArray[np.float32], edge: int) -> Float:
    """The cube at fewer voxels along each axis, of mean 0 in a sphere and 0 outside, and of norm 1."""
    factor = len(cube) / edge
    smooth = ndimage.gaussian_filter(cube.astype(np.float64), 0.5 * max(factor, 1.0))
    points = (np.arange(edge) - (edge - 1) / 2) * factor + (len(cube) - 1) / 2
    small = ndimage.map_coordinates(smooth, np.meshgrid(points, points, points, indexing="ij"), order=1)
    distance = np.linalg.norm(np.indices(small.shape) - (edge - 1) / 2, axis=0)
    window = np.clip((edge / 2 - distance) / 2, 0, 1)
    small = (small - (small * window).sum() / window.sum()) * window
    return np.asarray(small / np.linalg.norm(small))


def _search(average: Float, reference: Float) -> dict[tuple[bool, bool], tuple[float, list[Rotation]]]:
    """Highest correlation and the best rotations of the reference, by hand and contrast."""
    spectra = [np.fft.rfftn(average), np.fft.rfftn(average[:, :, ::-1])]
    rotations = list(_spread_rotations(ROTATIONS))
    scores = np.zeros((len(rotations), 2, 2))
    for i, rotation in enumerate(rotations):
        turned = np.fft.rfftn(_turned(reference, rotation)).conj()
        for hand, spectrum in enumerate(spectra):
            values = np.fft.irfftn(spectrum * turned)
            scores[i, hand] = values.max(), -values.min()
    return {
        (bool(hand), bool(sign)): (
            float(scores[:, hand, sign].max()),
            [rotations[i] for i in np.argsort(-scores[:, hand, sign])[:STARTS]],
        )
        for hand, sign in product((0, 1), repeat=2)
    }


def _spread_rotations(count: int) -> Iterator[Rotation]:
    """Evenly spread rotations: a super-Fibonacci spiral on the sphere of quaternions."""
    s = np.arange(count) + 0.5
    near, far = np.sqrt(s / count), np.sqrt(1 - s / count)
    a, b = 2 * np.pi * s / np.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    for quaternion in np.stack([near * np.sin(a), near * np.cos(a), far * np.sin(b), far * np.cos(b)], 1):
        yield Rotation.from_quat(quaternion)


def _turned(cube: Float, rotation: Rotation, shift: Any = (0.0, 0.0, 0.0)) -> Float:
    """The cube rotated about its center, then shifted by (z, y, x) voxels."""
    matrix = rotation.as_matrix()[::-1, ::-1].T  # from output to input, z, y, x
    center = (len(cube) - 1) / 2
    offset = center - matrix @ (center + np.asarray(shift, dtype=np.float64))
    return np.asarray(ndimage.affine_transform(cube, matrix, offset, order=1))


def _refined(average: Float, reference: Float, start: Rotation) -> float:
    """Highest correlation near a rotation."""
    turned = np.fft.rfftn(_turned(reference, start)).conj()
    values = np.fft.irfftn(np.fft.rfftn(average) * turned)
    edge = len(average)
    peak = np.array(np.unravel_index(values.argmax(), values.shape))
    peak = np.where(peak > edge // 2, peak - edge, peak)
    scale = edge / 20

    def cost(parameters: Float) -> float:
        moved = _turned(
            reference, Rotation.from_rotvec(parameters[:3]) * start, peak + scale * parameters[3:]
        )
        return -float((average * moved).sum() / np.linalg.norm(moved))

    simplex = np.vstack([np.zeros(6), STEP * np.eye(6)])
    options = {"initial_simplex": simplex, "maxfev": 250, "xatol": 1e-3, "fatol": 1e-4}
    return -float(optimize.minimize(cost, np.zeros(6), method="Nelder-Mead", options=options).fun)
