import numpy as np
import pytest

from cryovox.core.volume import Volume
from cryovox.formats.resample import resample


def blob(shape, voxel_size, center, sigma=40.0) -> Volume:
    axes = np.meshgrid(*[np.arange(n) * voxel_size for n in shape], indexing="ij")
    squared = sum((axis - c) ** 2 for axis, c in zip(axes, center, strict=True))
    return Volume(np.exp(-squared / (2 * sigma**2)).astype(np.float32), voxel_size, (1.0, 2.0, 3.0))


@pytest.mark.parametrize("new", [5.0, 7.3, 10.0, 13.48, 20.0, 25.0])
def test_a_blob_stays_where_it_was(new):
    center = np.array([203.0, 241.0, 267.0])
    loaded = resample(blob((44, 49, 55), 10.0, center), new)
    assert loaded.voxel_size == new
    assert loaded.origin == (1, 2, 3)
    assert loaded.data.dtype == np.float32
    weights = np.clip(loaded.data, 0.01, None) - 0.01
    axes = np.meshgrid(*[np.arange(n) * new for n in loaded.shape], indexing="ij")
    mean = [np.average(axis, weights=weights) for axis in axes]
    np.testing.assert_allclose(mean, center, atol=0.05 * new)


def test_extent_and_constants_are_kept():
    loaded = resample(Volume(np.full((7, 8, 9), 3, np.int8), 10.0), 20.0)
    assert loaded.shape == (4, 4, 5)
    np.testing.assert_allclose(loaded.data, 3, atol=1e-4)


def test_what_the_new_sampling_cannot_hold_is_gone():
    z = np.arange(64)
    fine = np.broadcast_to(np.cos(np.pi * z * 0.9)[:, None, None], (64, 8, 8))
    assert np.abs(resample(Volume(fine, 5.0), 20.0).data[2:-2]).max() < 0.02


def test_same_voxel_size_changes_nothing():
    original = blob((8, 8, 8), 10.0, (30, 30, 30))
    np.testing.assert_array_equal(resample(original, 10.0).data, original.data)
