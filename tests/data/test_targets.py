import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryovox.core.particles import Species
from cryovox.data.targets import ball_labels, gaussian_heatmap, heatmap_sigma, within_radius

SHAPE = (9, 10, 11)


def distances(center: np.ndarray, shape=SHAPE) -> np.ndarray:
    return np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - center, axis=-1)


inside = st.tuples(*(st.floats(-4, n + 4, width=32) for n in SHAPE)).map(np.array)


@settings(max_examples=40, deadline=None)
@given(st.lists(inside, max_size=4), st.floats(0.6, 5))
def test_balls_are_those_of_the_definition(centers, radius):
    radii = [radius * (1 + 0.3 * i) for i in range(len(centers))]
    found = ball_labels(np.array(centers).reshape(-1, 3), range(1, len(centers) + 1), radii, SHAPE)
    far = np.stack([np.full(SHAPE, 1.0)] + [distances(c) / r for c, r in zip(centers, radii, strict=True)])
    expected = np.where(far[1:].min(0, initial=9) <= 1, far[1:].argmin(0) + 1 if centers else 0, 0)
    order = np.sort(far, axis=0)
    sure = (np.abs(far[1:] - 1).min(0, initial=1) > 1e-4) & (order[1:2].min(0, initial=9) - order[0] > 1e-4)
    assert np.array_equal(found[sure], expected[sure])


def test_the_nearest_center_in_radii_wins():
    found = ball_labels(np.array([[4.0, 4, 2], [4.0, 4, 8]]), [1, 2], [4.0, 4.0], SHAPE)
    assert found[4, 4, :5].tolist() == [1] * 5
    assert found[4, 4, 6:].tolist() == [2] * 5
    big = ball_labels(np.array([[4.0, 4, 2], [4.0, 4, 8]]), [1, 2], [6.0, 3.0], SHAPE)
    assert big[4, 4, 5] == 1  # half a radius from the first, a whole one from the second
    assert big[4, 4, 7] == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(inside, min_size=1, max_size=3), st.floats(1, 3))
def test_heatmaps_are_the_largest_of_the_gaussians(centers, sigma):
    found = gaussian_heatmap(np.array(centers), sigma, SHAPE)
    exact = np.max([np.exp(-0.5 * (distances(c) / sigma) ** 2) for c in centers], axis=0)
    assert np.abs(found - exact).max() <= np.exp(-8) + 1e-5  # cut off at four sigma


def test_height_is_one_at_a_center_on_a_voxel_and_less_beside_it():
    found = gaussian_heatmap(np.array([[4.0, 5, 6]]), 1.5, SHAPE)
    assert found[4, 5, 6] == 1
    assert found.max() == 1
    assert gaussian_heatmap(np.array([[4.25, 5, 6]]), 1.5, SHAPE).max() < 1
    assert gaussian_heatmap(np.zeros((0, 3)), 1.5, SHAPE).max() == 0


def test_near_any():
    found = within_radius(np.array([[0.0, 0, 0], [8.0, 9, 10]]), 2.0, SHAPE)
    assert np.array_equal(found, (distances(np.zeros(3)) <= 2) | (distances(np.array([8, 9, 10])) <= 2))


@pytest.mark.parametrize(("radius", "sigma"), [(60.0, 2.0), (5.0, 1.0)])
def test_sigma_is_a_third_of_the_radius_but_no_less_than_a_voxel(radius, sigma):
    assert heatmap_sigma(Species(name="a", label=1, radius=radius), 10.0) == sigma
