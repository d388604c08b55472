"""Noise of the background: unbiased in pure noise, and without the power of the particles."""

import numpy as np
import pytest
from scipy import ndimage

from cryovox.inference.background import (
    REACH,
    background_noise,
    beside,
    half_difference,
    radial_frequency,
    shells,
)
from cryovox.inference.phase_noise import phase_randomized
from cryovox.picking.decoys import decoys_above, strongest

SHAPE, RADIUS = (40, 72, 72), 4.0


def colored(rng):
    """Noise with more power at low frequency and a missing wedge."""
    f = radial_frequency(SHAPE)
    z, x = np.fft.fftfreq(SHAPE[0])[:, None, None], np.fft.rfftfreq(SHAPE[2])[None, None]
    amplitude = np.sqrt(0.3 + 1 / (1 + (f / 0.06) ** 2)) * (np.abs(z) <= np.abs(x) * 1.73 + 1e-6)
    spectrum = np.fft.rfftn(rng.standard_normal(SHAPE)) * amplitude
    noise = np.fft.irfftn(spectrum, s=SHAPE, axes=(0, 1, 2))
    return (noise / noise.std()).astype(np.float32)


def balls(rng, count):
    """Particles at random places."""
    centers = np.zeros((0, 3))
    while len(centers) < count:
        center = rng.uniform(RADIUS + 1, np.array(SHAPE) - RADIUS - 2)
        if not len(centers) or np.linalg.norm(centers - center, axis=1).min() > 2.2 * RADIUS:
            centers = np.vstack([centers, center])
    signal = ~beside(SHAPE, centers, np.full(count, RADIUS / REACH))
    return signal.astype(np.float32)


def peaks(data):
    """Positions and scores of the peaks of a difference of Gaussians."""
    blobs = ndimage.gaussian_filter(data, RADIUS / 2) - ndimage.gaussian_filter(data, RADIUS)
    top = (ndimage.maximum_filter(blobs, 5) == blobs) & (blobs > 0)
    top[:3] = top[-3:] = top[:, :3] = top[:, -3:] = top[:, :, :3] = top[:, :, -3:] = False
    return np.argwhere(top).astype(float), blobs[top]


def decoys(data, rng):
    """Scores of the peaks in noise of the whole and of the background."""
    first = phase_randomized(data, rng)
    targets, noise = peaks(data), peaks(first)
    cut = strongest(targets[1], noise[1])
    inside = [
        beside(SHAPE, where[scores >= cut], np.full((scores >= cut).sum(), RADIUS))
        for where, scores in (targets, noise)
    ]
    return noise[1], peaks(background_noise(data, inside[0], first, inside[1], rng))[1]


def test_voxels_beside_picks():
    free = beside((9, 9, 9), np.array([[4.0, 4, 4], [-50, 0, 0]]), np.array([2 / REACH, 1.0]))
    assert not free[4, 4, 4]
    assert not free[4, 4, 6]
    assert free[4, 4, 7]
    assert (~free).sum() == 33  # voxels within 2 of a voxel


def test_white_noise_has_equal_power_in_all_shells_also_beside_picks():
    rng = np.random.default_rng(0)
    data = rng.standard_normal(SHAPE).astype(np.float32) + 5
    free = beside(SHAPE, rng.uniform(0, SHAPE, (20, 3)), np.full(20, RADIUS))
    for own in (shells(data), shells(data, free)):
        np.testing.assert_allclose(own.power[4:20], 1, atol=0.2)


@pytest.mark.parametrize("seed", range(3))
def test_in_pure_noise_there_are_as_many_decoys_as_peaks(seed):
    rng = np.random.default_rng(seed)
    data = colored(rng)
    _, background = decoys(data, rng)
    scores = peaks(data)[1]
    cut = np.quantile(scores, 0.8)
    assert (background >= cut).sum() == pytest.approx((scores >= cut).sum(), rel=0.35)


@pytest.mark.parametrize("seed", range(3))
def test_decoys_are_those_of_the_noise_and_not_of_the_particles(seed):
    rng = np.random.default_rng(seed)
    noise, signal = colored(rng), balls(rng, 60)
    whole, background = decoys(noise + signal, rng)
    cuts = np.quantile(peaks(noise)[1], [0.5, 0.8])
    truth = decoys_above(peaks(noise)[1], cuts)
    assert decoys_above(whole, cuts)[1] > 1.5 * truth[1]
    np.testing.assert_allclose(decoys_above(background, cuts), truth, rtol=0.35)


def test_crowds_leave_the_spectrum_as_it_is():
    data = colored(np.random.default_rng(0))
    nothing = np.zeros(SHAPE, bool)
    noise = background_noise(data, nothing, data, ~nothing, np.random.default_rng(1))
    np.testing.assert_allclose(shells(noise).power, shells(data).power, rtol=1e-3, atol=1e-3)


def test_half_the_difference_is_the_noise_of_the_mean():
    rng = np.random.default_rng(0)
    signal = balls(rng, 60)
    even, odd = (signal + 2 * colored(rng) for _ in range(2))
    mean = (even + odd) / 2
    noise, correlation = half_difference(-3 * mean + 100, even, odd)
    assert correlation == pytest.approx(-1)
    noise, correlation = half_difference(3 * mean + 100, even, odd)
    assert correlation == pytest.approx(1)
    np.testing.assert_allclose(noise, 1.5 * (even - odd), rtol=1e-3, atol=1e-3)
    assert noise.std() == pytest.approx((3 * (mean - signal)).std(), rel=0.05)
    assert abs(np.corrcoef(noise.ravel(), signal.ravel())[0, 1]) < 0.05
    assert half_difference(colored(rng), even, odd)[1] < 0.5
