import gzip
import json

import gemmi
import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.simulate.particles.structures import read_atoms

ALANINE = (("N", "N", 1.46, 0, 0), ("CA", "C", 0, 0, 0), ("C", "C", -0.5, 1.4, 0), ("O", "O", 0.2, 2.4, 0))
SHIFT = ((1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0), (-1, 0, 0, 50, 0, -1, 0, 0, 0, 0, 1, 0))


def line(serial, name, element, at, residue="ALA", chain="A", number=1, occupancy=1.0, alt=" ", kind="ATOM"):
    return (
        f"{kind:<6}{serial:5d} {name:^4}{alt}{residue:>3} {chain}{number:4d}    "
        f"{at[0]:8.3f}{at[1]:8.3f}{at[2]:8.3f}{occupancy:6.2f}{20.0:6.2f}          {element:>2}"
    )


def peptide(count=3, side="CB", **more):
    """A chain of alanines."""
    lines = []
    for k in range(count):
        for name, element, x, y, z in (*ALANINE, *([(side, "C", 0, -1, 1.2)] if side else [])):
            lines.append(line(len(lines) + 1, name, element, (x + 3.8 * k, y, z), number=k + 1, **more))
    return lines


def assembly(*rows, name=1):
    result = ["REMARK 350", f"REMARK 350 BIOMOLECULE: {name}", "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A"]
    for k, row in enumerate(rows, start=1):
        for i in range(3):
            a, b, c, d = row[4 * i : 4 * i + 4]
            result.append(f"REMARK 350   BIOMT{i + 1}{k:4d}{a:10.6f}{b:10.6f}{c:10.6f}{d:15.5f}")
    return result


def write(path, lines):
    text = "\n".join([*lines, "END", ""])
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def test_a_file_without_an_assembly_is_taken_as_it_is_and_says_so(tmp_path):
    atoms = read_atoms(write(tmp_path / "small.pdb", peptide(3)))
    assert (atoms.assembly, atoms.chains, atoms.name) == ("asu", 1, "small")
    assert atoms.facts["assemblies"] == []
    assert atoms.positions[6] == pytest.approx((3.8, 0, 0))
    assert atoms.elements[:4].tolist() == [7, 6, 6, 8]
    assert atoms.mass == pytest.approx(3 * (14.0067 + 3 * 12.0107 + 15.9994) / 1e3, rel=1e-4)


def test_the_assembly_is_built_from_its_operators(tmp_path):
    path = write(tmp_path / "two.pdb.gz", assembly(*SHIFT) + peptide(2))
    pair, single = read_atoms(path), read_atoms(path, "asu")
    assert (pair.chains, single.chains, pair.assembly, single.assembly) == (2, 1, "1", "asu")
    assert pair.mass == pytest.approx(2 * single.mass)
    turned = single.positions * (-1, -1, 1) + (50, 0, 0)
    assert np.abs(np.sort(pair.positions, 0) - np.sort(np.r_[single.positions, turned], 0)).max() < 1e-3
    with pytest.raises(RequestError, match=r"states no assembly '7'\s.*1, asu"):
        read_atoms(path, "7")


def test_a_second_assembly_does_not_stand_in_for_the_first(tmp_path):
    path = write(tmp_path / "x.pdb", assembly(*SHIFT, name=2) + peptide(2))
    assert read_atoms(path, "2").chains == 2
    with pytest.raises(RequestError, match="states no assembly '1'"):
        read_atoms(path)


def test_water_and_ligands_go_and_modified_residues_stay(tmp_path):
    more = [
        line(90, "O", "O", (20, 0, 0), "HOH", "A", 90, kind="HETATM"),
        line(91, "ZN", "ZN", (22, 0, 0), "ZN", "A", 91, kind="HETATM"),
    ]
    selenium = [
        line(70, name, element, at, "MSE", number=4, kind="HETATM")
        for name, element, at in (
            ("N", "N", (13, 0, 0)),
            ("CA", "C", (14, 0, 0)),
            ("C", "C", (15, 0, 0)),
            ("SE", "SE", (16, 0, 0)),
        )
    ]
    path = write(tmp_path / "x.pdb", peptide(3) + selenium + ["TER"] + more)
    assert sorted(set(read_atoms(path).elements.tolist())) == [6, 7, 8, 34]
    with_ligands = read_atoms(path, ligands=True)
    assert 30 in with_ligands.elements
    assert len(with_ligands.elements) == len(read_atoms(path).elements) + 1
    assert with_ligands.chains == 1


def test_alternatives_count_by_their_occupancy(tmp_path):
    both = [line(50, "CB", "C", (0, 0, z), occupancy=o, alt=a) for z, o, a in ((1, 0.3, "A"), (2, 0.7, "B"))]
    atoms = read_atoms(write(tmp_path / "x.pdb", peptide(1, side=None) + both))
    assert len(atoms.elements) == 6
    assert atoms.mass == pytest.approx(read_atoms(write(tmp_path / "y.pdb", peptide(1))).mass, rel=1e-5)


def test_hydrogens_that_a_file_leaves_out_are_added_once(tmp_path):
    bare = read_atoms(write(tmp_path / "bare.pdb", peptide(1)))
    assert bare.hydrogens.sum() == pytest.approx(5)  # C3H5NO in a chain
    assert not bare.hydrogens[bare.elements != 6].any()
    names = ("H", "HA", "HB1", "HB2", "HB3")
    for symbol, left in (("H", 0.0), ("D", 0.0)):
        values = [line(60 + k, name, symbol, (0, 0, 2)) for k, name in enumerate(names)]
        full = read_atoms(write(tmp_path / f"{symbol}.pdb", peptide(1) + values))
        assert full.hydrogens.sum() == pytest.approx(left, abs=1e-5)
        assert full.full_mass == pytest.approx(bare.full_mass, rel=1e-4)
        assert set(full.elements.tolist()) == {1, 6, 7, 8}
    without_side_chain = read_atoms(write(tmp_path / "cut.pdb", peptide(1, side=None)))
    assert 3.5 < without_side_chain.hydrogens.sum() < 4.5
    stranger = read_atoms(write(tmp_path / "odd.pdb", peptide(3, residue="QQ1")))
    assert stranger.hydrogens.sum() == pytest.approx(1.5 * 3 * 3)


def test_of_several_models_the_first_is_read(tmp_path):
    lines = ["MODEL        1", *peptide(2), "ENDMDL", "MODEL        2", *peptide(3), "ENDMDL"]
    atoms = read_atoms(write(tmp_path / "nmr.pdb", lines))
    assert len(atoms.elements) == 10
    assert atoms.facts["models"] == 2


def test_mmcif_says_the_same_as_pdb_whatever_the_ending(tmp_path):
    pdb = write(tmp_path / "x.pdb", assembly(*SHIFT) + peptide(4))
    structure = gemmi.read_structure(str(pdb))
    structure.setup_entities()
    odd = tmp_path / "x.txt"
    odd.write_text(structure.make_mmcif_document().as_string())
    first, second = read_atoms(pdb), read_atoms(odd)
    assert second.chains == first.chains == 2
    assert np.abs(first.positions - second.positions).max() < 1e-3
    assert first.full_mass == pytest.approx(second.full_mass)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no|cannot be read"),
        (b"\x1f\x8bnot gzip at all", "cannot be read"),
        (b"data_x\n_cell.length_a 3\n", "holds no atoms"),
        (b"data_x\nloop_\n_a\n_b\n1\n", "cannot be read as a structure"),
        (bytes(range(256)) * 8, "holds no|cannot be read"),
        (line(1, "O", "O", (0, 0, 0), "HOH", kind="HETATM").encode(), "no atoms of a protein"),
    ],
)
def test_what_is_no_structure_is_refused(tmp_path, content, message):
    path = tmp_path / "x.pdb"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=message):
        read_atoms(path)


def test_a_missing_file_and_a_trace_are_refused(tmp_path):
    with pytest.raises(RequestError, match="no such file"):
        read_atoms(tmp_path / "none.pdb")
    trace = [line(k, "CA", "C", (3.8 * k, 0, 0), "LEU", number=k) for k in range(1, 9)]
    with pytest.raises(RequestError, match="a trace"):
        read_atoms(write(tmp_path / "trace.pdb", trace))


def test_chains_and_masses_of_real_assemblies(shared_data):
    folder = shared_data / "structures"
    expected = json.loads((folder / "expected_assembly_dev.json").read_text())["entries"]
    for name, result in expected.items():
        whole, unit = (read_atoms(folder / f"{name}.pdb.gz", which) for which in ("1", "asu"))
        assert (whole.chains, unit.chains) == (result["assembly1_chains"], result["asu_chains"])
        assert whole.mass == pytest.approx(result["assembly1_kDa_heavy_atoms"], abs=0.06)
        assert unit.mass == pytest.approx(result["asu_kDa_heavy_atoms"], abs=0.06)


REAL = {  # chains of assembly 1, and rough kDa of its whole chains
    "1bxn": (16, 540),
    "1qvr": (6, 570),
    "1s3x": (1, 42),
    "1u6g": (3, 230),
    "2cg9": (4, 205),
    "3cf3": (6, 540),
    "3d2f": (2, 150),
    "3gl1": (1, 42),
    "3h84": (4, 160),
    "3j9i": (28, 690),
    "3qm1": (2, 58),
    "4v1w": (24, 480),
    "5gjv": (5, 430),
    "6z6u": (24, 500),
}


def test_all_structures_read_and_are_of_plausible_mass(shared_data):
    result = {path.name.split(".")[0]: path for path in sorted((shared_data / "structures").glob("*.gz"))}
    assert set(result) == set(REAL)
    for name, path in result.items():
        atoms = read_atoms(path)
        chains, mass = REAL[name]
        assert (atoms.chains, atoms.assembly) == (chains, "1"), name
        assert 0.65 * mass < atoms.full_mass < 1.02 * mass, name  # loops that nobody saw are not there
        assert 1.06 < atoms.full_mass / atoms.mass < 1.09, name
        assert atoms.facts["completeness"] > 0.9, name
