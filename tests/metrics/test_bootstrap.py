import numpy as np
import pytest

from cryovox.metrics.bootstrap import interval, paired_difference


def test_equal_units_leave_no_doubt():
    some = interval([3.0, 3.0, 3.0])
    assert (some.value, some.low, some.high) == (3, 3, 3)


def test_the_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(1).normal(5, 2, 200)
    some = interval(values, n=4000)
    half = 1.96 * values.std() / np.sqrt(200)
    assert some.value == pytest.approx(values.mean())
    assert some.low == pytest.approx(values.mean() - half, abs=0.05)
    assert some.high == pytest.approx(values.mean() + half, abs=0.05)


def test_coverage_is_near_the_level():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(150):
        some = interval(rng.normal(0, 1, 30), n=200, seed=seed, level=0.9)
        inside += some.low <= 0 <= some.high
    assert 0.8 <= inside / 150 <= 0.97


def test_any_statistic_of_whole_units():
    counts = np.array([[8, 2, 0], [1, 9, 0], [5, 5, 0]])
    some = interval(counts, lambda c: c[:, 0].sum() / c.sum(), n=500)
    assert some.value == pytest.approx(14 / 30)
    assert 0.1 <= some.low <= some.value <= some.high <= 0.8


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 20)
    better = paired_difference(hard + 1 + rng.normal(0, 0.1, 20), hard)
    assert better.low > 0.9
    assert better.high < 1.1
    assert paired_difference(hard, hard).high == 0


def test_seed_few_units_and_unequal_lists():
    values = [1.0, 2.0, 4.0]
    assert interval(values, seed=3) == interval(values, seed=3)
    assert np.isnan(interval([1.0]).low)
    assert np.isnan(interval([]).value)
    with pytest.raises(ValueError, match="3 and 2"):
        paired_difference(values, values[:2])
