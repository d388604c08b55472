import itertools

import numpy as np
import pytest
import torch
from scipy import fft

from cryovox.data.reconstruction_filters import whitened_box
from cryovox.filters.whitening import (
    FALL,
    WhitenedVoxels,
    Whitening,
    measured,
    resolution_of,
)

VOXEL = 10.0
SHAPE = (72, 110, 131)


def noise(shape, curve, seed=0):
    """Noise with an amplitude of *curve* of the frequency in 1/Å, periodic."""
    half = fft.rfftn(np.random.default_rng(seed).standard_normal(shape))
    axes = [fft.fftfreq(n, VOXEL) for n in shape[:2]] + [fft.rfftfreq(shape[2], VOXEL)]
    frequency = np.sqrt(sum(np.square(k) for k in np.meshgrid(*axes, indexing="ij")))
    return fft.irfftn(half * curve(frequency), s=shape).astype(np.float32)


CURVES = {
    "white": lambda f: np.ones_like(f),
    "blurred": lambda f: np.exp(-((f * 45) ** 2)),
    "falling": lambda f: 1 / (3e-3 + f) ** 2,
    "rising": lambda f: 0.1 + f,
}


def amplitudes(values, low, high, bins=6):
    """Mean amplitudes in rings between two frequencies, relative to the reference curve."""
    window = np.ones(1)
    for n in values.shape:
        window = window[..., None] * np.hanning(n)
    half = np.abs(fft.rfftn(values * window[0]))
    axes = [fft.fftfreq(n, VOXEL) for n in values.shape[:2]] + [fft.rfftfreq(values.shape[2], VOXEL)]
    frequency = np.sqrt(sum(np.square(k) for k in np.meshgrid(*axes, indexing="ij")))
    edges = np.linspace(low, high, bins + 1)
    rings = [(frequency >= a) & (frequency < b) for a, b in itertools.pairwise(edges)]
    means = np.array([np.sqrt(np.mean(np.square(half[r] * (1 + FALL * frequency[r])))) for r in rings])
    return means / means.mean()


def whitened(data, resolution=22.0):
    return WhitenedVoxels(data, VOXEL, measured(data, VOXEL, resolution))


@pytest.mark.parametrize("curve", CURVES)
def test_every_spectrum_becomes_the_reference_curve(curve):
    before = noise(SHAPE, CURVES[curve])
    after = np.asarray(whitened(before))
    assert after.shape == SHAPE
    assert amplitudes(after, 0.006, 0.04) == pytest.approx(np.ones(6), abs=0.06)
    if curve != "white":
        assert np.ptp(amplitudes(before, 0.006, 0.04)) > 0.5


def test_the_same_scene_under_two_curves_looks_alike():
    first, second = (noise(SHAPE, CURVES[name], seed=3) for name in ("falling", "rising"))
    inner = tuple(slice(20, -20) for _ in SHAPE)
    apart = np.corrcoef(first[inner].ravel(), second[inner].ravel())[0, 1]
    alike = [np.asarray(whitened(v))[inner].ravel() for v in (first, second)]
    assert apart < 0.6
    assert np.corrcoef(*alike)[0, 1] > 0.97


def test_scale_and_offset_do_not_matter():
    values = noise(SHAPE, CURVES["blurred"])
    plain, other = whitened(values), whitened(-40 * values + 1000)
    assert (plain.normalization(1).sign, plain.normalization(-1).sign) == (1, -1)
    a, b = (v.normalization(1)(v[:40]) for v in (plain, other))
    assert np.allclose(a, -b, atol=0.02)
    assert a.std() == pytest.approx(1, abs=0.05)
    assert a.mean() == pytest.approx(0, abs=0.02)


def test_voxels_are_the_same_however_they_are_read():
    values = whitened(noise(SHAPE, CURVES["falling"]))
    whole = np.asarray(values)
    fresh = WhitenedVoxels(values._data, VOXEL, values._whitening)
    rng = np.random.default_rng(1)
    for _ in range(8):
        low = rng.integers(0, SHAPE)
        box = tuple(slice(a, int(rng.integers(a, n)) + 1) for a, n in zip(low, SHAPE, strict=True))
        assert np.array_equal(fresh[box], whole[box])
    assert np.array_equal(fresh[-1, :, 5], whole[-1, :, 5])
    assert fresh[3:3].shape == (0, *SHAPE[1:])


def test_a_filter_is_the_same_everywhere():
    """Away from the faces a shift of the input shifts the output, also across the borders of blocks."""
    data = noise(SHAPE, CURVES["white"])
    curve = measured(data, VOXEL, 22.0)
    shifted = np.roll(data, (7, -5, 11), (0, 1, 2))
    a, b = (np.asarray(WhitenedVoxels(d, VOXEL, curve)) for d in (data, shifted))
    inner = tuple(slice(30, -30) for _ in SHAPE)
    assert np.allclose(np.roll(a, (7, -5, 11), (0, 1, 2))[inner], b[inner], atol=1e-4 * a.std())


def test_frequencies_above_the_resolution_are_removed():
    after = np.asarray(whitened(noise(SHAPE, CURVES["white"]), resolution=50.0))
    rings = amplitudes(after, 0.005, 0.045, bins=4)
    assert rings[2:].max() < 0.05 * rings[0]


def test_resolution():
    assert resolution_of(10.0, 12.0) == 24.0  # the grid of the model limits
    assert resolution_of(31.36, 12.0) == pytest.approx(2.2 * 31.36)


def test_gains_at_and_beyond_their_ends():
    curve = Whitening.of_power(np.full(33, 4.0), 1 / 640, 20.0)
    assert curve.at(np.zeros(1)) == 0
    assert curve.at(np.array([0.02])) == pytest.approx(0.5 / (1 + FALL * 0.02), rel=1e-3)
    assert curve.at(np.array([0.06])) < 1e-2


def test_constant_tiles_do_not_count():
    data = noise(SHAPE, CURVES["blurred"])
    half_empty = np.concatenate([data, np.zeros_like(data)])
    gains = [measured(d, VOXEL, 22.0).at(np.linspace(0.008, 0.04, 9)) for d in (data, half_empty)]
    ratio = gains[1] / gains[0]
    assert ratio / ratio.mean() == pytest.approx(np.ones(9), abs=0.25)
    with pytest.raises(ValueError, match="constant"):
        measured(np.full(SHAPE, 7.0), VOXEL, 22.0)


def test_small_and_flat_tomograms():
    for shape in ((1, 40, 50), (5, 17, 33), (20, 20, 20)):
        data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        after = np.asarray(whitened(data))
        assert after.shape == shape
        assert np.isfinite(after).all()


def test_a_half_is_filtered_as_the_whole():
    data = noise(SHAPE, CURVES["falling"])
    values = whitened(data)
    assert np.array_equal(np.asarray(values.alike(data)), np.asarray(values))
    assert np.allclose(np.asarray(values.alike(2 * data)), 2 * np.asarray(values), atol=1e-3)


def test_blocks_are_dropped():
    values = whitened(noise((150, 100, 100), CURVES["white"]))
    np.asarray(values)
    assert len(values._kept) == values._of_slab == 1


@pytest.mark.parametrize("curve", ["white", "blurred", "rising"])
def test_boxes_of_the_training_get_the_same_curve(curve):
    image = noise((64, 80, 96), CURVES[curve])
    after = whitened_box(torch.from_numpy(image), VOXEL, 22.0).numpy()
    assert amplitudes(after, 0.006, 0.04) == pytest.approx(np.ones(6), abs=0.06)
    reference = np.asarray(whitened(image))
    inner = tuple(slice(20, -20) for _ in range(3))
    assert np.corrcoef(after[inner].ravel(), reference[inner].ravel())[0, 1] > 0.97
