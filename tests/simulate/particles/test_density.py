import dataclasses

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import read_volume
from cryovox.simulate.particles.density import (
    ICE_POTENTIAL,
    SCATTERING_TO_VOLTS,
    excluded_volume,
    from_atoms,
    scattering_factor,
)
from cryovox.simulate.particles.maps import PROTEIN_INTEGRAL, check_map_mass, from_map, split_map
from cryovox.simulate.particles.structures import Atoms, read_atoms


def atoms_of(positions, elements, hydrogens=0.0, occupancy=1.0):
    n = len(positions)
    one = np.ones(n, np.float32)
    return Atoms(
        np.array(positions, float).reshape(n, 3),
        np.broadcast_to(np.uint8(elements), n).copy(),
        one * np.float32(occupancy),
        20 * one,
        one * np.float32(hydrogens),
        chains=1,
    )


def blob(seed=0, count=2000, radii=(36, 22, 12), hydrogens=1.5):
    """Carbon, nitrogen and oxygen at the density of protein, in an ellipsoid."""
    rng = np.random.default_rng(seed)
    at = rng.standard_normal((count, 3))
    at *= (rng.uniform(size=(count, 1)) ** (1 / 3)) / np.linalg.norm(at, axis=1, keepdims=True)
    elements = rng.choice([6, 7, 8], count, p=[0.64, 0.17, 0.19])
    result = atoms_of(at * radii + (300, -200, 50), elements)
    return dataclasses.replace(result, hydrogens=(hydrogens * (elements == 6)).astype(np.float32))


def center(template):
    return np.array(ndimage.center_of_mass(template.density)) - template.density.shape[0] // 2


def integral(template):
    return template.density.sum(dtype=np.float64) * template.voxel_size**3


# ---- atoms


def test_scattering_factors_are_those_of_the_tables():
    """f_e(0) in Å: Peng et al. 1996; Doyle & Turner 1968 has 0.529, 2.509, 2.211, 1.983, 5.161."""
    for element, known in ((1, 0.529), (6, 2.509), (7, 2.211), (8, 1.983), (16, 5.161)):
        assert float(scattering_factor(element, 0.0)) == pytest.approx(known, rel=2e-3)


def test_ice_is_that_of_isolated_water_molecules():
    per_volume = 0.93 * 0.602214 / 18.0153  # molecules per Å³
    water = 2 * float(scattering_factor(1, 0.0)) + float(scattering_factor(8, 0.0))
    assert pytest.approx(SCATTERING_TO_VOLTS * water * per_volume, rel=0.01) == ICE_POTENTIAL


@pytest.mark.parametrize("voxel_size", [5.0, 30.0])
@pytest.mark.parametrize("solvent", [0.0, ICE_POTENTIAL])
def test_the_integral_is_that_of_the_closed_form(voxel_size, solvent):
    atoms = blob()
    template = from_atoms(atoms, voxel_size, solvent=solvent)
    scatter = sum(float(scattering_factor(int(e), 0.0)) for e in atoms.elements)
    scatter += float(atoms.hydrogens.sum()) * float(scattering_factor(1, 0.0))
    expected = SCATTERING_TO_VOLTS * scatter - solvent * excluded_volume(atoms)
    assert integral(template) == pytest.approx(expected, rel=1e-4)
    assert template.facts["contrast"] * template.facts["volume"] == pytest.approx(expected, rel=1e-3)


def test_excluded_volumes_add_up():
    atoms = atoms_of([(0, 0, 0), (9, 0, 0)], [6, 8], hydrogens=2.0, occupancy=0.5)
    assert excluded_volume(atoms) == pytest.approx(0.5 * (16.44 + 9.13) + 4 * 5.15)


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(*[st.floats(-80, 80)] * 3),
    st.floats(6, 30),
    st.floats(2.0, 4.0),
    st.integers(0, 1000),
)
def test_the_center_of_mass_is_the_middle_voxel_wherever_the_file_puts_it(shift, voxel_size, coarse, seed):
    atoms = blob(seed, count=500, radii=(14, 9, 22))
    moved = dataclasses.replace(atoms, positions=atoms.positions + shift)
    simulated = from_atoms(moved, voxel_size, resolution=coarse * voxel_size)
    assert np.abs(center(simulated)).max() < 0.02
    assert simulated.density.shape[0] % 2 == 1
    for axis in range(3):
        assert not np.moveaxis(simulated.density, axis, 0)[[0, -1]].any()
    template = from_atoms(atoms, voxel_size, resolution=coarse * voxel_size)
    assert np.subtract(simulated.facts["centre"], template.facts["centre"]) == pytest.approx(shift, abs=2e-3)
    assert np.abs(simulated.density - template.density).max() < 2e-3 * template.density.max()


def test_axes_are_z_y_x():
    far = [(40.0, 0, 0), (-40.0, 0, 0), (0, 10, 0), (0, -10, 0)]
    template = from_atoms(atoms_of(far, 6), 5.0)
    extent = np.ptp(np.argwhere(template.density > 0.3 * template.density.max()), axis=0)
    assert extent[2] > extent[1] > extent[0]


def test_one_atom_is_its_kernel():
    """A carbon in vacuum at a low resolution is a Gaussian of known width: closed form at the center."""
    resolution, voxel_size = 30.0, 5.0
    template = from_atoms(atoms_of([(0.0, 0, 0)], 6), voxel_size, resolution=resolution, solvent=0.0)
    table = gemmi.Element("C").c4322
    sharp = sum(
        a * (np.pi / (resolution**2 + b / 4)) ** 1.5 for a, b in zip(table.a, table.b, strict=True)
    )  # integral over all frequencies of a exp(-(d² + b/4) s²)
    assert template.density.max() == pytest.approx(SCATTERING_TO_VOLTS * sharp, rel=2e-3)
    n = template.density.shape[0] // 2
    sigma = np.sqrt(resolution**2 / 2) / np.pi
    fall = template.density[n, n, n + 2] / template.density[n, n, n]
    assert fall == pytest.approx(np.exp(-((2 * voxel_size) ** 2) / 2 / sigma**2), abs=0.01)


def test_a_low_pass_leaves_what_it_says():
    atoms = blob()
    sharp, soft = (from_atoms(atoms, 8.0, resolution=d) for d in (0.001, 32.0))
    a, b = (np.pad(t.density, (49 - t.density.shape[0]) // 2) for t in (sharp, soft))
    ratio = np.abs(fft.rfftn(b)) / np.abs(fft.rfftn(a)).clip(1e-9)
    s = fft.rfftfreq(49, 8.0)
    for k in (1, 2, 4, 6):
        assert ratio[0, 0, k] == pytest.approx(np.exp(-((32 * s[k]) ** 2)), rel=0.03)


def test_a_b_factor_takes_away_fine_detail_only():
    atoms = blob()
    without, with_b = from_atoms(atoms, 5.0), from_atoms(atoms, 5.0, b_factor=400.0)
    assert integral(with_b) == pytest.approx(integral(without), rel=2e-3)
    assert with_b.density.std() < 0.98 * without.density.std()


def test_a_solvent_denser_than_the_molecule_is_refused():
    with pytest.raises(ValueError, match="no contrast"):
        from_atoms(blob(count=50), 10.0, solvent=9.0)


def test_potential_equals_that_of_an_independent_program(shared_data):
    """gemmi's own density in real space, on a fine grid, low-passed and thinned out."""
    atoms = read_atoms(shared_data / "structures/3qm1.pdb.gz", "asu")
    bare = dataclasses.replace(atoms, hydrogens=0 * atoms.hydrogens)
    voxel_size, resolution = 6.0, 12.0
    template = from_atoms(bare, voxel_size, resolution=resolution, b_factor=20.0, solvent=0.0)
    n = template.density.shape[0]
    fine = _gemmi(bare, bare.positions - template.facts["centre"] + n // 2 * voxel_size, n * voxel_size, 20.0)
    m, half = fine.shape[0], n // 2
    low = np.r_[0 : half + 1, m - half : m]
    wave = fft.rfftn(fine)[np.ix_(low, low, np.arange(half + 1))] * (n / m) ** 3
    axes = np.meshgrid(
        *([fft.fftfreq(n, voxel_size)] * 2), fft.rfftfreq(n, voxel_size), indexing="ij", sparse=True
    )
    s = np.sqrt(sum(axis**2 for axis in axes))
    cut = np.clip((2 * voxel_size * s - 0.9) / 0.1, 0, 1)
    wave *= np.exp(-((resolution * s) ** 2)) * (0.5 + 0.5 * np.cos(np.pi * cut))
    theirs = fft.irfftn(wave, s=(n, n, n))
    inner = (slice(1, -1),) * 3
    error = np.abs(theirs - template.density)[inner].max() / template.density.max()
    assert error < 0.01
    assert np.corrcoef(theirs.ravel(), template.density.ravel())[0, 1] > 0.9999


def _gemmi(atoms, positions, edge, b_iso):
    structure, model, chain, residue = gemmi.Structure(), gemmi.Model(1), gemmi.Chain("A"), gemmi.Residue()
    for at, element, occupancy in zip(positions, atoms.elements, atoms.occupancy, strict=True):
        atom = gemmi.Atom()
        atom.pos, atom.element = gemmi.Position(*at), gemmi.Element(int(element))
        atom.occ, atom.b_iso = float(occupancy), b_iso
        residue.add_atom(atom)
    residue.name = "ALA"
    chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    structure.cell, structure.spacegroup_hm = gemmi.UnitCell(edge, edge, edge, 90, 90, 90), "P 1"
    painter = gemmi.DensityCalculatorE()
    painter.d_min, painter.rate, painter.cutoff = 2.0, 1.5, 1e-6
    painter.set_grid_cell_and_spacegroup(structure)
    painter.put_model_density_on_grid(structure[0])
    return SCATTERING_TO_VOLTS * np.array(painter.grid).transpose(2, 1, 0)


@pytest.mark.parametrize("voxel_size", [5.0, 13.3])
def test_a_turned_template_is_that_of_the_turned_atoms(shared_data, voxel_size):
    """No aliasing: what cubic splines make of the grid agrees with the atoms themselves."""
    atoms = read_atoms(shared_data / "structures/3h84.pdb.gz")
    first = from_atoms(atoms, voxel_size)
    rotation = Rotation.from_euler("zyz", [20, 50, -70], degrees=True).as_matrix()
    turned = from_atoms(dataclasses.replace(atoms, positions=atoms.positions @ rotation.T), voxel_size)
    edge = max(first.density.shape[0], turned.density.shape[0]) + 8
    a, b = (np.pad(t.density, (edge - t.density.shape[0]) // 2) for t in (first, turned))
    matrix = rotation[::-1, ::-1].T
    result = ndimage.affine_transform(a, matrix, edge // 2 - matrix @ np.full(3, edge // 2), order=3)
    assert np.linalg.norm(result - b) < 0.04 * np.linalg.norm(b)


@pytest.mark.parametrize("voxel_size", [10.0, 30.0])
def test_coarse_sampling_takes_what_is_there_at_its_points(voxel_size):
    """Below the cut nothing is aliased: every third voxel of a finer grid says the same."""
    atoms = blob()
    coarse, fine = (from_atoms(atoms, v, resolution=5 * voxel_size) for v in (voxel_size, voxel_size / 3))
    n, m = coarse.density.shape[0] // 2, fine.density.shape[0] // 2
    reach = min(n - 1, (m - 1) // 3)
    near = coarse.density[(slice(n - reach, n + reach + 1),) * 3]
    result = fine.density[(slice(m - 3 * reach, m + 3 * reach + 1, 3),) * 3]
    assert np.abs(near - result).max() < 0.02 * result.max()


@pytest.mark.parametrize("name", ["1s3x.pdb.gz", "1bxn.pdb.gz", "4v1w.cif.gz"])
def test_proteins_have_the_potential_and_the_volume_of_protein(shared_data, name):
    atoms = read_atoms(shared_data / "structures" / name)
    template = from_atoms(atoms, 5.0, resolution=10.0)
    assert 2.9 < template.facts["contrast"] < 3.5
    assert 2.0 < template.density[template.support].mean() < template.facts["contrast"]
    assert template.support.sum() * 5.0**3 == pytest.approx(1210 * atoms.full_mass, rel=0.2)
    assert integral(template) == pytest.approx(1e3 * atoms.full_mass * PROTEIN_INTEGRAL, rel=0.03)
    assert (template.mass, template.name) == (atoms.full_mass, atoms.name)
    outside = np.linalg.norm(np.argwhere(template.support) - template.density.shape[0] // 2, axis=1) * 5.0
    assert template.radius == pytest.approx(outside.max() + 2.5)


# ---- maps


def as_map(template, noise=0.0, offset=0.0, scale=1.0, pad=6):
    data = np.pad(template.density, pad) * scale + offset
    data = data + noise * np.random.default_rng(1).standard_normal(data.shape)
    return Volume(data.astype(np.float32), template.voxel_size)


@pytest.mark.parametrize("voxel_size", [8.3, 20.0])
def test_a_map_of_a_structure_gives_the_template_of_the_structure(shared_data, voxel_size):
    atoms = read_atoms(shared_data / "structures/1u6g.pdb.gz")
    direct = from_atoms(atoms, voxel_size, resolution=20.0 if voxel_size < 10 else 44.0)
    source = as_map(from_atoms(atoms, 5.0, resolution=20.0), scale=17.0, offset=-3.0)
    template = from_map(source, voxel_size, mass=atoms.full_mass, resolution=0.0 if voxel_size < 10 else 39.0)
    assert np.abs(center(template)).max() < 0.02
    edge = max(template.density.shape[0], direct.density.shape[0])
    a, b = (np.pad(t.density, (edge - t.density.shape[0]) // 2) for t in (template, direct))
    assert np.linalg.norm(a - b) < 0.06 * np.linalg.norm(b)
    both = np.pad(template.support, (edge - template.support.shape[0]) // 2)
    result = np.pad(direct.support, (edge - direct.support.shape[0]) // 2)
    assert 2 * (both & result).sum() > 0.93 * (both.sum() + result.sum())
    assert template.mass == atoms.full_mass
    assert not template.facts["mass_estimated"]


def test_noise_dust_and_the_level_of_the_solvent_do_not_matter():
    clean = from_atoms(blob(), 5.0, resolution=15.0)
    dusty = as_map(clean, noise=0.05, offset=4.0)
    dusty.data[2:4, 2:4, 2:4] += 3.0
    template = from_map(dusty, 5.0)
    assert np.abs(center(template)).max() < 0.02
    assert not template.density[0].any()
    edge = max(template.density.shape[0], clean.density.shape[0])
    a, b = (np.pad(t.density, (edge - t.density.shape[0]) // 2) for t in (template, clean))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98


def test_where_the_center_was_is_told():
    source = as_map(from_atoms(blob(), 5.0, resolution=15.0))
    data = np.zeros((60, 61, 62), np.float32)
    n = source.shape[0]
    data[7 : 7 + n, 4 : 4 + n, 11 : 11 + n] = source.data
    template = from_map(Volume(data, 5.0), 10.0)
    expected = 5.0 * (np.array([11, 4, 7]) + n // 2)
    assert template.facts["centre"] == pytest.approx(expected, abs=0.1)


def two_balls(gap, second=1.0):
    z, y, x = np.indices((40, 40, 60)) - 20.0
    one, two = (np.sqrt(z**2 + y**2 + (x + k) ** 2) for k in (gap / 2 - 10, -gap / 2 - 10))
    soft = lambda r, size: 1 / (1 + np.exp((r - size) * 2))  # noqa: E731
    return Volume((soft(one, 8) + soft(two, 8 * second)).astype(np.float32), 10.0)


def test_two_particles_are_refused_and_split():
    source = two_balls(24)
    with pytest.raises(RequestError, match="2 particles of comparable size") as refused:
        from_map(source, 10.0, name="pair")
    assert "split" in refused.value.remedy
    first, second = split_map(source, 10.0, name="pair")
    assert (first.name, second.name) == ("pair-1", "pair-2")
    apart = np.subtract(first.facts["centre"], second.facts["centre"])
    assert np.abs(apart[0]) == pytest.approx(240, abs=5)
    assert apart[1:] == pytest.approx((0, 0), abs=2)
    assert first.mass == pytest.approx(second.mass, rel=0.02)


def test_a_small_second_piece_is_dust_and_touching_balls_are_one():
    assert len(split_map(two_balls(24, second=0.4), 10.0)) == 1
    (one,) = split_map(two_balls(12), 10.0, name="one")
    assert one.name == "one"


def test_a_threshold_is_in_the_numbers_of_the_map():
    source = two_balls(24, second=0.4)
    shifted = Volume(100 + 7 * source.data, 10.0)
    template = from_map(shifted, 10.0, threshold=103.5)
    ball = (np.asarray(source.data)[:, :, :35] > 0.5).sum() * 1e3
    assert template.mass == pytest.approx(ball / 1210, rel=0.02)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda d: -d, {}, "nothing stands out"),
        (lambda d: 0 * d, {}, "nothing stands out"),
        (lambda d: d, {"threshold": 9.0}, "nothing stands out above 9"),
        (lambda d: np.where(d > 0.5, np.nan, d), {}, "contains NaN"),
    ],
)
def test_maps_in_which_nothing_is_found_are_refused(change, options, message):
    source = two_balls(24, second=0.4)
    with pytest.raises(RequestError, match=message):
        from_map(Volume(change(source.data), 10.0), 10.0, **options)


def test_suspect_says_which_part_it_is():
    assert check_map_mass(100.0, 100.0) is check_map_mass(128.0, 100.0) is check_map_mass(78.0, 100.0) is None
    assert "half of the biological assembly" in check_map_mass(50.0, 100.0)
    assert "a quarter" in check_map_mass(26.0, 100.0)
    assert "70 % of the biological assembly" in check_map_mass(70.0, 100.0)
    assert "2 copies" in check_map_mass(210.0, 100.0)
    with pytest.raises(ValueError, match="positive"):
        check_map_mass(0.0, 1.0)


SHREC = "maps_10A_shrec21"
KDA = {  # of what the map holds: asymmetric units; TRiC; apo-ferritin; beta-galactosidase; proteasome
    **{"1s3x": 41.6, "1u6g": 221, "2cg9": 168, "3d2f": 218, "3gl1": 83},
    **{"1bxn": 257, "1qvr": 274, "3cf3": 242, "3h84": 72, "3qm1": 28},
    **{"6pxm": 480, "1f4a": 465, "3j9i": 659, "5gjv_mbz_align_shift": 299},
}


def test_all_maps_give_one_particle_of_the_mass_known(shared_data):
    result = 0
    for folder in (SHREC, "maps_10A_czii", "maps_10A_other", "maps_10A_membrane"):
        for path in sorted((shared_data / folder).glob("*.mrc.gz")):
            name = path.name.removesuffix(".mrc.gz")
            if name == "4v94" or name.endswith("mb_ref"):
                continue
            template = from_map(read_volume(path), 10.0, name=name)
            assert np.abs(center(template)).max() < 0.02, name
            assert 1.75 < template.density[template.support].mean() < 2.6, name
            if name in KDA:
                assert template.mass == pytest.approx(KDA[name], rel=0.2), name
            result += 1
    assert result == 28


def test_the_map_of_two_chaperonins_is_refused_and_split(shared_data):
    source = read_volume(shared_data / SHREC / "4v94.mrc.gz")
    with pytest.raises(RequestError, match="particles of comparable size"):
        from_map(source, 10.0, name="4v94")
    first, second = split_map(source, 10.0, name="4v94")
    assert first.mass == pytest.approx(second.mass, rel=0.02)
    assert first.mass == pytest.approx(950, rel=0.2)


@pytest.mark.parametrize("name", ["1bxn", "1qvr", "3cf3", "3h84", "3qm1"])
def test_maps_of_asymmetric_units_are_named(shared_data, name):
    atoms = read_atoms(shared_data / "structures" / f"{name}.pdb.gz")
    template = from_map(read_volume(shared_data / SHREC / f"{name}.mrc.gz"), 10.0, name=name)
    assert "half of the biological assembly" in check_map_mass(template, atoms.full_mass)


def test_whole_maps_are_not_suspected_and_double_ones_are(shared_data):
    for name, result in (
        ("1s3x", None),
        ("1u6g", None),
        ("2cg9", None),
        ("3d2f", "2 copies"),
        ("3gl1", "2 c"),
    ):
        atoms = read_atoms(shared_data / "structures" / f"{name}.pdb.gz")
        warning = check_map_mass(
            from_map(read_volume(shared_data / SHREC / f"{name}.mrc.gz"), 10.0), atoms.full_mass
        )
        assert warning is None if result is None else result in warning, name
