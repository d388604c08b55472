import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, optimize, stats
from scipy.spatial.transform import Rotation

from cryovox.core.config import from_yaml, to_yaml, validated
from cryovox.core.errors import RequestError
from cryovox.simulate.particles.template import Template
from cryovox.simulate.scene import SceneConfig, build_scene
from cryovox.simulate.scene.prepared import prepare_template

VOXEL = 10.0
BALLS = np.array([[35.0, 0, 0], [-20, 25, 5], [-15, -25, -20], [0, 0, 30]])
WEIGHTS = np.array([1.0, 0.8, 0.9, 0.7])
SIGMA = 14.0
BALLS = BALLS - (WEIGHTS @ BALLS) / WEIGHTS.sum()


def closed_form(points, center, turn):
    """Density at points (..., 3) x, y, z of four Gaussians at ``center + turn @ ball``."""
    away = points[..., None, :] - (center + BALLS @ turn.T)
    return 3 * np.exp(-(away**2).sum(-1) / (2 * SIGMA**2)) @ WEIGHTS


def xyz(shape, voxel=VOXEL):
    grid = np.meshgrid(*(np.arange(n) * voxel for n in shape), indexing="ij")
    return np.stack(grid[::-1], -1)


def lumps(name="lumps", n=19, **more):
    points = xyz((n, n, n)) - n // 2 * VOXEL
    density = closed_form(points, np.zeros(3), np.eye(3)).astype(np.float32)
    support = density > 1.0
    radius = np.linalg.norm(points, axis=-1)[support].max()
    return Template(name, density, VOXEL, support, float(radius), 100.0, **more)


def ball(name, radius, n=None):
    n = n or 2 * int(radius / VOXEL + 2) + 1
    away = np.linalg.norm(xyz((n, n, n)) - n // 2 * VOXEL, axis=-1)
    density = 3 / (1 + np.exp((away - radius) / 4))
    return Template(name, density.astype(np.float32), VOXEL, away < radius, radius, 100.0)


def draw(templates, seed=0, **settings):
    config = SceneConfig(**({"shape": (40, 48, 56), "voxel_size": VOXEL} | settings))
    return build_scene(templates, config, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def crowd():
    return draw([lumps(), ball("ball", 40.0)], seed=1, counts={"lumps": 25, "ball": 25})


def fitted(scene, i):
    """Fit a pose to the potential around a particle, from a start that is off."""
    truth, turn = scene.particles.positions[i][::-1], scene.particles.rotations[i]
    points = xyz(scene.potential.shape)
    near = np.linalg.norm(points - truth, axis=-1) < 80
    start = (Rotation.from_matrix(turn) * Rotation.from_rotvec([0.1, 0, -0.1])).as_rotvec()
    result = optimize.least_squares(
        lambda p: (
            closed_form(points[near], p[:3], Rotation.from_rotvec(p[3:]).as_matrix()) - scene.potential[near]
        ),
        np.concatenate([truth + np.array([3, -3, 2]), start]),
    )
    return result.x[:3], Rotation.from_rotvec(result.x[3:]).as_matrix(), truth, turn


def test_poses_are_those_of_the_potential():
    scene = draw([lumps()], counts={"lumps": 4}, gap=8)
    assert len(scene.particles) == 4
    fractions = scene.particles.positions / VOXEL % 1
    assert np.abs(fractions - 0.5).max() < 0.5
    for i in range(4):
        center, turn, true_center, true_turn = fitted(scene, i)
        assert np.abs(center - true_center).max() < 0.02 * VOXEL
        assert np.rad2deg(Rotation.from_matrix(turn.T @ true_turn).magnitude()) < 0.3


def test_the_potential_is_the_sum_of_the_particles():
    scene = draw([lumps()], counts={"lumps": 12}, seed=3)
    points = xyz(scene.potential.shape)
    expected = sum(
        closed_form(points, p[::-1], r)
        for p, r in zip(scene.particles.positions, scene.particles.rotations, strict=True)
    )
    assert np.abs(scene.potential - expected).max() < 0.03 * expected.max()


def test_labels_are_the_turned_supports():
    scene = draw([lumps()], counts={"lumps": 6}, seed=4)  # of 137 voxels each, most at the surface
    points = xyz(scene.potential.shape)
    inside = [
        closed_form(points, p[::-1], r) > 1.0
        for p, r in zip(scene.particles.positions, scene.particles.rotations, strict=True)
    ]
    for mask, identity in zip(inside, scene.parameters["particles"]["instance"], strict=True):
        mine = scene.instances == identity
        assert 2 * (mask & mine).sum() / (mask.sum() + mine.sum()) > 0.8


def test_no_voxel_lies_in_two_supports(crowd):
    stamps = {one.name: prepare_template(one, 1) for one in (lumps(), ball("ball", 40.0))}
    count = np.zeros(np.array(crowd.labels.shape) + 40, int)
    for position, turn, name in zip(
        crowd.particles.positions, crowd.particles.rotations, crowd.particles.species, strict=True
    ):
        exact = position / VOXEL
        center = np.rint(exact).astype(int)
        mask = stamps[name].mask(turn, exact - center)
        low = center - mask.shape[0] // 2 + 20
        count[tuple(slice(a, a + mask.shape[0]) for a in low)] += mask
    assert count.max() == 1
    assert np.array_equal(count[20:-20, 20:-20, 20:-20] == 1, crowd.labels > 0)
    assert count.sum() == (crowd.labels > 0).sum()


def test_labels_instances_and_particles_agree(crowd):
    assert np.array_equal(crowd.labels > 0, crowd.instances > 0)
    label = {one.name: one.label for one in crowd.species}
    identities = crowd.parameters["particles"]["instance"]
    assert sorted(identities) == list(range(1, len(crowd.particles) + 1))
    centers = ndimage.center_of_mass(crowd.labels > 0, crowd.instances, identities)
    for identity, name, center, position in zip(
        identities, crowd.particles.species, centers, crowd.particles.positions, strict=True
    ):
        assert set(np.unique(crowd.labels[crowd.instances == identity])) == {label[name]}
        assert np.linalg.norm(np.array(center) * VOXEL - position) < 1.2 * VOXEL


def test_particles_lie_inside_with_a_gap(crowd):
    for axis in range(3):
        ends = np.moveaxis(crowd.labels, axis, 0)[[0, -1]]
        assert not ends.any()


def test_cut_particles_cross_the_sides_but_not_top_and_bottom():
    scene = draw([ball("ball", 60.0)], counts={"ball": 20}, cut=True)
    assert scene.labels[:, [0, -1]].any()
    assert scene.labels[:, :, [0, -1]].any()
    assert not scene.labels[[0, -1]].any()
    high = (np.array(scene.labels.shape) - 0.5) * VOXEL
    assert ((scene.particles.positions >= -0.5 * VOXEL) & (scene.particles.positions <= high)).all()


@settings(max_examples=6, deadline=None)
@given(st.floats(-15, 15), st.floats(-15, 15), st.integers(0, 1000))
def test_all_lies_in_the_tilted_slab(about_x, about_y, seed):
    a, b = np.deg2rad([about_x, about_y])
    # z turned about x by a, then about y by b
    x, y, z = np.cos(a) * np.sin(b), -np.sin(a), np.cos(a) * np.cos(b)
    scene = draw(
        [ball("ball", 35.0)],
        seed,
        slab=160.0,
        slab_center=210.0,
        slab_tilt=(about_x, about_y),
        counts={"ball": 20},
    )
    assert len(scene.particles) > 5
    middle = (np.array(scene.labels.shape) - 1) / 2 * VOXEL
    middle[0] = 210.0
    depth = (np.argwhere(scene.labels) * VOXEL - middle) @ [z, y, x]
    assert np.abs(depth).max() <= 80 + 1e-6


def test_a_slab_too_thin_holds_nothing_and_says_so():
    scene = draw([ball("ball", 60.0)], slab=60.0, counts={"ball": 3})
    assert not scene.labels.any()
    assert scene.parameters["wanted"] == {"ball": 3}
    assert scene.parameters["placed"] == {"ball": 0}


@pytest.mark.parametrize("occupancy", [0.1, 0.2])
def test_the_occupancy_asked_for_is_reached(occupancy):
    templates = [lumps(), ball("ball", 40.0), ball("large", 60.0)]
    scene = draw(templates, occupancy=occupancy, species={"lumps": 1.0, "ball": 2.0, "large": 1.0})
    assert scene.parameters["occupancy"] == pytest.approx(occupancy, rel=0.08)
    assert (scene.labels > 0).mean() == pytest.approx(scene.parameters["occupancy"])
    placed = scene.parameters["placed"]
    assert abs(placed["ball"] - 2 * placed["lumps"]) <= 2


def test_what_finds_no_room_is_reported():
    scene = draw([ball("ball", 50.0)], occupancy=0.55)
    result = scene.parameters
    assert result["placed"]["ball"] < result["wanted"]["ball"]
    assert len(scene.particles) == result["placed"]["ball"]
    assert (scene.labels > 0).mean() == pytest.approx(result["occupancy"])
    assert result["occupancy"] > 0.15


def test_occupancy_is_that_of_the_slab():
    scene = draw([ball("ball", 35.0)], slab=200.0, occupancy=0.15)
    in_slab = scene.labels[9:30]
    assert (scene.labels > 0).sum() / (20 * 48 * 56) == pytest.approx(scene.parameters["occupancy"], rel=1e-6)
    assert scene.parameters["occupancy"] == pytest.approx(0.15, rel=0.1)
    assert (in_slab > 0).sum() == (scene.labels > 0).sum()


def test_rotations_are_uniform_and_places_spread_out():
    scene = draw([ball("tiny", 12.0, n=9)], shape=(60, 60, 60), counts={"tiny": 400}, gap=0)
    turns = scene.particles.rotations
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(turns), 1)
    for i, j in np.ndindex(3, 3):
        assert stats.kstest(turns[:, i, j], "uniform", (-1, 2)).pvalue > 1e-4
    for axis in range(3):
        p = scene.particles.positions[:, axis] / VOXEL
        assert stats.kstest(p, "uniform", (1.5, 56)).pvalue > 1e-4


def test_the_same_generator_gives_the_same_scene():
    everything = {
        "shape": (40, 64, 64),
        "slab": 300.0,
        "counts": {"lumps": 4},
        "vesicles": {"count": 1, "radius": (80, 90)},
        "sheets": {"count": 1},
        "filaments": {"count": 1, "kind": "actin"},
        "fiducials": {"count": 1, "diameter": (60, 70)},
        "ice": {"count": 1, "radius": (60, 70)},
        "carbon": {"present": True},
    }
    one, two, other = (
        draw([lumps()], 3, **everything),
        draw([lumps()], 3, **everything),
        draw([lumps()], 4, **everything),
    )
    assert np.array_equal(one.potential, two.potential)
    assert np.array_equal(one.instances, two.instances)
    assert one.parameters == two.parameters
    assert not np.array_equal(one.potential, other.potential)
    names = ["lumps", "membrane", "filament", "fiducial", "ice", "carbon"]
    assert [s.name for s in one.species] == names
    assert [s.label for s in one.species] == [1, 2, 3, 4, 5, 6]
    assert set(np.unique(one.labels)) <= set(range(7))
    assert json.loads(json.dumps(one.parameters)) == one.parameters
    result = [
        one.parameters["carbon"],
        *one.parameters["ice"],
        *one.parameters["sheets"],
        *one.parameters["vesicles"],
    ]
    result += [*one.parameters["filaments"], *one.parameters["fiducials"]]
    known = [part["instance"] for part in result] + one.parameters["particles"]["instance"]
    assert set(known) == set(range(1, one.parameters["objects"] + 1))
    assert set(np.unique(one.instances)) - {0} <= set(known)
    assert one.potential.dtype == np.float32
    assert one.labels.dtype == np.uint8
    assert np.isfinite(one.potential).all()


def test_an_empty_scene():
    scene = draw([])
    assert not scene.potential.any()
    assert len(scene.particles) == 0
    assert scene.species == ()


@pytest.mark.parametrize(
    ("templates", "settings", "message"),
    [
        ([lumps()], {"counts": {"lump": 1}}, "lump"),
        ([lumps()], {"species": {"other": 1.0}}, "other"),
        ([lumps()], {"voxel_size": 8.0}, "8"),
        ([lumps(), lumps()], {}, "lumps"),
        ([Template("void", np.ones((3, 3, 3)), VOXEL, np.zeros((3, 3, 3), bool), 1.0, 1.0)], {}, "void"),
        ([lumps("membrane")], {}, "membrane"),
        ([lumps(axis=np.array([0, 0, 1.0]))], {"counts": {"lumps": 1}}, "membranes"),
    ],
)
def test_what_cannot_be_is_refused(templates, settings, message):
    with pytest.raises(RequestError, match=message):
        draw(templates, **settings)


@pytest.mark.parametrize(
    "values",
    [{"slab_tilt": [3, 0]}, {"counts": {"a": -1}}, {"shape": [0, 3, 3]}, {"gap": -1}, {"vesicle": {}}],
)
def test_senseless_settings_are_refused(values):
    with pytest.raises(RequestError):
        validated(SceneConfig, values, "here")


def test_settings_go_to_yaml_and_back(tmp_path):
    config = SceneConfig(slab=900.0, counts={"a": 3}, vesicles={"count": 2}, filaments={"kind": "actin"})
    (tmp_path / "scene.yaml").write_text(to_yaml(config))
    assert from_yaml(SceneConfig, tmp_path / "scene.yaml") == config
