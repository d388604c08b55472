"""Templates of species, from structures of the user or from the built-in library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.core.reading import check_readable
from cryovox.formats import ending, read_volume, stem
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
        Stems of files in *folder*, or names of the library.
    folder
        Structures (PDB, mmCIF) and maps (MRC), maybe compressed; a structure is preferred to a map of the
        same name. ``facts["doubt"]`` of a template warns of a map that holds half of the particle.
    """
    _check_folder(folder)
    return [_template(name, voxel_size, folder, resolution) for name in names]


def known_names(folder: Path | None = None) -> list[str]:
    """All species with a file in *folder*, or all of the library."""
    if folder is None:
        return library.species_names()
    _check_folder(folder)
    endings = tuple(f"{end}{packed}" for end in (*ATOMS, *MAPS) for packed in PACKED)
    names = sorted({p.name.split(".")[0] for p in folder.iterdir() if p.name.lower().endswith(endings)})
    if not names:
        raise RequestError(folder, "holds no structures", "name a folder of PDB, mmCIF or MRC files")
    return names


def _check_folder(folder: Path | None) -> None:
    if folder is not None and not folder.is_dir():
        raise RequestError(folder, "is not a folder", "name a folder of structures or maps")


def _template(name: str, voxel_size: float, folder: Path | None, resolution: float | None) -> Template:
    atoms, volume = (_file(folder, name, endings) for endings in (ATOMS, MAPS))
    if atoms is not None:
        return _from_structure(atoms, name, voxel_size, resolution)
    if volume is not None:
        return _from_map(volume, name, voxel_size, resolution)
    _check_unread(folder, name)
    return _built_in(name, voxel_size, resolution)


def read_template(
    source: Path, voxel_size: float, resolution: float | None = None, name: str | None = None
) -> Template:
    """Template of a structure or map, or of a species of the library.

    Parameters
    ----------
    source
        File (PDB, mmCIF, MRC), or name of a species.
    name
        Name of the species; by default that of the file.
    """
    if not source.exists():
        if len(source.parts) > 1 or ending(source) in (*ATOMS, *MAPS):
            raise RequestError(
                source, "there is no such file", "name a structure (PDB, mmCIF) or a map (MRC)"
            )
        return replace(_built_in(str(source), voxel_size, resolution), name=name or str(source))
    name = name or stem(source)
    if ending(source) in ATOMS:
        return _from_structure(source, name, voxel_size, resolution)
    if ending(source) in MAPS:
        return _from_map(source, name, voxel_size, resolution)
    raise _wrong_kind(source)


def check_template(source: Path) -> None:
    """Refuse a file that is missing or of another kind, and a name that is not in the library."""
    if not source.exists():
        read_template(source, 10.0)
        return
    check_readable(source)
    if ending(source) not in (*ATOMS, *MAPS):
        raise _wrong_kind(source)


def _wrong_kind(source: Path) -> RequestError:
    message = "is neither a structure nor a map"
    return RequestError(source, message, f"use one of: {', '.join((*ATOMS, *MAPS))}")


def _from_structure(path: Path, name: str, voxel_size: float, resolution: float | None) -> Template:
    template = from_atoms(read_atoms(path), voxel_size, resolution=resolution, name=name)
    return replace(template, source=path.name)


def _from_map(path: Path, name: str, voxel_size: float, resolution: float | None) -> Template:
    template = from_map(read_volume(path), voxel_size, resolution=resolution, name=name)
    warning = _mass_warning(name, template)
    facts = template.facts | ({"doubt": warning} if warning else {})
    return replace(template, source=path.name, facts=facts)


def _built_in(name: str, voxel_size: float, resolution: float | None) -> Template:
    template = library.build_template(name, voxel_size, resolution)
    return replace(template, name=name, source=f"built-in {template.name}")


def _check_unread(folder: Path | None, name: str) -> None:
    """Refuse a map of the user in a format that is not read, rather than take the library's template."""
    map_file = _file(folder, name, UNREAD)
    if map_file is not None:
        message = f"is a map in a format that is not read (maps: {', '.join(MAPS)})"
        raise RequestError(map_file, message, "convert it to MRC, with the voxel size in its header")


def _mass_warning(name: str, template: Template) -> str | None:
    """Warning if a map has another mass than the library's entry of that name."""
    try:
        mass = library.SPECIES[library.canonical_name(name)].mass
    except RequestError:
        return None
    return check_map_mass(template, mass)


def _file(folder: Path | None, name: str, endings: tuple[str, ...]) -> Path | None:
    """The file of a name in any case, compressed or not."""
    if folder is None:
        return None
    names = {f"{name.lower()}{end}{packed}" for end in endings for packed in PACKED}
    files = sorted(path for path in folder.iterdir() if path.name.lower() in names)
    return files[0] if files else None
