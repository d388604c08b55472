import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cryovox.simulate.scene import SceneConfig, build_scene
from cryovox.simulate.scene.filaments import cross_section, worm_like_chain

VOXEL = 10.0


def draw(seed=0, **settings):
    config = SceneConfig(**({"shape": (48, 80, 80), "voxel_size": VOXEL} | settings))
    return build_scene([], config, np.random.default_rng(seed))


def positions(scene, mask):
    return np.argwhere(mask) * VOXEL


def test_the_direction_of_a_chain_is_lost_over_the_persistence_length():
    rng = np.random.default_rng(0)
    cosines = []
    for _ in range(300):
        path = worm_like_chain(np.zeros(3), np.array([0.0, 0, 1]), 2000.0, 800.0, rng)
        tangents = path.frames[..., 2]
        cosines.append(tangents[0] @ tangents.T)
    arc = np.arange(len(cosines[0])) * 20.0
    assert np.abs(np.mean(cosines, 0) - np.exp(-arc / 800)).max() < 0.08


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(500, 1e7), st.floats(100, 3000))
def test_a_chain_is_a_curve_of_its_length_with_frames_along_it(seed, persistence, length):
    rng = np.random.default_rng(seed)
    middle = rng.uniform(0, 500, 3)
    path = worm_like_chain(middle, rng.standard_normal(3), length, persistence, rng)
    assert path.length == pytest.approx(length, abs=21)
    steps = np.diff(path.points, axis=0)
    assert np.linalg.norm(steps, axis=1).max() <= 20 + 1e-9
    assert np.allclose(path.frames.transpose(0, 2, 1) @ path.frames, np.eye(3), atol=1e-9)
    along = (steps * path.frames[:-1, :, 2]).sum(1) / np.linalg.norm(steps, axis=1)
    assert along.min() > 0.75
    assert np.linalg.norm(path.points - middle, axis=1).min() < 1e-6
    if persistence > 1e6:
        ends = np.linalg.norm(path.points[-1] - path.points[0])
        assert ends == pytest.approx(path.length, rel=1e-2)


def test_cylindrical_coordinates_of_a_straight_chain():
    path = worm_like_chain(np.zeros(3), np.array([1.0, 0, 0]), 400.0, 1e12, np.random.default_rng(0))
    points = np.array([[-150.0, 30, 0], [55.0, 0, 40], [55.0, 0, -40], [260, 0, 0]])
    radius, angle, along = path.cylindrical(points)
    assert radius == pytest.approx([30, 40, 40, 0], abs=1e-2)
    assert along == pytest.approx([50, 255, 255, 460], abs=1e-2)
    assert abs(angle[1] - angle[2]) == pytest.approx(np.pi, abs=1e-3)


def test_angles_are_right_handed_in_x_y_z():
    path = worm_like_chain(
        np.zeros(3), np.array([1.0, 0, 0]), 400.0, 1e12, np.random.default_rng(0)
    )  # along z
    turning = np.linspace(0, 2 * np.pi, 9)[:-1]
    circle = np.stack([0 * turning, np.sin(turning), np.cos(turning)], 1) * 50  # z, y, x: from x to y
    angle = np.unwrap(path.cylindrical(circle)[1])
    assert np.allclose(np.diff(angle), np.pi / 4, atol=1e-3)


def test_a_microtubule_has_thirteen_protofilaments_and_monomers_every_40_angstrom():
    angle = np.linspace(-np.pi, np.pi, 521)[:-1]
    radius, along = np.full(520, 100.0), np.full(520, 20.0)
    around = np.mean([cross_section("microtubule", radius, angle, along + k, 10.0)[1] for k in range(40)], 0)
    assert np.abs(np.fft.rfft(around - around.mean())).argmax() == 13
    line = np.arange(0, 400.0, 2.0)
    beads = cross_section("microtubule", np.full(200, 100.0), np.zeros(200), line, 10.0)[1]
    assert np.abs(np.fft.rfft(beads - beads.mean())).argmax() == 10
    ends = [
        cross_section("microtubule", radius[:1], np.array([a]), along[:1], 10.0)[1][0]
        for a in (-np.pi, np.pi)
    ]
    assert ends[0] == pytest.approx(ends[1])  # three monomers in a turn close the helix
    wall = cross_section("microtubule", np.array([60.0, 76, 100, 124, 140]), np.zeros(5), np.zeros(5), 10.0)[
        0
    ]
    assert (wall > 0.5).tolist() == [False, True, True, True, False]


def test_actin_strands_cross_over_every_360_angstrom_and_are_right_handed():
    angle = np.linspace(0, 2 * np.pi, 361)[:-1]
    radius = np.full(360, 30.0)
    thick = [
        cross_section("actin", radius, angle, np.full(360, s), 10.0)[0] for s in (0.0, 90.0, 180.0, 360.0)
    ]
    assert np.allclose(thick[0], thick[3])
    assert not np.allclose(thick[0], thick[2])
    assert np.abs(np.fft.rfft(thick[0] - thick[0].mean())).argmax() == 2
    assert np.allclose(np.roll(thick[0], 45), thick[1])  # later along the axis, further round


@pytest.mark.parametrize(("kind", "outer"), [("microtubule", 125.0), ("actin", 35.0)])
def test_filaments_follow_their_path_within_the_slab(kind, outer):
    scene = draw(slab=400.0, filaments={"count": 1, "kind": kind, "length": (500, 600)}, seed=1)
    (facts,) = scene.parameters["filaments"]
    ends = np.array(facts["path"])[[0, -1]]
    line = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    where = positions(scene, scene.labels == 1)
    away = np.linalg.norm(np.cross(where - ends[0], line), axis=1)
    assert len(where) > 50
    assert away.max() <= outer + VOXEL
    assert (away.min() > 65) == (kind == "microtubule")
    assert np.abs(where[:, 0] - 235).max() <= 200
    assert abs(np.rad2deg(np.arcsin(line[0]))) < 6
    assert set(np.unique(scene.instances)) == {0, facts["instance"]}
    assert len(scene.particles) == 0
    assert 1.0 < scene.potential.max() <= 3.0 + 1e-6


def test_a_long_microtubule_leaves_the_volume_at_both_ends():
    scene = draw(shape=(40, 64, 64), filaments={"count": 1, "inclination": 0.0, "length": (4000, 4000)})
    faces = [scene.labels[:, 0], scene.labels[:, -1], scene.labels[:, :, 0], scene.labels[:, :, -1]]
    assert sum(bool(face.any()) for face in faces) >= 2


def test_filaments_do_not_meet():
    scene = draw(seed=3, shape=(60, 80, 80), filaments={"count": 4, "kind": "actin"})
    result = scene.parameters["filaments"]
    assert len(result) >= 3
    for facts in result:
        around = ndimage.binary_dilation(scene.instances == facts["instance"])
        assert set(np.unique(scene.instances[around])) == {0, facts["instance"]}


@pytest.mark.parametrize("surface", [False, True])
def test_gold_beads(surface):
    scene = draw(slab=300.0, fiducials={"count": 5, "diameter": (80, 140), "surface": surface})
    beads = scene.particles.named("fiducial")
    result = scene.parameters["fiducials"]
    assert len(beads) == len(result) == 5
    for position, facts in zip(beads.positions, result, strict=True):
        mine = scene.instances == facts["instance"]
        volume = 4 / 3 * np.pi * facts["radius"] ** 3
        assert mine.sum() * VOXEL**3 == pytest.approx(volume, rel=0.08)
        assert np.abs(positions(scene, mine).mean(0) - position).max() < 1.5
        inner = np.linalg.norm(np.stack(np.indices(mine.shape), -1) * VOXEL - position, axis=-1)
        assert np.allclose(scene.potential[inner < facts["radius"] - VOXEL], 20.0)
        depth = abs(position[0] - 235)
        assert depth <= 150 - facts["radius"] + 1e-6
        if surface:
            assert depth == pytest.approx(150 - facts["radius"])
    total = sum(4 / 3 * np.pi * f["radius"] ** 3 for f in result)
    assert scene.potential.sum() * VOXEL**3 == pytest.approx(20 * total, rel=0.03)


def test_no_room_for_a_bead_larger_than_the_slab():
    scene = draw(slab=60.0, fiducials={"count": 2})
    assert scene.parameters["fiducials"] == []
    assert not scene.labels.any()


@pytest.mark.parametrize("seed", range(3))
def test_ice_sits_on_the_faces_of_the_slab(seed):
    scene = draw(seed, slab=200.0, slab_tilt=(5.0, 0.0), ice={"count": 3, "radius": (120, 160)})
    normal = np.array([np.cos(np.deg2rad(5)), -np.sin(np.deg2rad(5)), 0])
    middle = (np.array(scene.labels.shape) - 1) / 2 * VOXEL
    where = positions(scene, scene.labels == 1)
    assert len(where) > 100
    depth = np.abs((where - middle) @ normal)
    for facts in scene.parameters["ice"]:
        mine = positions(scene, scene.instances == facts["instance"])
        away = mine - facts["centre"]
        assert (away @ np.array(facts["planes"]).T <= np.array(facts["offsets"]) + 1e-3).all()
        assert abs(abs((np.array(facts["centre"]) - middle) @ normal) - 100) == pytest.approx(
            0.6 * facts["radius"]
        )
    assert depth.min() > 100
    assert depth.min() < 115
    assert scene.potential.max() <= 3 * 4.5 + 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_carbon_covers_its_part_of_the_field_beyond_a_round_hole(seed):
    scene = draw(seed, shape=(40, 100, 120), slab=300.0, carbon={"present": True, "hole": (900, 1200)})
    facts = scene.parameters["carbon"]
    film = (scene.labels == 1).any(0)
    assert film.mean() == pytest.approx(facts["cover"], abs=0.02)
    grid = np.stack(np.indices(film.shape), -1) * VOXEL
    away = np.linalg.norm(grid - facts["hole_centre"], axis=-1) - facts["hole"]
    assert np.array_equal(film[np.abs(away) > VOXEL], away[np.abs(away) > VOXEL] > 0)
    planes = positions(scene, scene.labels == 1)[:, 0]
    low = 195 - 150
    assert planes.min() >= low
    assert planes.max() <= low + facts["thickness"] + VOXEL / 2
    deep = scene.potential[(planes.min() / VOXEL).astype(int) + 3][film]
    assert deep.mean() == pytest.approx(5.0, abs=0.2)
    assert deep.std() == pytest.approx(1.0, abs=0.25)
    assert len(scene.particles) == 0


def test_nothing_is_drawn_in_carbon():
    scene = draw(
        slab=300.0,
        carbon={"present": True, "cover": (0.5, 0.5)},
        fiducials={"count": 6},
        filaments={"count": 1},
    )
    plain = draw(slab=300.0, carbon={"present": True, "cover": (0.5, 0.5)})
    carbon = plain.instances == plain.parameters["carbon"]["instance"]
    assert np.array_equal(scene.instances == scene.parameters["carbon"]["instance"], carbon)


def test_without_a_slab_ice_lies_at_top_and_bottom():
    scene = draw(1, ice={"count": 4, "radius": (120, 160)})
    assert scene.labels[[0, -1]].any()
    assert not scene.labels[17:31].any()
    assert scene.potential[scene.labels > 0].min() > 2.2
