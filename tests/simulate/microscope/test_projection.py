import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cryovox.simulate.microscope.projection import (
    ProjectionGeometry,
    Projector,
    TorchMatrix,
    back_project,
    project,
    spread_matrix,
)

SHAPE = (40, 24, 64)
CENTER = np.array([20, 12, 32])


def gaussian(place, sigma=1.5, shape=SHAPE):
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    square = (z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2
    return np.exp(-square / (2 * sigma**2)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-70, 70),
    st.tuples(st.floats(-6, 6), st.floats(-3, 3), st.floats(-8, 8)),
    st.floats(1.3, 2.5),
)
def test_the_projection_of_a_gaussian_is_a_gaussian_at_its_place(angle, offset, sigma):
    dz, dy, dx = offset
    projections = project(gaussian(CENTER + offset, sigma), np.array([angle]))[0]
    turn = np.deg2rad(angle)
    y, x = np.meshgrid(np.arange(24) - 12, np.arange(64) - 32, indexing="ij")
    square = (x - dx * np.cos(turn) - dz * np.sin(turn)) ** 2 + (y - dy) ** 2
    expected = np.sqrt(2 * np.pi) * sigma * np.exp(-square / (2 * sigma**2))
    assert np.abs(projections - expected).max() < 2e-3 * expected.max()


def test_the_projection_of_a_ball_is_its_chord():
    n, radius = 64, 18.0
    z, _, x = np.meshgrid(*(np.arange(k) - k // 2 for k in (n, 8, n)), indexing="ij")
    ball = ndimage.gaussian_filter(np.clip(radius + 0.5 - np.hypot(x, z), 0, 1), (1, 0, 1))
    place = np.arange(n) - n // 2
    for image in project(ball, np.array([-50.0, -17.0, 0.0, 45.0, 60.0])):
        chord = 2 * np.sqrt(np.maximum(radius**2 - place**2, 0))
        inner = np.abs(place) < radius - 4
        assert np.abs(image[4] - chord)[inner].max() < 0.008 * 2 * radius
        assert np.abs(image[4][np.abs(place) > radius + 5]).max() < 0.0002 * 2 * radius


def test_a_sum_of_rotated_volumes_agrees():
    rng = np.random.default_rng(0)
    blobs = sum(w * gaussian(CENTER + rng.uniform((-9, -6, -9), (9, 6, 9)), 2.0) for w in (1, 2, -1, 0.5))
    wide = np.pad(blobs, ((12, 12), (0, 0), (0, 0)))
    for angle in (-57.0, 10.0, 33.3):
        grid = np.meshgrid(*(np.arange(n) for n in wide.shape), indexing="ij")
        z, x, turn = grid[0] - 32, grid[2] - 32, np.deg2rad(angle)
        result = [z * np.cos(turn) + x * np.sin(turn) + 32, grid[1], x * np.cos(turn) - z * np.sin(turn) + 32]
        expected = ndimage.map_coordinates(wide, result, order=5)  # the object's voxel at (z', x')
        projections = project(wide, np.array([angle]))[0]
        assert np.abs(projections - expected.sum(0)).max() < 2e-3 * np.abs(projections).max()


def test_no_ripple_where_the_grid_of_voxels_is_seen_edge_on():
    slab = np.pad(np.ones((20, 4, 40), np.float32), ((30, 30), (0, 0), (40, 40)))
    slab = ndimage.gaussian_filter(slab, (2, 0, 2))
    for angle in (0.0, 26.565, 45.0, 60.0):
        line = project(slab, np.array([angle]))[0, 2]
        power = np.abs(np.fft.rfft(line))
        assert power[len(line) // 4 :].max() < 1e-3 * power[0]


@pytest.mark.parametrize("angle", [0.0, 21.0, -60.0])
def test_nothing_is_lost_inside_the_field(angle):
    volume = gaussian((22, 12, 30), 1.8)
    assert project(volume, np.array([angle])).sum() == pytest.approx(volume.sum(), rel=5e-4)


def test_back_projection_is_the_adjoint():
    rng, angles = np.random.default_rng(1), np.array([-61.0, -20.0, 3.0, 50.0])
    volume = rng.standard_normal(SHAPE, dtype=np.float32)
    images = rng.standard_normal((4, 24, 64), dtype=np.float32)
    smeared = back_project(images, ProjectionGeometry.of(40, 64), angles)
    assert (project(volume, angles) * images).sum() == pytest.approx((volume * smeared).sum(), rel=1e-3)


def test_torch_in_single_agrees_with_scipy_in_double():
    rng, plane, angles = np.random.default_rng(2), ProjectionGeometry.of(12, 40), np.array([-60.0, 0.0, 37.0])
    voxels = rng.standard_normal((12 * 40, 7))
    double, single = Projector(plane, angles, dtype=np.float64), Projector(plane, angles)
    single.spread = TorchMatrix(spread_matrix(plane, angles, np.float32), "cpu")
    one, two = double.forward(voxels), single.forward(voxels.astype(np.float32))
    assert np.abs(one - two).max() < 1e-5 * np.abs(one).max()
    one, two = double.adjoint(one), single.adjoint(two)
    assert np.abs(one - two).max() < 1e-5 * np.abs(one).max()


def test_the_pieces_of_y_do_not_show():
    rng = np.random.default_rng(3)
    volume = rng.standard_normal((6, 150, 20), dtype=np.float32)
    whole = project(volume, np.array([10.0, 40.0]))
    for y in (0, 63, 64, 149):
        assert np.abs(project(volume[:, y : y + 1], np.array([10.0, 40.0]))[:, 0] - whole[:, y]).max() < 1e-5


def test_binning_keeps_the_axis_in_place():
    assert ProjectionGeometry.of(40, 60, 4) == ProjectionGeometry(10, 15, 15, (5.0, 7.5), 7.5)


def test_a_mirrored_sample_has_no_edge_and_the_same_middle():
    rng = np.random.default_rng(0)
    volume = np.zeros((24, 3, 48), np.float32)
    volume[5:19] = 1.0  # a slab without end
    angles = np.array([-60.0, -20.0, 0.0, 45.0])
    projections = project(volume, angles, beyond="mirror")
    assert np.allclose(projections, 14 / np.cos(np.deg2rad(angles))[:, None, None], rtol=0.02)
    lone = project(volume, angles)
    assert lone[0, 0, 0] < 0.7 * projections[0, 0, 0]
    inner = np.zeros_like(volume)
    inner[8:16, :, 18:30] = rng.standard_normal((8, 3, 12))
    middle = slice(16, 32)
    assert np.allclose(
        project(inner, angles)[1:3, :, middle],
        project(inner, angles, beyond="mirror")[1:3, :, middle],
        atol=1e-4,
    )
