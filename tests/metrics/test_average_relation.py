"""Hand and contrast of an average beside a map of the same structure."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryovox.metrics import average_relation as module
from cryovox.metrics.average_relation import average_relation

BLOBS = np.array([[0.0, 0, 0], [9, 0, 0], [0, 7, 0], [0, 0, 5], [0, -4, 6]])
"""A shape that differs from its mirror image, (z, y, x) in voxels from its center."""


def shape(blobs, edge=36):
    zyx = np.indices((edge,) * 3).reshape(3, -1).T - (edge - 1) / 2
    density = sum(np.exp(-((zyx - blob) ** 2).sum(axis=1) / 8) for blob in blobs)
    return np.asarray(density).reshape((edge,) * 3)


@pytest.fixture(autouse=True)
def fewer_rotations(monkeypatch):
    monkeypatch.setattr(module, "ROTATIONS", 700)
    monkeypatch.setattr(module, "STARTS", 2)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("inverted", [False, True])
def test_hand_and_contrast_in_another_orientation(mirrored, inverted):
    turned = BLOBS @ Rotation.random(rng=np.random.default_rng(3)).as_matrix() + [1.5, -1, 2]
    average = shape(turned, 32) * (-1 if inverted else 1)
    average += 0.05 * np.random.default_rng(0).standard_normal(average.shape)
    between = average_relation(average[:, ::-1] if mirrored else average, shape(BLOBS))
    assert between.best == (mirrored, inverted)
    assert between.correlations[between.best] > 0.9
    assert between.correlations[between.best] - between.other_hand > 0.03
    assert between.correlations[between.best] - between.other_contrast > 0.3


def test_a_shape_like_its_mirror_image():
    flat = BLOBS * [0, 1, 1]
    between = average_relation(shape(flat), shape(flat))
    assert abs(between.correlations[False, False] - between.correlations[True, False]) < 0.01


def test_rotations_are_spread_evenly():
    """No rotation is far from the nearest one of the grid."""
    grid = Rotation.concatenate(list(module._spread_rotations(3000)))
    quaternions = np.abs(grid.as_quat() @ Rotation.random(500, rng=np.random.default_rng(0)).as_quat().T)
    nearest = np.degrees(2 * np.arccos(np.minimum(1, quaternions.max(axis=0))))
    assert nearest.max() < 20
    assert np.median(nearest) < 12


def test_turning_follows_the_rotation():
    """A rotation of positions (x, y, z) moves density as it moves positions."""
    rotation = Rotation.from_euler("xyz", [20, -35, 50], degrees=True)
    turned = module._turned(shape(BLOBS), rotation, (2, -1, 0))
    moved = rotation.apply(BLOBS[:, ::-1])[:, ::-1]
    expected = shape(np.add(moved, (2, -1, 0)))
    assert np.corrcoef(turned.ravel(), ndimage.gaussian_filter(expected, 0.3).ravel())[0, 1] > 0.98
