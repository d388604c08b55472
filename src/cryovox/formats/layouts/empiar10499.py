"""EMPIAR-10499, *Mycoplasma pneumoniae* cells: tomograms that the user reconstructed and 70S ribosomes.

The archive contains tilt movies, so the names of tomograms depend on the reconstruction. This layout is
ours: `tomograms/NAME.mrc` (or `.rec`, `.zarr`, or `NAME_10.00Apx.mrc` of Warp) and, in `particles` or
`coordinates`, either one list per tomogram with the same name, or one STAR file that names tomograms.
Conventions of STAR files (Warp, M, RELION) are those of :mod:`cryovox.formats.particles.star`; plain tables
are in Å.

Refined lists contain only some of the particles, so no list is taken as exhaustive. The split is ours: a
fifth of the tomograms is for testing.
"""

from __future__ import annotations

from pathlib import Path

from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.formats import is_particles, is_volume, read_volume, stem
from cryovox.formats.layouts.split import split_by_volume
from cryovox.formats.tomogram_names import plain_name

RADIUS = 150.0
"""Radius of a ribosome in Å, as in the CZII challenge."""
LISTS = ("particles", "coordinates")
TEST_FRACTION = 0.2


def is_here(folder: Path) -> bool:
    """Whether a folder contains `tomograms` and one of `particles` and `coordinates`."""
    return (folder / "tomograms").is_dir() and _list_folder(folder) is not None


def read(folder: Path, radius: float = RADIUS, species: str = "ribosome") -> Dataset:
    """Describe the dataset without copying.

    Parameters
    ----------
    folder
        Folder with `tomograms` and `particles` or `coordinates`.
    radius
        Radius in Å.
    species
        Species of the picks.
    """
    list_folder = _list_folder(folder)
    if list_folder is None or not (folder / "tomograms").is_dir():
        message = "holds no folders tomograms and particles"
        raise RequestError(folder, message, "put tomograms and lists of picks there")
    files = {
        _name(path): path
        for path in sorted((folder / "tomograms").iterdir())
        if is_volume(path) and not path.name.startswith(".")
    }
    if not files:
        raise RequestError(folder / "tomograms", "holds no tomograms", "put NAME.mrc there")
    lists = {_name(path): path for path in sorted(list_folder.iterdir()) if is_particles(path)}
    if not lists:
        raise RequestError(list_folder, "holds no particle lists", "put NAME.star, or one list of all, there")
    shared = next(iter(lists.values())) if len(lists) == 1 and not set(lists) & set(files) else None
    split = split_by_volume(files, TEST_FRACTION)
    entries = []
    for name, path in files.items():
        picks = shared or lists.get(name)
        if picks is None:
            raise RequestError(
                list_folder / f"{name}.star",
                "there is no such list",
                f"add it, or remove {path}, which has no picks",
            )
        entries.append(Entry(name=name, tomogram=path, particles=picks, split=split[name], exhaustive=False))
    size = read_volume(next(iter(files.values()))).voxel_size
    kind = (Species(name=species, label=1, radius=radius),)
    return Dataset(voxel_size=size, species=kind, entries=tuple(entries))


def _list_folder(folder: Path) -> Path | None:
    return next((folder / name for name in LISTS if (folder / name).is_dir()), None)


def _name(path: Path) -> str:
    """Name of a tomogram in the lists of Warp and RELION."""
    return plain_name(stem(path))
