from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, optimize
from scipy.signal import find_peaks

from cryovox.simulate.particles.template import Template
from cryovox.simulate.scene import SceneConfig, build_scene
from cryovox.simulate.scene.membranes import align_axis, bilayer_profile, half_width
from cryovox.simulate.scene.surfaces import project_onto, random_curved_sheet, random_deformed_sphere

VOXEL = 10.0
AXIS = np.array([2.0, 1.0, 2.0]) / 3
"""x, y, z"""


def anchored(name="anchor", height=30.0, n=13):
    """A cone of balls along `AXIS`, so that its direction shows."""
    grid = np.stack(np.meshgrid(*[(np.arange(n) - n // 2) * VOXEL] * 3, indexing="ij")[::-1], -1)
    density = sum(
        np.exp(-((grid - along * AXIS) ** 2).sum(-1) / (2 * width**2))
        for along, width in ((-30.0, 10.0), (-5.0, 13.0), (15.0, 16.0))
    ).astype(np.float32)
    far = np.linalg.norm(grid, axis=-1)
    density[far > (n // 2) * VOXEL] = 0
    support = density > 0.5
    return Template(
        name, 3 * density, VOXEL, support, float(far[support].max()), 50.0, axis=AXIS, height=height
    )


def draw(templates=(), seed=0, **settings):
    config = SceneConfig(**({"shape": (64, 72, 72), "voxel_size": VOXEL} | settings))
    return build_scene(list(templates), config, np.random.default_rng(seed))


@pytest.mark.parametrize("voxel", [2.0, 10.0, 14.0])
def test_the_profile_has_two_leaflets_and_the_same_integral_at_any_voxel(voxel):
    away = np.linspace(-120, 120, 4801)
    profile = bilayer_profile(away, 40.0, voxel)
    heads = 2 * 2.5 * 5.0 - 0.4 * 9.0
    assert np.trapezoid(profile, away) == pytest.approx(heads * np.sqrt(2 * np.pi), rel=1e-4)
    assert np.allclose(profile, profile[::-1])
    peaks = away[find_peaks(profile)[0]]
    assert len(peaks) == 2
    assert np.abs(np.abs(peaks) - 20).max() < 2


def test_at_high_resolution_heads_and_core_have_their_potentials():
    profile = bilayer_profile(np.array([20.0, 0.0]), 40.0, 1.0)
    assert profile[0] == pytest.approx(2.5, abs=0.1)
    assert -0.5 < profile[1] < 0


@pytest.mark.parametrize("voxel", [2.0, 31.0])
def test_unresolved_proteins_add_their_mass_to_a_membrane(voxel):
    """As much potential per dalton as templates have, 4.08 V·Å³; lipids weigh 2 * 760 Da per 66 Å²."""
    away = np.linspace(-400, 400, 16001)
    added = bilayer_profile(away, 40.0, voxel, protein=1.0) - bilayer_profile(away, 40.0, voxel)
    assert np.trapezoid(added, away) == pytest.approx(4.08 * 2 * 760 / 66, rel=0.01)
    twice = bilayer_profile(away, 40.0, voxel, protein=2.0) - bilayer_profile(away, 40.0, voxel)
    assert twice == pytest.approx(2 * added)


@pytest.mark.parametrize("kind", ["vesicles", "sheets"])
def test_unresolved_proteins_change_the_potential_and_nothing_else(kind):
    bare, rich = (draw(seed=3, **{kind: {"count": 1, "protein_mass": protein}}) for protein in (0.0, 1.0))
    assert (bare.labels == rich.labels).all()
    assert (bare.labels > 0).any()
    assert rich.potential.sum() == pytest.approx(bare.potential.sum() * (1 + 94.0 / 53.6), rel=0.1)


def independent(surface):
    """A vesicle's radius by direction, from what was drawn."""

    def value(point):
        away = point - surface.center
        u = away / np.linalg.norm(away)
        bulge = u @ surface.order_2 @ u + np.einsum("ijk,i,j,k", surface.order_3, u, u, u)
        return np.linalg.norm(away) - surface.radius * (1 + bulge)

    return value


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(100, 600), st.floats(0, 0.2), st.floats(-30, 30))
def test_the_normal_of_a_vesicle_is_the_gradient(seed, radius, bulge, off):
    rng = np.random.default_rng(seed)
    surface = random_deformed_sphere(np.array([300.0, 200.0, 250.0]), radius, bulge, rng)
    direction = rng.standard_normal(3)
    start = surface.center + direction / np.linalg.norm(direction) * (radius + off)
    spots, normals = project_onto(surface, start[None])
    value = independent(surface)
    assert abs(value(spots[0])) < 1e-3
    gradient = optimize.approx_fprime(spots[0], value, 1e-4)
    gradient /= np.linalg.norm(gradient)
    assert np.rad2deg(np.arccos(min(gradient @ normals[0], 1))) < 0.1
    away = surface.distance((spots[0] + 20 * normals[0])[None])[0]
    assert away == pytest.approx(20, abs=1.5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 0.2))
def test_bulges_are_harmonics_of_the_size_asked_for(seed, bulge):
    surface = random_deformed_sphere(np.zeros(3), 300.0, bulge, np.random.default_rng(seed))
    assert abs(np.trace(surface.order_2)) < 1e-12
    assert np.abs(np.einsum("iik->k", surface.order_3)).max() < 1e-12
    assert np.allclose(surface.order_3, surface.order_3.transpose(2, 0, 1))
    u = np.random.default_rng(1).standard_normal((3000, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    off = ((u @ surface.order_2) * u).sum(1) + np.einsum("ijk,ni,nj,nk->n", surface.order_3, u, u, u)
    assert 0.3 * bulge < np.abs(off).max() < 1.05 * bulge
    assert abs(off.mean()) < 0.06 * bulge  # harmonics have mean 0


def test_deep_inside_a_vesicle_there_is_no_surface():
    surface = random_deformed_sphere(np.zeros(3), 300.0, 0.2, np.random.default_rng(0))
    points = np.random.default_rng(1).uniform(-60, 60, (2000, 3))
    assert (surface.distance(points) < -80).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-0.005, 0.005))
def test_distances_from_a_sheet_are_exact(seed, curvature):
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(3)
    normal /= np.linalg.norm(normal)
    center = rng.uniform(0, 500, 3)
    surface = random_curved_sheet(center, normal, curvature, rng)
    assert surface.distance(center[None])[0] == pytest.approx(0, abs=1e-6)
    assert surface.distance_and_normal(center[None])[1][0] == pytest.approx(normal)
    assert surface.distance((center + 30 * normal)[None])[0] == pytest.approx(30)
    assert surface.distance((center + 70 * surface.axis)[None])[0] == pytest.approx(0, abs=1e-6)
    across = np.cross(normal, surface.axis)
    # on the circle of that curvature about the axis
    angle = 100 * curvature
    there = (
        center + np.sin(angle) / curvature * across + (np.cos(angle) - 1) / curvature * normal
        if abs(curvature) > 1e-6
        else center + 100 * across
    )
    assert surface.distance(there[None])[0] == pytest.approx(0, abs=0.02)


def test_a_vesicle_has_two_leaflets_around_its_center():
    scene = draw(vesicles={"count": 1, "radius": (200, 210), "bulge": 0.0})
    facts = scene.parameters["vesicles"][0]
    assert scene.particles.species.tolist() == ["membrane"]
    assert scene.particles.positions[0].tolist() == facts["centre"]
    assert np.array_equal(scene.particles.rotations[0], np.eye(3))
    away = np.linalg.norm(np.stack(np.indices(scene.labels.shape), -1) * VOXEL - facts["centre"], axis=-1)
    bins = np.arange(facts["radius"] - 60, facts["radius"] + 60, 4.0)
    middle = (bins[1:] + bins[:-1]) / 2
    mean = np.array([scene.potential[(away >= a) & (away < b)].mean() for a, b in pairwise(bins)])
    peaks = middle[find_peaks(mean, height=1.0)[0]] - facts["radius"]
    assert len(peaks) == 2
    assert np.abs(peaks - [-20, 20]).max() < 4
    assert np.array_equal(scene.labels == 1, np.abs(away - facts["radius"]) <= half_width(40.0))
    assert np.array_equal(scene.instances == facts["instance"], scene.labels == 1)
    assert facts["area"] == pytest.approx(
        4
        * np.pi
        * facts["radius"] ** 2
        * (scene.labels == 1).sum()
        * VOXEL**3
        / (4 / 3 * np.pi * sum(s * (facts["radius"] + s * half_width(40.0)) ** 3 for s in (1, -1))),
        rel=0.05,
    )


@pytest.mark.parametrize("seed", range(3))
def test_vesicles_lie_in_the_slab_and_apart(seed):
    scene = draw(
        seed=seed,
        shape=(64, 120, 120),
        slab=500.0,
        slab_tilt=(4.0, 0.0),
        vesicles={"count": 6, "radius": (100, 180)},
    )
    result = scene.parameters["vesicles"]
    assert len(result) >= 3
    normal = np.array([np.cos(np.deg2rad(4)), -np.sin(np.deg2rad(4)), 0])
    middle = (np.array(scene.labels.shape) - 1) / 2 * VOXEL
    where = np.argwhere(scene.labels) * VOXEL
    assert np.abs((where - middle) @ normal).max() <= 250
    for facts in result:
        mine = scene.instances == facts["instance"]
        around = ndimage.binary_dilation(mine)
        assert set(np.unique(scene.instances[around])) == {0, facts["instance"]}


def test_vesicles_that_may_not_be_cut_are_whole():
    scene = draw(vesicles={"count": 4, "radius": (80, 150), "cut": False})
    for axis in range(3):
        assert not np.moveaxis(scene.labels, axis, 0)[[0, -1]].any()
    shells = ndimage.label(scene.labels == 0)[1]
    assert shells == 1 + len(scene.parameters["vesicles"]) > 2  # each closes off its inside


def test_vesicles_too_large_for_the_slab_are_left_out():
    scene = draw(slab=200.0, vesicles={"count": 2, "radius": (150, 200)})
    assert scene.parameters["vesicles"] == []
    assert not scene.potential.any()
    assert [s.name for s in scene.species] == ["membrane"]


@pytest.mark.parametrize("seed", range(3))
def test_sheets_cross_the_slab_from_face_to_face(seed):
    scene = draw(seed=seed, slab=400.0, sheets={"count": 1, "curvature": (0, 1e-3)})
    (facts,) = scene.parameters["sheets"]
    planes = np.flatnonzero(scene.labels.any((1, 2)))
    assert planes[0] == 12
    assert planes[-1] == 51
    assert len(planes) == 40
    normal = np.array(facts["normal"])
    assert abs(np.rad2deg(np.arcsin(normal[0]))) <= 35
    assert len(scene.particles) == 0
    assert not scene.potential[:12].any()


def test_sheets_do_not_meet():
    scene = draw(seed=2, sheets={"count": 3, "inclination": 0.0, "curvature": (0, 0)}, shape=(32, 120, 120))
    result = scene.parameters["sheets"]
    assert len(result) >= 2
    one = scene.instances == result[0]["instance"]
    assert not (ndimage.binary_dilation(one) & (scene.instances > 0) & ~one).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 6.3))
def test_upright_takes_the_axis_to_the_normal(seed, spin):
    axis, normal = np.random.default_rng(seed).standard_normal((2, 3))
    axis, normal = axis / np.linalg.norm(axis), normal / np.linalg.norm(normal)
    turn = align_axis(axis, normal, spin)
    assert np.allclose(turn @ axis, normal)
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)


@pytest.fixture(scope="module")
def studded():
    return draw(
        [anchored()],
        seed=1,
        shape=(64, 96, 96),
        vesicles={"count": 2, "radius": (180, 220), "bulge": 0.15},
        membrane_proteins=3000.0,
    )


def test_proteins_stand_on_the_membrane_along_its_normal(studded):
    proteins = studded.particles.named("anchor")
    assert len(proteins) > 15
    for position, turn in zip(proteins.positions, proteins.rotations, strict=True):
        fits = []
        for facts in studded.parameters["vesicles"]:
            u0 = position - facts["centre"]
            second, third = np.array(facts["order_2"]), np.array(facts["order_3"])

            def value(point, facts=facts, second=second, third=third):
                away = point - np.array(facts["centre"])
                u = away / np.linalg.norm(away)
                bulge = u @ second @ u + np.einsum("ijk,i,j,k", third, u, u, u)
                return np.linalg.norm(away) - facts["radius"] * (1 + bulge)

            foot = position - 30.0 * (turn @ AXIS)[::-1]
            gradient = optimize.approx_fprime(foot, value, 1e-4)
            gradient /= np.linalg.norm(gradient)
            angle = np.rad2deg(np.arccos(min(gradient @ (turn @ AXIS)[::-1], 1)))
            fits.append((abs(value(foot)), angle, np.linalg.norm(u0)))
        off, angle, _ = min(fits)
        assert off < 0.5
        assert angle < 0.5


def test_proteins_show_where_they_are_and_lipids_make_room(studded):
    label = {s.name: s.label for s in studded.species}
    assert label == {"anchor": 1, "membrane": 2}
    names = studded.particles.species
    for identity, name, turn, position in zip(
        studded.parameters["particles"]["instance"],
        names,
        studded.particles.rotations,
        studded.particles.positions,
        strict=True,
    ):
        if name != "anchor":
            continue
        mine = studded.instances == identity
        assert set(np.unique(studded.labels[mine])) == {1}
        where = np.argwhere(mine) * VOXEL - position
        # the thick end of the cone is outside, along the axis
        along = where @ (turn @ AXIS)[::-1]
        across = np.linalg.norm(where - along[:, None] * (turn @ AXIS)[::-1], axis=1)
        assert across[along > 5].max() > across[along < -20].max()
    inside = studded.labels == 1
    assert studded.potential[inside].max() < 1.1 * anchored().density.max()


def test_protein_density_and_counts():
    area = {"count": 1, "radius": (200, 200)}
    both = [anchored("one"), anchored("two")]
    scene = draw(both, vesicles=area, membrane_proteins=2000.0, species={"one": 1.0}, shape=(64, 64, 64))
    facts = scene.parameters["vesicles"][0]
    assert scene.parameters["wanted"] == {"one": round(2000e-8 * facts["area"]), "two": 0}
    assert scene.parameters["placed"]["one"] > 0.8 * scene.parameters["wanted"]["one"]
    scene = draw(both, vesicles=area, counts={"two": 5})
    assert scene.parameters["placed"] == {"one": 0, "two": 5}
    scene = draw(both, vesicles=area | {"membrane_proteins": 0.0}, membrane_proteins=2000.0)
    assert scene.parameters["placed"] == {"one": 0, "two": 0}


def test_where_no_membrane_found_room_proteins_are_missing():
    scene = draw([anchored()], slab=150.0, vesicles={"count": 1, "radius": (200, 200)}, counts={"anchor": 4})
    assert scene.parameters["wanted"] == {"anchor": 4}
    assert scene.parameters["placed"] == {"anchor": 0}
    assert scene.parameters["occupancy"] == 0


def test_soluble_particles_stay_off_the_membrane():
    n = 9
    grid = np.stack(np.meshgrid(*[(np.arange(n) - n // 2) * VOXEL] * 3, indexing="ij"), -1)
    support = np.linalg.norm(grid, axis=-1) < 25
    free = Template("free", 3 * support.astype(np.float32), VOXEL, support, 25.0, 50.0)
    scene = draw(
        [free], vesicles={"count": 1, "radius": (200, 200)}, counts={"free": 200}, shape=(56, 56, 56)
    )
    vesicle = scene.parameters["vesicles"][0]["instance"]
    around = ndimage.binary_dilation(scene.instances == vesicle)
    assert set(np.unique(scene.instances[around])) == {0, vesicle}
    away = np.linalg.norm(
        scene.particles.named("free").positions - scene.parameters["vesicles"][0]["centre"], axis=1
    )
    assert (away < 200).any()
    assert (away > 200).any()
