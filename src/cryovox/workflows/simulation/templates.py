"""From the names of species to templates: the user's structures first, the built-in library else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.formats import read_volume
from cryovox.simulate.particles import library
from cryovox.simulate.particles.density import from_atoms
from cryovox.simulate.particles.maps import check_map_mass, from_map
from cryovox.simulate.particles.structures import read_atoms
from cryovox.simulate.particles.template import Template

ATOMS = (".cif", ".mmcif", ".pdb", ".ent")
MAPS = (".mrc", ".map", ".ccp4", ".rec")
UNREAD = (".em", ".hdf", ".spi")
PACKED = ("", ".gz", ".bz2")


def templates(
    names: Sequence[str], voxel_size: float, folder: Path | None = None, resolution: float | None = None
) -> list[Template]:
    """Templates in the order of the names.

    Parameters
    ----------
    names
        Stems of files in *folder*, or what the library knows.
    folder
        Structures (PDB, mmCIF) and maps (MRC), maybe compressed; where both are there for a name, the
        structure is taken. A map that holds half of what its name stands for says so in
        ``facts["doubt"]``.
    """
    if folder is not None and not folder.is_dir():
        raise RequestError(folder, "is not a folder", "name a folder of structures or maps")
    return [_template(name, voxel_size, folder, resolution) for name in names]


def known_names(folder: Path | None = None) -> list[str]:
    """Every species that there is a file for in *folder*, or else every one of the library."""
    if folder is None:
        return library.species_names()
    endings = tuple(f"{end}{packed}" for end in (*ATOMS, *MAPS) for packed in PACKED)
    found = sorted({p.name.split(".")[0] for p in folder.iterdir() if p.name.lower().endswith(endings)})
    if not found:
        raise RequestError(folder, "holds no structures", "name a folder of PDB, mmCIF or MRC files")
    return found


def _template(name: str, voxel_size: float, folder: Path | None, resolution: float | None) -> Template:
    atoms, volume = (_file(folder, name, endings) for endings in (ATOMS, MAPS))
    if atoms is not None:
        made = from_atoms(read_atoms(atoms), voxel_size, resolution=resolution, name=name)
        return replace(made, source=atoms.name)
    if volume is not None:
        made = from_map(read_volume(volume), voxel_size, resolution=resolution, name=name)
        doubt = _doubt(name, made)
        return replace(made, source=volume.name, facts=made.facts | ({"doubt": doubt} if doubt else {}))
    _check_unread(folder, name)
    made = library.build_template(name, voxel_size, resolution)
    return replace(made, name=name, source=f"built-in {made.name}")


def _check_unread(folder: Path | None, name: str) -> None:
    """Refuse to take the library's stand-in where the user's own map is in a format that is not read."""
    map_file = _file(folder, name, UNREAD)
    if map_file is not None:
        message = f"is a map in a format that is not read (maps: {', '.join(MAPS)})"
        raise RequestError(map_file, message, "convert it to MRC, with the voxel size in its header")


def _doubt(name: str, made: Template) -> str | None:
    """Whether a map holds another part of the particle than the library's entry of that name."""
    try:
        known = library.SPECIES[library.canonical_name(name)].mass
    except RequestError:
        return None
    return check_map_mass(made, known)


def _file(folder: Path | None, name: str, endings: tuple[str, ...]) -> Path | None:
    """The file of a name, whatever its case and compression."""
    if folder is None:
        return None
    wanted = {f"{name.lower()}{end}{packed}" for end in endings for packed in PACKED}
    found = sorted(path for path in folder.iterdir() if path.name.lower() in wanted)
    return found[0] if found else None
