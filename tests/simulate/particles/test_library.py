import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryovox.core.errors import RequestError
from cryovox.simulate.particles import library
from cryovox.simulate.particles.beads import (
    PROTEIN_CONTRAST,
    PROTEIN_VOLUME,
    RNA_CONTRAST,
    RNA_VOLUME,
    BeadModel,
    helix_copies,
    point_group,
    rasterize,
    symmetry_copies,
)
from cryovox.simulate.particles.similarity import max_cross_correlation, spread_rotations

SHREC_2021 = [
    *("4V94", "4CR2", "1QVR", "1BXN", "3CF3", "1U6G", "3D2F"),
    *("2CG9", "3H84", "3GL1", "3QM1", "1S3X", "5MRC"),
]
CZII = {
    "apo-ferritin": "4V1W",
    "beta-amylase": "1FA2",
    "beta-galactosidase": "6X1Q",
    "ribosome": "6QZP",
    "thyroglobulin": "7N4Y",
    "virus-like-particle": "6N4V",
}


@pytest.fixture(scope="module")
def fine():
    return {name: library.build_template(name, 5.0) for name in library.species_names()}


def offset_of_mass(density):
    """From the central voxel, in voxels."""
    return np.array(ndimage.center_of_mass(density.astype(float))) - density.shape[0] // 2


# --- the table -----------------------------------------------------------------------------------


def test_the_library_is_as_wide_as_promised():
    masses = [library.SPECIES[name].mass for name in library.species_names()]
    assert len(masses) >= 22
    assert masses == sorted(masses)
    assert 40 <= masses[0] < 50
    assert masses[-1] == 4000
    assert sum(bool(b.traits) for b in library.SPECIES.values()) >= 10
    assert sum("asymmetric" in b.traits for b in library.SPECIES.values()) >= 5
    assert sum(b.membrane for b in library.SPECIES.values()) >= 2


@pytest.mark.parametrize("name", library.species_names())
def test_a_species_cites_a_structure_and_is_found_by_it(name):
    blueprint = library.SPECIES[name]
    assert blueprint.source.startswith("PDB ")
    assert any(alias in blueprint.source for alias in blueprint.aliases)
    assert all(library.canonical_name(alias) == name for alias in (name, *blueprint.aliases))


def test_no_identifier_means_two_species():
    words = [w.lower() for name, b in library.SPECIES.items() for w in (name, *b.aliases)]
    assert len(words) == len(set(words))


def test_the_species_of_both_challenges_are_there():
    assert len({library.canonical_name(pdb) for pdb in SHREC_2021}) == 13
    assert {library.canonical_name(name) for name in CZII} == {
        library.canonical_name(pdb) for pdb in CZII.values()
    }
    assert all(library.canonical_name(name) == library.canonical_name(pdb) for name, pdb in CZII.items())
    assert library.canonical_name("Virus_like particle") == "vlp"


def test_an_unknown_species_is_refused_with_the_nearest_names():
    with pytest.raises(RequestError, match="did you mean 'proteasome"):
        library.build_template("proteosome-20s", 10)
    with pytest.raises(RequestError, match="there are: hsc70-fragment"):
        library.canonical_name("zzz")


# --- what is drawn -------------------------------------------------------------------------------


def test_mass_and_dimensions_on_the_raster_are_those_of_the_blueprint(fine):
    for name, simulated in fine.items():
        want = library.SPECIES[name]
        result = np.argwhere(simulated.support)
        extent = (np.ptp(result, axis=0) + 1)[::-1] * 5.0
        assert extent == pytest.approx(want.dimensions, rel=0.1), name
        assert simulated.support.sum() * 125.0 == pytest.approx(want.volume, rel=0.25), (
            name
        )  # not very spongy
        mean = simulated.density.sum(dtype=float) * 125.0 / want.volume
        share = want.rna * RNA_VOLUME / (want.rna * RNA_VOLUME + (1 - want.rna) * PROTEIN_VOLUME)
        assert mean == pytest.approx(share * RNA_CONTRAST + (1 - share) * PROTEIN_CONTRAST, rel=1e-4), name
        assert simulated.mass == want.mass


def test_templates_are_centered_whole_and_end_before_the_faces(fine):
    for name, result in fine.items():
        n = result.density.shape[0]
        assert np.abs(offset_of_mass(result.density)).max() < 1e-3, name
        assert all(
            not faces.any() for axis in range(3) for faces in (result.density.take([0, n - 1], axis=axis),)
        ), name
        assert (result.density >= 0).all(), name
        assert ndimage.label(result.support)[1] == 1, name
        far = np.linalg.norm(np.argwhere(result.support) - n // 2, axis=1).max() * 5
        assert far <= result.radius <= far + 5, name


@pytest.mark.parametrize("name", ["hsc70-fragment", "spike", "vlp"])
@pytest.mark.parametrize("voxel", [7.3, 14.0, 31.36])
def test_any_voxel_size_gives_the_same_particle(name, voxel):
    result, fine = library.build_template(name, voxel), library.build_template(name, 5.0)
    assert result.density.dtype == np.float32
    assert np.abs(offset_of_mass(result.density)).max() < 1e-3
    assert result.density.sum(dtype=float) * voxel**3 == pytest.approx(
        fine.density.sum(dtype=float) * 125, rel=1e-4
    )
    assert result.support.any()
    assert abs(result.radius - fine.radius) < 1.2 * voxel
    assert result.height == pytest.approx(fine.height, abs=0.5)


@pytest.mark.parametrize("name", ["apo-ferritin", "vlp", "proteasome-20s", "tric"])
def test_hollow_ones_are_empty_inside(fine, name):
    result = fine[name]
    middle = result.density.shape[0] // 2
    assert result.density[middle, middle, middle] < 0.05 * result.density.max()
    assert not result.support[middle, middle, middle]


def test_the_shell_of_ferritin_is_as_thick_as_published(fine):
    result = fine["apo-ferritin"]
    distance = np.linalg.norm(np.argwhere(result.support) - result.density.shape[0] // 2, axis=1) * 5
    assert np.quantile(distance, [0.02, 0.98]) == pytest.approx([40, 60], rel=0.15)


def test_membrane_proteins_know_where_the_bilayer_is(fine):
    for name, result in fine.items():
        if not library.SPECIES[name].membrane:
            assert result.axis is None
            continue
        assert result.axis == pytest.approx([0, 0, 1])
        at = np.argwhere(result.support)[:, 0] * 5.0 - result.density.shape[0] // 2 * 5.0 + result.height
        assert at.min() < -10 < 10 < at.max(), name  # it spans the middle of the bilayer
        assert result.height > 10, name  # most of it is outside


def test_a_coarser_resolution_is_smoother_and_no_lighter():
    sharp, soft = library.build_template("groel", 8.0), library.build_template("groel", 8.0, resolution=40.0)
    assert soft.density.max() < sharp.density.max()
    assert soft.density.sum() == pytest.approx(sharp.density.sum(), rel=1e-5)
    assert np.count_nonzero(soft.support) == np.count_nonzero(sharp.support)


def test_a_single_bead_is_a_ball_blurred_by_a_gaussian():
    """Closed form of the transform: 3 j1(qr)/(qr) times the low-pass exp(-(k * resolution)^2)."""
    radius, voxel, resolution = 40.0, 4.0, 20.0
    mass = 4 / 3 * np.pi * radius**3 / PROTEIN_VOLUME / 1e3
    ball = BeadModel(mass, (80, 80, 80), "C1", ((17.0, 3.0, -9.0, radius),), "PDB none")
    template = rasterize("ball", ball, voxel, resolution)
    k = 1 / 64.0
    x = (np.arange(template.density.shape[0]) - template.density.shape[0] // 2) * voxel
    result = (template.density.sum((0, 1), dtype=float) * np.cos(2 * np.pi * k * x)).sum() * voxel**3
    qr = 2 * np.pi * k * radius
    form = 3 * (np.sin(qr) - qr * np.cos(qr)) / qr**3 * np.exp(-((k * resolution) ** 2))
    assert result / (template.density.sum(dtype=float) * voxel**3) == pytest.approx(form, abs=0.005)
    middle = template.density.shape[0] // 2
    assert template.density[middle, middle, middle] == pytest.approx(PROTEIN_CONTRAST, rel=0.01)


# --- symmetry ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "order"), [("C1", 1), ("C7", 7), ("D2", 4), ("D7", 14), ("T", 12), ("O", 24), ("I", 60)]
)
def test_point_groups_are_groups_of_rotations(name, order):
    turns = point_group(name)
    assert turns.shape == (order, 3, 3)
    assert np.einsum("kij,klj->kil", turns, turns) == pytest.approx(
        np.tile(np.eye(3), (order, 1, 1)), abs=1e-9
    )
    assert np.linalg.det(turns) == pytest.approx(np.ones(order))
    products = np.einsum("aij,bjk->abik", turns, turns).reshape(-1, 9)
    assert np.abs(products[:, None] - turns.reshape(1, -1, 9)).max(-1).min(1).max() < 1e-9


def test_beads_on_an_axis_are_not_doubled():
    assert len(symmetry_copies("C6", (0, 0, 10, 5))) == 1
    assert len(symmetry_copies("D6", (0, 0, 10, 5))) == 2
    assert len(symmetry_copies("O", (10, 2, 3, 5))) == 24


def test_beads_have_the_symmetry_that_the_blueprint_claims():
    for name, blueprint in library.SPECIES.items():
        beads = np.array(blueprint.beads)
        for rotation in point_group(blueprint.group):
            turned = beads[:, :3] @ rotation.T
            apart = np.linalg.norm(turned[:, None] - beads[None, :, :3], axis=-1)
            same = np.abs(beads[:, None, 3] - beads[None, :, 3]) < 1e-6
            assert np.where(same, apart, np.inf).min(1).max() < 0.01, name


def test_a_staircase_climbs():
    beads = np.array(helix_copies(6, 18.0, (50, 0, 0, 10)))
    assert np.hypot(beads[:, 0], beads[:, 1]) == pytest.approx(np.full(6, 50.0))
    assert np.diff(beads[:, 2]) == pytest.approx(np.full(5, 18.0))
    assert beads[:, 2].sum() == pytest.approx(0)


# --- telling them apart --------------------------------------------------------------------------


def test_rotations_are_spread_evenly():
    turns = spread_rotations(500)
    there = Rotation.random(200, random_state=1)
    nearest = np.array([(turns * one.inv()).magnitude().min() for one in there])
    even = (6 * np.pi * 2 * np.pi / 500) ** (1 / 3)  # radius of a ball of rotations that holds one in 500
    assert np.rad2deg(nearest.max()) < 1.3 * np.rad2deg(even)


@settings(max_examples=4, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_a_turned_particle_is_recognized(quaternion):
    blueprint = library.SPECIES["hsc70-fragment"]
    rotation = Rotation.from_quat(quaternion).as_matrix()
    beads = tuple((*map(float, rotation @ b[:3]), b[3]) for b in blueprint.beads)
    turned = BeadModel(blueprint.mass, blueprint.dimensions, "C1", beads, blueprint.source)
    one, other = library.build_template("hsc70-fragment", 10.0), rasterize("turned", turned, 10.0)
    assert max_cross_correlation(one, other, rotations=300, starts=3) > 0.99


def test_correlation_is_the_closed_form_for_two_gaussians():
    """(2 s t / (s^2 + t^2))^(3/2) for spreads s and t, less the mean over the box, which is tiny here."""
    spreads = (8.0, 14.0)
    balls = [
        rasterize(
            "ball", BeadModel(1e3, (0, 0, 0), "C1", ((0, 0, 0, 2.0),), "PDB none"), 5.0, s * np.pi * 2**0.5
        )
        for s in spreads
    ]
    s, t = (np.hypot(s, np.sqrt(4 / 5 + 25 / 12)) for s in spreads)  # + bead and voxel
    assert max_cross_correlation(*balls, rotations=8, starts=1) == pytest.approx(
        (2 * s * t / (s**2 + t**2)) ** 1.5, abs=0.03
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hsc70-fragment", "esterase"),
        ("esterase", "ssb1"),
        ("hsp90", "beta-amylase"),
        ("groel", "proteasome-20s"),
        ("ssb1", "beta-amylase"),
    ],
)
def test_hard_pairs_can_be_told_apart(one, other):
    pair = library.build_template(one, 10.0), library.build_template(other, 10.0)
    assert 0.3 < max_cross_correlation(*pair, rotations=400, starts=3) < 0.9


def test_different_voxel_sizes_are_not_compared():
    with pytest.raises(ValueError, match="voxel sizes differ"):
        max_cross_correlation(library.build_template("ssb1", 10.0), library.build_template("ssb1", 12.0))
