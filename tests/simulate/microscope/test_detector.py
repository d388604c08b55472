import numpy as np
import pytest
from scipy import stats

from cryovox.simulate.microscope import DetectorConfig
from cryovox.simulate.microscope.detector import (
    detector_filters,
    dqe,
    flux,
    mtf,
    noise_factor,
    poisson_counts,
    poisson_quantile,
    snr_of,
)


@pytest.mark.parametrize("mean", [0.05, 0.7, 3.0, 9.9, 10.0, 25.0, 200.0, 3000.0])
def test_counts_are_poisson(mean):
    counts = poisson_counts(np.full((400, 500), mean, np.float32), 3, 7)
    n = counts.size
    assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / n))
    spread = np.sqrt((mean + 2 * mean**2) / n)  # of the sample variance
    assert counts.var(dtype=float) == pytest.approx(mean, abs=4.5 * spread)
    values, result = np.unique(counts, return_counts=True)
    expected = n * stats.poisson.pmf(values, mean)
    often = expected > 20
    chi = ((result - expected)[often] ** 2 / expected[often]).sum()
    assert chi < stats.chi2.ppf(0.9999, often.sum())


@pytest.mark.parametrize("mean", [0.3, 5.0, 12.0, 40.0])
def test_the_quantile_is_the_exact_one_but_for_edges(mean):
    normal = np.random.default_rng(0).standard_normal(20000)
    exact = stats.poisson.ppf(stats.norm.cdf(normal), mean)
    counts = poisson_quantile(np.full(20000, mean), normal)
    assert np.abs(counts - exact).max() <= 1
    assert (counts != exact).mean() < 4e-3


def test_the_draw_depends_on_seed_tilt_and_part_alone():
    mean = np.random.default_rng(0).uniform(0, 60, (50, 60)).astype(np.float32)
    same = poisson_counts(mean, 1, 2)
    assert np.array_equal(same, poisson_counts(mean, 1, 2))
    for other in (poisson_counts(mean, 2, 2), poisson_counts(mean, 1, 3), poisson_counts(mean, 1, 2, 1)):
        assert abs(np.corrcoef((same - mean).ravel(), (other - mean).ravel())[0, 1]) < 0.08


def test_rounding_of_the_mean_changes_few_counts_by_one():
    mean = np.random.default_rng(1).uniform(0.5, 300, (200, 200)).astype(np.float32)
    one, two = poisson_counts(mean, 0, 0), poisson_counts(mean * np.float32(1 + 3e-7), 0, 0)
    assert np.abs(one - two).max() <= 1
    assert (one != two).mean() < 1e-3


def test_negative_means_count_nothing():
    assert not poisson_counts(np.full((5, 5), -3.0, np.float32), 0, 0).any()


def test_ice_takes_more_at_high_tilt():
    config = DetectorConfig(mean_free_path=4000, dqe=0.5)
    result = flux(config, np.array([2.0, 2.0]), np.array([0.0, 60.0]), 10.0, 2000.0)
    assert result == pytest.approx([100 * np.exp(-0.5), 100 * np.exp(-1.0)])
    assert flux(DetectorConfig.ideal(), np.array([3.0]), np.array([60.0]), 2.0, 2000.0) == pytest.approx(12)


def test_curves_go_through_their_values_and_follow_the_cameras_own_pixels():
    config = DetectorConfig(dqe=0.8, dqe_nyquist=0.3, mtf_nyquist=0.5, pixel_size=2.5)
    nyquist = np.array([0.0, 0.2])
    assert mtf(nyquist, config, 10.0) == pytest.approx([1, 0.5])
    assert dqe(nyquist, config, 10.0) == pytest.approx([0.8, 0.3])
    before, after = detector_filters(nyquist, config, 10.0)
    assert before * after == pytest.approx([1, 0.5])
    assert before**2 == pytest.approx([1, 0.375])


def test_the_factor_gives_the_snr():
    rng = np.random.default_rng(4)
    signal, noise = rng.normal(0, 3, (20, 30, 30)), rng.normal(0, 0.2, (20, 30, 30))
    mask = np.zeros(signal.shape, bool)
    mask[5:15] = True
    factor = noise_factor(signal, noise, 0.05, mask)
    assert snr_of(signal, factor * noise, mask) == pytest.approx(0.05)
    assert factor == pytest.approx(3 / 0.2 / np.sqrt(0.05), rel=0.05)
