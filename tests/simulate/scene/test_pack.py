import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryovox.simulate.config.scene import SceneConfig
from cryovox.simulate.particles.template import Template
from cryovox.simulate.scene.canvas import FREE, MATTER, OUTSIDE, Canvas
from cryovox.simulate.scene.pack import FreeSpace, fits, pack, place, target_counts
from cryovox.simulate.scene.prepared import dilate, prepare_template


def lumps(name="lumps", radius=60.0, voxel=10.0, n=19, axis=None):
    """Three soft balls of different sizes, centered; no symmetry."""
    grid = np.stack(np.meshgrid(*[(np.arange(n) - n // 2) * voxel] * 3, indexing="ij"), -1)
    centers = np.array([[0.5, 0, 0], [-0.3, 0.4, 0], [-0.2, -0.4, 0.2]]) * radius
    density = sum(
        weight * np.exp(-((grid - center) ** 2).sum(-1) / (2 * (0.24 * radius) ** 2))
        for weight, center in zip((1.0, 0.8, 0.6), centers, strict=True)
    )
    middle = np.array(ndimage.center_of_mass(density)) - n // 2
    density = ndimage.shift(density, -middle).astype(np.float32)
    support = density > 0.35
    far = np.linalg.norm(grid, axis=-1)[support].max()
    return Template(name, 3 * density, voxel, support, float(far), 100.0, axis=axis)


def turns(seed, n=1):
    return Rotation.random(n, random_state=seed).as_matrix()


def test_unturned_it_is_the_template():
    template = lumps()
    one = prepare_template(template, 1)
    drawn = one.density.rotated(np.eye(3), np.zeros(3))
    half, n = one.density.half, template.density.shape[0] // 2
    same = min(half, n)
    inner = (slice(half - same, half + same + 1),) * 3
    expected = template.density[(slice(n - same, n + same + 1),) * 3]
    assert np.abs(drawn[inner] - expected).max() < 2e-3 * template.density.max()
    assert one.mask(np.eye(3), np.zeros(3)).sum() == template.support.sum() == one.size


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.tuples(*[st.floats(-0.5, 0.5)] * 3))
def test_turning_and_shifting_keeps_mass_and_moves_the_center(seed, shift):
    template = lumps()
    one = prepare_template(template, 1)
    drawn = one.density.rotated(turns(seed)[0], np.array(shift)).astype(float)
    assert drawn.sum() == pytest.approx(template.density.sum(), rel=5e-3)
    center = np.array(ndimage.center_of_mass(drawn)) - one.density.half
    assert np.abs(center - shift).max() < 0.02
    # 84 voxels are nearly all surface: seed 0 with a shift of (0.5, 0.31, 0) gives 71 of them
    assert one.mask(turns(seed)[0], np.array(shift)).sum() == pytest.approx(one.size, rel=0.25)


def test_a_quarter_turn_moves_voxels_as_the_rotation_says():
    density = np.zeros((9, 9, 9), np.float32)
    density[4, 4, 4:7] = 1  # along +x
    one = prepare_template(Template("rod", density, 10.0, density > 0.5, 20.0, 1.0), 1)
    about_z = Rotation.from_euler("z", 90, degrees=True).as_matrix()  # x goes to y
    half = one.support.half
    assert np.argwhere(one.mask(about_z, np.zeros(3))).tolist() == [[half, half + k, half] for k in range(3)]
    about_y = Rotation.from_euler("y", -90, degrees=True).as_matrix()  # x goes to z
    assert np.argwhere(one.mask(about_y, np.zeros(3))).tolist() == [[half + k, half, half] for k in range(3)]


@pytest.mark.parametrize("seed", range(3))
def test_a_body_that_fills_its_cube_to_the_corners_is_not_cut(seed):
    support = np.ones((9, 9, 9), bool)
    one = prepare_template(Template("cube", support.astype(np.float32), 10.0, support, 70.0, 1.0), 1)
    assert one.mask(turns(seed)[0], np.zeros(3)).sum() == pytest.approx(729, rel=0.06)


def test_a_margin_too_small_is_an_error():
    canvas = Canvas(SceneConfig(shape=(20, 20, 20)), margin=3)
    with pytest.raises(ValueError, match="margin"):
        pack(canvas, [prepare_template(lumps(), 1)], {"lumps": 1}, 1, np.random.default_rng(0))


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_growing_is_dilation(steps):
    mask = np.random.default_rng(0).random((9, 9, 9)) > 0.97
    padded = np.pad(mask, steps)
    expected = ndimage.binary_dilation(padded, iterations=steps) if steps else padded
    assert np.array_equal(dilate(mask, steps), expected)


def test_how_many_are_wanted():
    small, large = prepare_template(lumps("small", 30.0), 1), prepare_template(lumps("large", 60.0), 2)
    assert target_counts([small, large], {"small": 3}, None, None, 10**6) == {"small": 3, "large": 0}
    number = target_counts([small, large], {}, None, 0.1, 10**6)
    assert number["small"] == number["large"]
    assert number["small"] * (small.size + large.size) == pytest.approx(1e5, rel=0.01)
    number = target_counts([small, large], {"small": 5}, {"large": 2.0}, 0.1, 10**6)
    assert number["small"] == 5
    assert number["large"] * large.size + 5 * small.size == pytest.approx(1e5, rel=0.01)
    assert target_counts([small], {"small": 10**5}, None, 0.1, 10**6) == {"small": 10**5}


@pytest.mark.parametrize("size", [30, 108])
def test_the_map_of_room_never_rules_out_a_place_that_is_free(size):
    canvas = Canvas(SceneConfig(shape=(size, size, size)), margin=3)
    rng = np.random.default_rng(0)
    where = rng.integers(0, size, (size // 2, 3))
    canvas.occupancy[tuple(where.T)] = MATTER
    space, radius = FreeSpace(canvas), 4.0
    assert space.step == (1 if size == 30 else 2)
    truly = ndimage.distance_transform_edt(np.pad(canvas.occupancy == FREE, 1))[1:-1, 1:-1, 1:-1] > radius
    assert truly.any()
    assert not truly.all()
    drawn = space.sample(radius, 200_000 if size == 30 else 400_000, rng)
    offered = np.zeros(canvas.shape, bool)
    offered[tuple(drawn.T)] = True
    if size == 30:
        assert not (truly & ~offered).any()
    else:  # too many to be drawn, all; those that are not are next to those that are
        assert not (truly & ~ndimage.binary_dilation(offered, np.ones((3, 3, 3)), iterations=2)).any()
    assert offered.mean() < 0.9


def test_no_place_is_offered_where_all_is_taken():
    canvas = Canvas(SceneConfig(shape=(20, 20, 20)), margin=9)
    canvas.occupancy[:] = MATTER
    assert len(FreeSpace(canvas).sample(2.0, 10, np.random.default_rng(0))) == 0
    assert pack(canvas, [prepare_template(lumps(), 1)], {"lumps": 3}, 1, np.random.default_rng(0)) == []


def test_fits_looks_at_every_voxel_and_no_other():
    canvas = Canvas(SceneConfig(shape=(12, 12, 12)), margin=4)
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = mask[4, 2, 2] = True
    center = np.array([5, 5, 5])
    assert fits(canvas, mask, center)
    canvas.occupancy[6, 5, 5] = MATTER
    assert fits(canvas, mask, center)
    canvas.occupancy[7, 5, 5] = MATTER
    assert not fits(canvas, mask, center)
    assert not fits(canvas, mask, np.array([11, 5, 5]))  # beyond the volume
    assert not fits(canvas, mask, np.array([40, 5, 5]))  # beyond the grid


def test_a_particle_over_the_edge_is_drawn_as_far_as_it_is_inside():
    template = lumps()
    one = prepare_template(template, 7)
    canvas = Canvas(SceneConfig(shape=(30, 30, 30), cut=True), margin=one.support.half + 2)
    pose = turns(0)[0], np.zeros(3)
    placed = place(canvas, one, pose, np.array([15, 0, 29]), one.coverage(*pose))
    assert (canvas.labels == 7).sum() == placed.voxels < one.size
    whole = one.density.rotated(*pose)
    half = one.density.half
    part = whole[:, half:, : half + 1]
    assert np.allclose(canvas.potential[15 - half : 16 + half, : half + 1, 29 - half :], part, atol=1e-6)
    assert canvas.potential.sum() == pytest.approx(part.sum(), rel=1e-5)


def test_bulk_counts_what_is_hollow_as_large():
    away = np.linalg.norm(np.stack(np.indices((19, 19, 19)), -1) - 9, axis=-1)
    solid, shell, small = away < 8, (away < 8) & (away > 6), away < 5
    bulk = [
        prepare_template(Template("x", s.astype(np.float32), 10.0, s, 80.0, 1.0), 1).bulk
        for s in (solid, shell, small)
    ]
    assert bulk[0] == pytest.approx((8**2 / 5) ** 1.5, rel=0.05)
    assert bulk[1] > bulk[0] > bulk[2]
    one = np.zeros((5, 5, 5), bool)
    one[2, 2, 2] = True
    assert prepare_template(
        Template("x", one.astype(np.float32), 10.0, one, 5.0, 1.0), 1
    ).bulk == pytest.approx(12**-1.5)


@pytest.mark.parametrize("gap", [0, 1, 3])
def test_particles_keep_their_distance(gap):
    one = prepare_template(lumps(), 1)
    canvas = Canvas(SceneConfig(shape=(40, 40, 40)), margin=one.support.half + gap + 1)
    placed = pack(canvas, [one], {"lumps": 25}, gap, np.random.default_rng(0))
    assert len(placed) > 10
    for other in placed:
        mine = canvas.instances == other.instance
        around = ndimage.binary_dilation(mine, iterations=gap) if gap else mine
        assert set(np.unique(canvas.instances[around])) <= {0, other.instance}


def test_many_objects_need_wider_numbers():
    canvas = Canvas(SceneConfig(shape=(4, 4, 4)), margin=1)
    canvas.assign(np.array([3]), 1, canvas.new_instance())
    assert canvas.instances.dtype == np.uint16
    for _ in range(2**16 - 1):
        last = canvas.new_instance()
    canvas.assign(np.array([5]), 1, last)
    assert canvas.instances.dtype == np.uint32
    assert canvas.instances.reshape(-1)[[3, 5]].tolist() == [1, 2**16]


def test_the_margin_is_closed_unless_particles_may_be_cut():
    closed, open_ = (Canvas(SceneConfig(shape=(6, 8, 8), cut=cut), margin=2) for cut in (False, True))
    assert (closed.grid[:2] == OUTSIDE).all()
    assert (closed.grid[:, :2] == OUTSIDE).all()
    assert (open_.grid[:2] == OUTSIDE).all()
    assert (open_.grid[2:-2] == FREE).all()
