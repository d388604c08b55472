"""Noise with the power of a tomogram, and where it is taken from."""

import numpy as np
import pytest

from cryovox.inference.phase_noise import central_box, phase_randomized, spans_of


@pytest.mark.parametrize("shape", [(16, 20, 24), (15, 21, 27), (16, 21, 23)])
def test_noise_has_the_power_of_the_tomogram_at_every_frequency(shape):
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfftn(rng.standard_normal(shape))
    kz, kx = np.fft.fftfreq(shape[0])[:, None, None], np.fft.rfftfreq(shape[2])
    spectrum[np.broadcast_to(np.abs(kz) > 1.7 * kx, spectrum.shape)] = 0  # missing wedge
    tomogram = (np.fft.irfftn(spectrum, s=shape, axes=(0, 1, 2)) - 3).astype(np.float32)
    tomogram[4:8, 5:9, 6:10] += 4
    noise = phase_randomized(tomogram, np.random.default_rng(1))
    ours, theirs = (np.abs(np.fft.rfftn(v.astype(float))) for v in (noise, tomogram))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.max())
    assert noise.mean() == pytest.approx(tomogram.mean(), rel=1e-4)
    assert noise.std() == pytest.approx(tomogram.std(), rel=1e-4)
    assert abs(np.corrcoef(noise.ravel(), tomogram.ravel())[0, 1]) < 0.1
    again = phase_randomized(tomogram, np.random.default_rng(1))
    assert np.array_equal(noise, again)


def test_a_box_lies_in_the_middle_of_the_sample():
    inside = np.zeros((40, 60, 80), bool)
    inside[10:30, 20:60, :] = True
    spans = spans_of(inside)
    assert spans == [(10, 30), (20, 60), (0, 80)]
    assert central_box(inside.shape, 1.0, spans, 8) == (slice(10, 30), slice(20, 60), slice(0, 80))
    assert central_box(inside.shape, 0.125, spans, 8) == (slice(15, 25), slice(30, 50), slice(20, 60))
    assert central_box(inside.shape, 0.001, spans, 50) == (slice(0, 40), slice(10, 60), slice(15, 65))
