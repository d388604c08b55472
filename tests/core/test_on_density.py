"""Particles on density, and readings of their coordinates that put them there."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cryovox.core.on_density import placement
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume

SHAPE, SIZE = (44, 70, 96), 8.0


@pytest.fixture(scope="module")
def blobs():
    """A noisy volume with bright blobs at sub-voxel positions, and these in Å."""
    rng = np.random.default_rng(3)
    zyx = rng.uniform([6, 6, 6], np.array(SHAPE) - 7, (90, 3))
    grid = np.indices(SHAPE).astype(np.float32)
    data = gaussian_filter(rng.normal(size=SHAPE), 1.0) * 3
    for place in zyx:
        data += 2 * np.exp(-((grid - place.reshape(3, 1, 1, 1)) ** 2).sum(axis=0) / (2 * 2.0**2))
    return Volume(data.astype(np.float32), SIZE), zyx * SIZE


LAST = (np.array(SHAPE) - 1) * SIZE


def mirrored(positions, axes):
    return np.where([axis in axes for axis in "zyx"], LAST - positions, positions)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda p: mirrored(p, "z"), "a flip of z"),
        (lambda p: mirrored(p, "xy"), "a flip of x and y"),
        (lambda p: p + 0.5 * SIZE, "-0.5 voxel in x, y and z"),
        (lambda p: p + np.array([0, 0.5, 0.5]) * SIZE, "-0.5 voxel in x and y"),
        (lambda p: p + SIZE, "the center n / 2 - 1 instead of n / 2"),
        (lambda p: p - SIZE, "the center n / 2 instead of n / 2 - 1"),
        (lambda p: p / 2, "coordinates 2 times as large"),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_reading_that_is_right_is_named(blobs, wrong, name, sign):
    volume, positions = blobs
    result = placement(wrong(positions), volume.with_data(sign * volume.data))
    assert result.alternative is not None
    assert result.alternative.name == name
    assert np.sign(result.alternative_z) == sign


def test_right_lists_have_no_alternative(blobs):
    volume, positions = blobs
    result = placement(positions, volume)
    assert result.is_significant
    assert result.z > 0
    assert result.alternative is None


@pytest.mark.parametrize("seed", range(5))
def test_random_positions_are_on_no_density(blobs, seed):
    volume, positions = blobs
    places = np.random.default_rng(seed).uniform(0, 1, positions.shape) * LAST
    result = placement(places, volume)
    assert not result.is_significant
    assert result.alternative is None


def test_few_particles_are_not_compared(blobs):
    volume, positions = blobs
    assert placement(positions[:9], volume) is None
    assert placement(positions + 1e5, volume) is None


def test_picks_of_a_real_tomogram(shared_data):
    folder = shared_data / "real_tomograms"
    volume = read_volume(folder / "tomo_171_xlow_31.36A.mrc.gz")
    positions = read_particles(folder / "tomo_171_xlow_80S_angstrom.csv").positions
    right = placement(positions, volume)
    assert right.z < -10
    assert right.alternative is None
    last = (np.array(volume.shape) - 1) * volume.voxel_size
    turned = placement(np.where([True, False, True], last - positions, positions), volume)
    assert not turned.is_significant
    assert turned.alternative.name == "a flip of x and z"
