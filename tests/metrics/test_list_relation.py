from itertools import permutations, product

import numpy as np
import pytest

from cryovox.metrics.list_relation import relation

EXTENT = np.array([1800.0, 6300.0, 5000.0])


def particles(count, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (count, 3)) * EXTENT


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1), (1, -1, 1)])
def test_every_order_and_flip_is_recovered(axes, signs):
    first = particles(40)
    second = 0.5 * first[:, axes] * np.array(signs) + np.array([100.0, 2000.0, -30.0])
    found = relation(first, second[::-1])
    assert found.axes == axes
    assert found.signs == signs
    assert found.scale == pytest.approx(0.5)
    assert found.offset == pytest.approx((100.0, 2000.0, -30.0))
    assert found.matched == 40
    assert found.spread < 1e-6
    np.testing.assert_allclose(found.apply(first), second)


@pytest.mark.parametrize("scale", [1.0, 10.012, 0.25])
def test_lists_with_other_particles_and_errors_of_position(scale):
    rng = np.random.default_rng(1)
    both = particles(30, seed=2)
    first = np.concatenate([both, particles(8, seed=3)])
    second = scale * np.array([-1, 1, 1]) * both + np.array([1800.0, 3.0, 0.0])
    second = np.concatenate([second + rng.normal(scale=2.0, size=second.shape), scale * particles(60, 4)])
    found = relation(first, second[rng.permutation(len(second))])
    assert found.signs == (-1, 1, 1)
    assert found.scale == pytest.approx(scale, rel=5e-3)
    assert found.matched >= 28
    assert found.spread < 10


def test_unrelated_lists_have_none():
    for seed in range(4):
        assert relation(particles(20, seed), particles(25, seed + 10)) is None
    assert relation(particles(3), particles(3)) is None


def test_particles_of_one_place_have_none():
    assert relation(np.zeros((6, 3)), particles(6)) is None


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_a_thousand_particles(signs):
    first = particles(1000, seed=5)
    second = first * np.array(signs) + EXTENT * (np.array(signs) < 0)
    found = relation(first, second)
    assert found.signs == signs
    assert found.matched == 1000
