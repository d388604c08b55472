import numpy as np
import pytest

from cryovox.core.intensity import Normalization, detect_contrast, sign_of, slabs, statistics, wrapped_bytes
from cryovox.core.volume import Volume
from cryovox.simulate.phantom import PhantomConfig, phantom


def test_slabs_cover_a_volume_once_in_order():
    data = np.arange(7 * 3 * 2).reshape(7, 3, 2)
    parts = list(slabs(data, voxels=13))
    assert [len(p) for p in parts] == [2, 2, 2, 1]
    assert np.array_equal(np.concatenate(parts), data)


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8, np.float16])
def test_statistics_are_those_of_numpy(monkeypatch, kind):
    data = (np.random.default_rng(0).normal(100, 20, (9, 11, 13))).astype(kind)
    monkeypatch.setattr(slabs, "__defaults__", (300,))
    assert len(list(slabs(data))) > 3
    result = statistics(data)
    exact = data.astype(np.float64)
    assert result.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert result.std == pytest.approx(exact.std(), rel=1e-9)
    assert (result.low, result.high) == pytest.approx((exact.min(), exact.max()))
    assert result.not_finite == 0


def test_a_large_mean_does_not_swamp_the_spread():
    data = 1e7 + np.random.default_rng(1).normal(0, 1, (8, 8, 8))
    assert statistics(data).std == pytest.approx(data.std(), rel=1e-6)


def test_what_is_not_finite_is_counted_and_left_out(monkeypatch):
    data = np.random.default_rng(2).normal(size=(6, 5, 4)).astype(np.float32)
    data[0] = np.nan
    data[2, 1, 1], data[5, 4, 3] = np.inf, -np.inf
    monkeypatch.setattr(slabs, "__defaults__", (20,))
    result = statistics(data)
    good = data[np.isfinite(data)].astype(np.float64)
    assert result.not_finite == 22
    assert (result.mean, result.std) == pytest.approx((good.mean(), good.std()))
    assert np.isnan(statistics(np.full((2, 2, 2), np.nan)).mean)


def test_normalization_scales_and_turns_dark_to_bright():
    raw = np.array([8, 10, 14], np.int16)
    assert Normalization(10.0, 2.0)(raw).tolist() == [-1, 0, 2]
    assert Normalization(10.0, 2.0, -1)(raw).tolist() == [1, 0, -2]
    assert Normalization(10.0, 2.0)(raw).dtype == np.float32


def test_signs():
    assert (sign_of("bright"), sign_of("dark"), sign_of("auto"), sign_of("auto", 1)) == (1, -1, -1, 1)


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_contrast_of_phantoms_is_found(dark, seed):
    config = PhantomConfig(shape=(32, 64, 64), count=8, snr=0.3, dark=dark)
    volume = phantom(config, np.random.default_rng(seed)).volume
    contrast, certainty = detect_contrast(volume)
    assert contrast == ("dark" if dark else "bright")
    assert certainty > 3


def test_contrast_survives_fine_sampling_nan_and_scale():
    config = PhantomConfig(shape=(32, 64, 64), count=8, snr=0.3)
    coarse = phantom(config, np.random.default_rng(0)).volume
    fine = coarse.data.repeat(3, 0).repeat(3, 1).repeat(3, 2) * 1e-3 + 7
    fine[:5] = np.nan
    assert detect_contrast(Volume(fine, coarse.voxel_size / 3))[0] == "dark"


def test_contrast_of_noise_is_a_guess():
    sure = [
        detect_contrast(Volume(np.random.default_rng(s).normal(size=(32, 48, 48)), 10.0))[1] for s in range(8)
    ]
    assert np.median(sure) < 3


@pytest.mark.parametrize(
    ("mean", "std", "wrapped"),
    [(127, 12, True), (127, 50, True), (150, 30, True), (100, 25, True), (60, 10, False)],
)
def test_unsigned_bytes_that_are_taken_for_signed_ones(mean, std, wrapped):
    gray = np.clip(np.random.default_rng(0).normal(mean, std, (20, 40, 40)), 0, 255).astype(np.uint8)
    result = wrapped_bytes(gray.view(np.int8))
    assert (result is not None) == wrapped
    if wrapped:
        assert (result.low, result.high) == (gray.min(), gray.max())
    assert wrapped_bytes(gray) is None


@pytest.mark.parametrize(("mean", "std"), [(0, 10), (0, 40), (40, 40), (-60, 40), (100, 60), (-100, 5)])
def test_signed_bytes_are_left_alone(mean, std):
    gray = np.clip(np.random.default_rng(0).normal(mean, std, (20, 40, 40)), -128, 127).astype(np.int8)
    assert wrapped_bytes(gray) is None


@pytest.mark.parametrize("values", [(0, 1), (0, -1), (-128, -127), (5, 5)])
def test_masks_are_not_wrapped(values):
    assert wrapped_bytes(np.resize(np.array(values, np.int8), (4, 4, 4))) is None
