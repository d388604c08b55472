import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.intensity import Normalization
from cryovox.metrics.fingerprint import (
    BINS,
    MIN_LIMIT,
    Fingerprint,
    distance,
    fingerprint,
    fingerprint_of,
    limit,
    radial_amplitude,
    sample_cubes,
)

IDENTITY = Normalization(0.0, 1.0)


def noise(shape, seed=0, blur=0.0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return ndimage.gaussian_filter(values, blur, mode="wrap") if blur else values


@pytest.fixture(scope="module")
def tomogram():
    """Gray, and rougher on one side than on the other."""
    values = noise((64, 96, 96), 1, 1.0)
    return values / values.std() + 0.3 * noise(values.shape, 2)


def test_white_noise_is_flat_and_gaussian():
    result = fingerprint(noise((40, 32, 32, 32)), 10.0)
    assert (result.cubes, result.voxel_size) == (40, 10.0)
    assert len(result.spectrum) == len(result.spread) == BINS
    assert np.allclose(result.spectrum[3:], 0, atol=0.02)
    assert abs(result.skewness) < 0.01
    assert abs(result.kurtosis) < 0.02


def test_a_wave_stands_in_its_bin():
    x = np.broadcast_to(np.arange(32), (32, 32, 32))
    for cycles in (2, 7, 13):
        amplitude = radial_amplitude(np.sqrt(2) * np.cos(2 * np.pi * cycles * x / 32))
        assert abs(amplitude.argmax() - cycles / 32 * 2 * BINS) < 1


def test_a_filter_is_measured():
    """A Gaussian of width s multiplies amplitudes by exp(-2 pi^2 s^2 k^2)."""
    sharp = noise((16, 32, 32, 32), 3)
    soft = ndimage.gaussian_filter(sharp, (0, 0.8, 0.8, 0.8), mode="wrap")
    plain, blurred = (np.array(fingerprint(cubes, 1.0).spectrum) for cubes in (sharp, soft))
    k = (np.arange(BINS) + 0.5) / (2 * BINS)
    expected = -2 * np.pi**2 * 0.8**2 * k**2 / np.log(10)
    change = blurred - plain
    assert np.allclose((change - change[6])[6:20], (expected - expected[6])[6:20], atol=0.05)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 5.0), (40.0, 0.0), (0.01, -3.0)])
def test_gray_scale_and_offset_do_not_matter(gain, offset):
    cubes = np.exp(noise((8, 16, 16, 16), 4, 0.5))
    a, b = fingerprint(cubes, 10.0), fingerprint(gain * cubes + offset, 10.0)
    assert np.allclose(a.spectrum, b.spectrum)
    assert (a.skewness, a.kurtosis) == (pytest.approx(b.skewness), pytest.approx(b.kurtosis))
    assert a.skewness > 1
    assert fingerprint(-cubes, 10.0).skewness == pytest.approx(-a.skewness)


def test_what_is_constant_or_broken_is_left_out():
    cubes = noise((6, 16, 16, 16)).astype(np.float32)
    whole = fingerprint(cubes[:4], 10.0)
    cubes[4], cubes[5, 0, 0, 0] = 1e4 + 1e-4, np.nan
    assert fingerprint(cubes, 10.0) == whole
    with pytest.raises(ValueError, match="constant"):
        fingerprint(cubes[4:], 10.0)
    with pytest.raises(ValueError, match="n, z, y, x"):
        fingerprint(cubes[0], 10.0)


def test_distance_is_in_units_of_the_spread():
    a = Fingerprint(
        spectrum=[0.0] * BINS, spread=[0.1] * BINS, skewness=0, kurtosis=0, cubes=9, voxel_size=10
    )
    assert distance(a, a) == 0
    b = a.model_copy(update={"spectrum": [0.3] * BINS, "spread": [0.2] * BINS})
    assert distance(a, b) == distance(b, a) == pytest.approx(0.3 / np.sqrt((0.01 + 0.04) / 2))
    half = a.model_copy(update={"spectrum": [0.3] * (BINS // 2) + [0.0] * (BINS // 2)})
    assert distance(a, half) == pytest.approx(3 / np.sqrt(2))
    sharp = a.model_copy(update={"spread": [0.0] * BINS})
    near = sharp.model_copy(update={"spectrum": [0.01] * BINS})
    assert distance(sharp, near) == pytest.approx(0.5)  # of the least spread


def test_halves_of_one_tomogram_are_near_and_others_far(tomogram):
    measure = {"voxel_size": 10.0, "cube_size": 16}
    low, high = (fingerprint_of(part, IDENTITY, **measure) for part in np.split(tomogram, 2))
    assert distance(low, high) < 1
    smoother = ndimage.gaussian_filter(tomogram, 1)
    assert distance(low, fingerprint_of(smoother, IDENTITY, **measure)) > 5
    noisier = tomogram + noise(tomogram.shape, 5)
    assert distance(low, fingerprint_of(noisier, IDENTITY, **measure)) > 3


def test_cubes_are_spread_over_the_volume():
    where = np.stack(np.indices((40, 60, 80)))
    for count in (1, 8, 64):
        corners = np.array([sample_cubes(axis, IDENTITY, 16, count)[:, 0, 0, 0] for axis in where]).T
        assert count / 2 <= len(corners) <= 2 * count
        assert (corners <= np.array([40, 60, 80]) - 16).all()
    assert (corners.max(axis=0) - corners.min(axis=0) > 0.6 * np.array([24, 44, 64])).all()
    assert np.array_equal(sample_cubes(where[0], IDENTITY, 16), sample_cubes(where[0], IDENTITY, 16))
    other = sample_cubes(where[0], IDENTITY, 16, seed=1)
    assert not np.array_equal(sample_cubes(where[0], IDENTITY, 16), other)


def test_a_thin_volume_is_measured_too(tomogram):
    thin = fingerprint_of(tomogram[:20], IDENTITY, 10.0)
    assert np.isfinite(thin.spectrum).all()
    assert distance(thin, fingerprint_of(tomogram, IDENTITY, 10.0)) < 2


def test_the_sign_is_that_of_the_network():
    dark = -np.exp(noise((40, 40, 40), 6))
    assert fingerprint_of(dark, Normalization(0.0, 1.0, -1), 10.0).skewness > 1


def test_a_fingerprint_survives_json():
    result = fingerprint(noise((3, 16, 16, 16)), 13.3)
    assert Fingerprint.model_validate_json(result.model_dump_json()) == result


def test_the_limit_holds_all_halves(tomogram):
    cubes = sample_cubes(tomogram, IDENTITY, 16)
    assert limit([cubes], 10.0) == MIN_LIMIT
    other = sample_cubes(ndimage.gaussian_filter(tomogram, 0.5), IDENTITY, 16)
    wide = limit([cubes, other], 10.0)
    assert wide > MIN_LIMIT
    assert wide >= distance(fingerprint(cubes, 10.0), fingerprint(np.concatenate([cubes, other]), 10.0))
    assert limit([cubes[:1]], 10.0) == MIN_LIMIT
