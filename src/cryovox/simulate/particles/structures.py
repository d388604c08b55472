"""Atoms of PDB and mmCIF files, put together to the molecule that does the work.

A file holds the asymmetric unit of a crystal, which may be half a particle or two of them. What swims
in a cell is the biological assembly, so that is what is built unless something else is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.formats import stem, unpacked

ASYMMETRIC_UNIT = "asu"

_HYDROGEN, _CARBON, _OXYGEN, _DEUTERIUM = (int(gemmi.Element(e).atomic_number) for e in ("H", "C", "O", "D"))
_WEIGHTS = np.array([gemmi.Element(number).weight for number in range(119)])
_ENUMERATED_DEUTERIUM = 119
"""Where gemmi's flat tables put deuterium, after all elements."""
_HYDROGENS_PER_CARBON = 1.5
"""For residues that no table knows; proteins have 1.58, nucleic acids 1.2."""
_TRACE = 0.35
"""A file with less of its residues' mass than this is a trace of C-alpha or P atoms."""


@dataclass(frozen=True, eq=False)
class Atoms:
    """What scatters.

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
        How many hydrogens that the file leaves out each atom carries.
    chains
        Polymer chains, copies included.
    name
        Stem of the file.
    assembly
        Which one was built; "asu" is the asymmetric unit.
    facts
        `assemblies` that the file states, `models` in it, `completeness` of the residues by mass.
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
        """KDa of the atoms as in the file, by occupancy."""
        return float((_WEIGHTS[self.elements] * self.occupancy).sum(dtype=np.float64)) / 1e3

    @property
    def full_mass(self) -> float:
        """KDa with the hydrogens that the file leaves out."""
        return self.mass + float(_WEIGHTS[_HYDROGEN] * self.hydrogens.sum(dtype=np.float64)) / 1e3


def read_atoms(path: Path | str, assembly: str = "1", *, ligands: bool = False) -> Atoms:
    """Read a structure; the contents, not the ending, tell PDB from mmCIF.

    Parameters
    ----------
    path
        PDB or mmCIF, also compressed by gzip or bzip2. Of several models the first is read.
    assembly
        Name of the biological assembly, or "asu" for what the file lists. A file that states none is
        taken as it is, and `Atoms.assembly` says so.
    ligands
        Keep what belongs to no polymer, except water. Modified residues are part of their chain and
        always stay; so do all alternative conformations, each with its occupancy.
    """
    path = Path(path)
    structure = _parsed(path)
    stated = [str(found.name) for found in structure.assemblies]
    model, chosen = _assembled(structure, assembly, stated, path)
    whole = gemmi.Structure()
    whole.add_model(model)
    (whole.remove_waters if ligands else whole.remove_ligands_and_waters)()
    flat = gemmi.FlatStructure(whole)
    elements = np.where(flat.elements == _ENUMERATED_DEUTERIUM, _HYDROGEN, flat.elements).astype(np.uint8)
    known = elements > 0
    if not (known & (flat.occ > 0)).any():
        raise RequestError(
            path, "holds no atoms of a protein or nucleic acid", "check that it is a structure"
        )
    hydrogens, completeness = _hydrogens(flat, elements)
    if completeness < _TRACE:
        told = f"holds {completeness:.0%} of the mass of its residues: a trace, not all atoms"
        raise RequestError(path, told, "use a model with all atoms, or a map")
    return Atoms(
        positions=np.asarray(flat.pos, np.float64)[known],
        elements=elements[known],
        occupancy=np.asarray(flat.occ, np.float32)[known],
        b=np.asarray(flat.b_iso, np.float32)[known],
        hydrogens=hydrogens[known],
        chains=sum(len(chain.get_polymer()) > 0 for chain in whole[0]),
        name=stem(path),
        assembly=chosen,
        facts={"assemblies": stated, "models": len(structure), "completeness": round(completeness, 3)},
    )


def _parsed(path: Path) -> gemmi.Structure:
    raw = unpacked(path)
    try:
        structure = gemmi.read_structure_string(raw, format=gemmi.CoorFormat.Detect)
        structure.setup_entities()
    except (RuntimeError, ValueError, IndexError, UnicodeError) as error:
        first = (str(error).splitlines() or ["unknown format"])[0]
        raise RequestError(path, f"cannot be read as a structure: {first}", "use PDB or mmCIF") from None
    if len(structure) == 0:
        raise RequestError(path, "holds no atoms", "use a PDB or mmCIF file of a structure")
    return structure


def _assembled(
    structure: gemmi.Structure, wanted: str, stated: list[str], path: Path
) -> tuple[gemmi.Model, str]:
    """The first model with all copies, and the name of what was built."""
    model = structure[0]
    if wanted == ASYMMETRIC_UNIT or (wanted == "1" and not stated):
        return model, ASYMMETRIC_UNIT
    if wanted not in stated:
        known = ", ".join([*stated, ASYMMETRIC_UNIT])
        raise RequestError(path, f"states no assembly {wanted!r}", f"choose from: {known}")
    plan = structure.assemblies[stated.index(wanted)]
    return gemmi.make_assembly(plan, model, gemmi.HowToNameCopiedChain.AddNumber), wanted


def _hydrogens(flat: gemmi.FlatStructure, elements: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Hydrogens to add to each atom, and the share of the residues' heavy mass that is there.

    A residue lacks the hydrogens of the free molecule less the water that the bond to its neighbours
    cost, in proportion to its heavy atoms that were modelled, less the hydrogens that are in the file.
    They ride on its carbons: at 5 Å or coarser it does not matter where within the residue they are.
    """
    start, residue = _residues(flat)
    occupancy = np.asarray(flat.occ, np.float64)
    light = elements == _HYDROGEN
    carbons = (elements == _CARBON) * occupancy
    rides = np.where(np.bincount(residue, carbons)[residue] > 0, carbons, np.where(light, 0.0, occupancy))
    heavy = np.bincount(residue, np.where(light, 0.0, _WEIGHTS[elements] * occupancy))
    expected, whole = _table(flat, start)
    unknown = whole <= 0
    share = np.divide(heavy, whole, out=np.zeros_like(heavy), where=~unknown).clip(max=1.0)
    lacking = np.where(unknown, _HYDROGENS_PER_CARBON * np.bincount(residue, carbons), share * expected)
    lacking = (lacking - np.bincount(residue, light * occupancy)).clip(min=0.0)
    seats = np.bincount(residue, rides)
    each = np.divide(lacking, seats, out=np.zeros_like(lacking), where=seats > 0)
    there = occupied = 1.0
    if (~unknown).any():
        there, occupied = float((share * whole)[~unknown].sum()), float(whole[~unknown].sum())
    return (rides * each[residue]).astype(np.float32), there / occupied


def _residues(flat: gemmi.FlatStructure) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First atom of each residue, and the residue of each atom; atoms of a residue follow each other."""
    texts = (flat.chain_ids, flat.subchains, flat.residue_names)
    numbers = (flat.resnums, flat.icodes)
    columns = [np.asarray(c) for c in texts] + [np.asarray(c)[:, None] for c in numbers]
    changes = np.zeros(len(flat.resnums), bool)
    changes[0] = True
    for column in columns:
        changes[1:] |= (column[1:] != column[:-1]).any(axis=1)
    return np.flatnonzero(changes), np.cumsum(changes) - 1


def _table(
    flat: gemmi.FlatStructure, start: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hydrogens and heavy mass (Da) of each residue when whole; 0 where no table knows it."""
    found: NDArray[np.int8] = np.asarray(flat.residue_names)[start]
    names, which = np.unique(found, axis=0, return_inverse=True)
    rows = []
    for name in names:
        known = gemmi.find_tabulated_residue(name.astype(np.uint8).tobytes().rstrip(b"\0").decode("latin-1"))
        count, weight = known.hydrogen_count, known.weight
        heavy = weight - count * _WEIGHTS[_HYDROGEN]
        linked = known.is_amino_acid() or known.is_nucleic_acid()
        rows.append((max(count - 2, 0), heavy - _WEIGHTS[_OXYGEN]) if linked else (count, heavy))
    table = np.array(rows, np.float64)[which.reshape(-1)]
    return table[:, 0], table[:, 1]
