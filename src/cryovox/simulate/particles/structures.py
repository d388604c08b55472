"""Atoms of the biological assembly in PDB and mmCIF files.

Files hold the asymmetric unit of a crystal, which may be half a particle or two of them. By default, the
biological assembly is built from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.formats import read_bytes, stem

ASYMMETRIC_UNIT = "asu"

_HYDROGEN, _CARBON, _OXYGEN, _DEUTERIUM = (int(gemmi.Element(e).atomic_number) for e in ("H", "C", "O", "D"))
_WEIGHTS = np.array([gemmi.Element(number).weight for number in range(119)])
_GEMMI_DEUTERIUM = 119
"""Index of deuterium in the flat tables of gemmi, after all elements."""
_HYDROGENS_PER_CARBON = 1.5
"""For residues that are not tabulated; proteins have 1.58, nucleic acids 1.2."""
_MIN_COMPLETENESS = 0.35
"""Minimum modeled fraction of the mass of the residues; C-alpha and P traces have less."""


@dataclass(frozen=True, eq=False)
class Atoms:
    """Atoms of a structure.

    Attributes
    ----------
    positions : (n, 3) float64
        x, y, z in Å, in the frame of the file.
    elements : (n,) uint8
        Atomic numbers.
    occupancy : (n,) float32
    b : (n,) float32
        Isotropic displacement in Å².
    hydrogens : (n,) float32
        Missing hydrogens assigned to each atom.
    chains
        Number of polymer chains, including copies.
    name
        Stem of the file.
    assembly
        Name of the assembly; "asu" is the asymmetric unit.
    facts
        `assemblies` of the file, number of `models`, `completeness` of the residues by mass.
    """

    positions: NDArray[np.float64]
    elements: NDArray[np.uint8]
    occupancy: NDArray[np.float32]
    b: NDArray[np.float32]
    hydrogens: NDArray[np.float32]
    chains: int
    name: str = "atoms"
    assembly: str = ASYMMETRIC_UNIT
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def mass(self) -> float:
        """Mass in kDa of the atoms of the file, by occupancy."""
        return float((_WEIGHTS[self.elements] * self.occupancy).sum(dtype=np.float64)) / 1e3

    @property
    def full_mass(self) -> float:
        """Mass in kDa including missing hydrogens."""
        return self.mass + float(_WEIGHTS[_HYDROGEN] * self.hydrogens.sum(dtype=np.float64)) / 1e3


def read_atoms(path: Path | str, assembly: str = "1", *, ligands: bool = False) -> Atoms:
    """Read a structure; the format (PDB or mmCIF) is detected from the contents.

    Parameters
    ----------
    path
        PDB or mmCIF, optionally compressed by gzip or bzip2. The first of several models is read.
    assembly
        Name of the biological assembly, or "asu" for the asymmetric unit, which is also the default of
        files without assemblies.
    ligands
        Keep non-polymers except water. Modified residues and all alternative conformations, with their
        occupancies, are always kept.
    """
    path = Path(path)
    structure = _parse(path)
    assemblies = [str(a.name) for a in structure.assemblies]
    model, chosen = _build_assembly(structure, assembly, assemblies, path)
    whole = gemmi.Structure()
    whole.add_model(model)
    (whole.remove_waters if ligands else whole.remove_ligands_and_waters)()
    flat = gemmi.FlatStructure(whole)
    elements = np.where(flat.elements == _GEMMI_DEUTERIUM, _HYDROGEN, flat.elements).astype(np.uint8)
    known = elements > 0
    if not (known & (flat.occ > 0)).any():
        raise RequestError(
            path, "holds no atoms of a protein or nucleic acid", "check that it is a structure"
        )
    hydrogens, completeness = _missing_hydrogens(flat, elements)
    if completeness < _MIN_COMPLETENESS:
        message = f"holds {completeness:.0%} of the mass of its residues: a trace, not all atoms"
        raise RequestError(path, message, "use a model with all atoms, or a map")
    return Atoms(
        positions=np.asarray(flat.pos, np.float64)[known],
        elements=elements[known],
        occupancy=np.asarray(flat.occ, np.float32)[known],
        b=np.asarray(flat.b_iso, np.float32)[known],
        hydrogens=hydrogens[known],
        chains=sum(len(chain.get_polymer()) > 0 for chain in whole[0]),
        name=stem(path),
        assembly=chosen,
        facts={"assemblies": assemblies, "models": len(structure), "completeness": round(completeness, 3)},
    )


def _parse(path: Path) -> gemmi.Structure:
    raw = read_bytes(path)
    try:
        structure = gemmi.read_structure_string(raw, format=gemmi.CoorFormat.Detect)
        structure.setup_entities()
    except (RuntimeError, ValueError, IndexError, UnicodeError) as error:
        first = (str(error).splitlines() or ["untabulated format"])[0]
        raise RequestError(path, f"cannot be read as a structure: {first}", "use PDB or mmCIF") from None
    if len(structure) == 0:
        raise RequestError(path, "holds no atoms", "use a PDB or mmCIF file of a structure")
    return structure


def _build_assembly(
    structure: gemmi.Structure, assembly: str, assemblies: list[str], path: Path
) -> tuple[gemmi.Model, str]:
    """The first model with all copies, and the name of the assembly."""
    model = structure[0]
    if assembly == ASYMMETRIC_UNIT or (assembly == "1" and not assemblies):
        return model, ASYMMETRIC_UNIT
    if assembly not in assemblies:
        known = ", ".join([*assemblies, ASYMMETRIC_UNIT])
        raise RequestError(path, f"states no assembly {assembly!r}", f"choose from: {known}")
    operators = structure.assemblies[assemblies.index(assembly)]
    return gemmi.make_assembly(operators, model, gemmi.HowToNameCopiedChain.AddNumber), assembly


def _missing_hydrogens(
    flat: gemmi.FlatStructure, elements: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], float]:
    """Hydrogens to add to each atom, and the modeled fraction of the heavy mass of the residues.

    A residue has the hydrogens of the free molecule minus those of the water released by its bonds to
    neighbors, in proportion to its modeled heavy atoms; hydrogens of the file are subtracted. The rest is
    assigned to its carbons: at 5 Å or coarser, the position within the residue does not matter.
    """
    start, residue = _residues(flat)
    occupancy = np.asarray(flat.occ, np.float64)
    is_hydrogen = elements == _HYDROGEN
    carbons = (elements == _CARBON) * occupancy
    carriers = np.where(
        np.bincount(residue, carbons)[residue] > 0, carbons, np.where(is_hydrogen, 0.0, occupancy)
    )
    heavy = np.bincount(residue, np.where(is_hydrogen, 0.0, _WEIGHTS[elements] * occupancy))
    tabulated_hydrogens, whole = _residue_table(flat, start)
    untabulated = whole <= 0
    completeness = np.divide(heavy, whole, out=np.zeros_like(heavy), where=~untabulated).clip(max=1.0)
    missing = np.where(
        untabulated, _HYDROGENS_PER_CARBON * np.bincount(residue, carbons), completeness * tabulated_hydrogens
    )
    missing = (missing - np.bincount(residue, is_hydrogen * occupancy)).clip(min=0.0)
    carrier_count = np.bincount(residue, carriers)
    each = np.divide(missing, carrier_count, out=np.zeros_like(missing), where=carrier_count > 0)
    modeled = total = 1.0
    if (~untabulated).any():
        modeled, total = float((completeness * whole)[~untabulated].sum()), float(whole[~untabulated].sum())
    return (carriers * each[residue]).astype(np.float32), modeled / total


def _residues(flat: gemmi.FlatStructure) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First atom of each residue, and the residue of each atom; atoms are grouped by residue."""
    texts = (flat.chain_ids, flat.subchains, flat.residue_names)
    numbers = (flat.resnums, flat.icodes)
    columns = [np.asarray(c) for c in texts] + [np.asarray(c)[:, None] for c in numbers]
    changes = np.zeros(len(flat.resnums), bool)
    changes[0] = True
    for column in columns:
        changes[1:] |= (column[1:] != column[:-1]).any(axis=1)
    return np.flatnonzero(changes), np.cumsum(changes) - 1


def _residue_table(
    flat: gemmi.FlatStructure, start: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hydrogens and heavy mass (Da) of each complete residue; 0 if it is not tabulated."""
    residues: NDArray[np.int8] = np.asarray(flat.residue_names)[start]
    names, index = np.unique(residues, axis=0, return_inverse=True)
    rows = []
    for name in names:
        known = gemmi.find_tabulated_residue(name.astype(np.uint8).tobytes().rstrip(b"\0").decode("latin-1"))
        count, weight = known.hydrogen_count, known.weight
        heavy = weight - count * _WEIGHTS[_HYDROGEN]
        linked = known.is_amino_acid() or known.is_nucleic_acid()
        rows.append((max(count - 2, 0), heavy - _WEIGHTS[_OXYGEN]) if linked else (count, heavy))
    table = np.array(rows, np.float64)[index.reshape(-1)]
    return table[:, 0], table[:, 1]
