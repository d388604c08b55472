import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from cryovox.inference.rotation_grid import rotation_grid
from cryovox.simulate.particles.beads import point_group


def farthest(grid, group="C1", count=1500):
    """Largest angle in degrees of random rotations from the grid, modulo symmetry."""
    random = Rotation.random(count, random_state=0).as_matrix()
    traces = [
        np.einsum("nij,rij->nr", random @ turn.T, grid, optimize=True).max(axis=1)
        for turn in point_group(group)
    ]
    return np.degrees(np.arccos(np.clip((np.max(traces, axis=0) - 1) / 2, -1, 1))).max()


@pytest.mark.parametrize("step", [38.8, 21.1, 19])
def test_every_rotation_is_within_the_step(step):
    """The vertices of the Voronoi cells on the sphere of quaternions are the farthest of all."""
    quaternions = Rotation.from_matrix(rotation_grid(step)).as_quat()
    hull = ConvexHull(np.concatenate([quaternions, -quaternions]))
    radius = 2 * np.arccos(np.clip((-hull.equations[:, -1]).min(), -1, 1))
    assert np.degrees(radius) <= step


@pytest.mark.parametrize("step", [15, 12.8, 9.6])
def test_random_rotations_are_within_finer_steps(step):
    assert farthest(rotation_grid(step), count=300) <= step


@pytest.mark.parametrize("group", ["C2", "C3", "C4", "C7", "D2", "D3", "D7", "T", "O", "I"])
def test_symmetry_leaves_fewer_rotations_that_still_cover(group):
    whole, reduced = rotation_grid(30), rotation_grid(30, group)
    assert len(reduced) < len(whole)
    assert farthest(reduced, group, 500) <= 30


@pytest.mark.parametrize("group", ["C2", "C4", "D2", "D4", "T", "O"])
def test_groups_of_the_cube_reduce_by_their_order(group):
    assert len(rotation_grid(30, group)) * len(point_group(group)) == len(rotation_grid(30))


def test_rotations_are_proper_and_distinct():
    grid = rotation_grid(30)
    assert np.allclose(np.linalg.det(grid), 1)
    traces = np.einsum("aij,bij->ab", grid, grid)
    np.fill_diagonal(traces, -1)
    assert traces.max() < 2.99
