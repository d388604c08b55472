"""EMPIAR-10499, *Mycoplasma pneumoniae* cells: tomograms of one's own making and a list of 70S ribosomes.

The archive holds tilt movies; what tomograms are called depends on who reconstructed them. So this is a
layout of ours: `tomograms/NAME.mrc` (or `.rec`, `.zarr`; Warp's `NAME_10.00Apx.mrc` too) and, in `particles`
or `coordinates`, either one list for each tomogram, called as it is, or one STAR file that names
tomograms. Conventions of STAR files (Warp, M, RELION) are those of :mod:`cryovox.formats.star`; plain
tables count in Å.

What is not sure: lists that were refined keep only the particles that helped, so no list is taken as
exhaustive. The split is ours: a fifth of the tomograms tests.
"""

from __future__ import annotations

from pathlib import Path

from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.formats import is_particles, is_volume, read_volume, stem
from cryovox.formats.layouts.split import by_volume
from cryovox.formats.tomogram_names import plain_name

RADIUS = 150.0
"""Of a ribosome in Å, as the CZII challenge has it."""
LISTS = ("particles", "coordinates")
SHARE = 0.2


def is_here(folder: Path) -> bool:
    """Whether a folder holds `tomograms` and one of `particles` and `coordinates`."""
    return (folder / "tomograms").is_dir() and _place(folder) is not None


def read(folder: Path, radius: float = RADIUS, species: str = "ribosome") -> Dataset:
    """Describe the dataset; nothing is copied.

    Parameters
    ----------
    folder
        Holds `tomograms` and `particles` or `coordinates`.
    radius
        In Å.
    species
        Name of what was picked.
    """
    place = _place(folder)
    if place is None or not (folder / "tomograms").is_dir():
        told = "holds no folders tomograms and particles"
        raise RequestError(folder, told, "put tomograms and lists of picks there")
    files = {
        _name(path): path
        for path in sorted((folder / "tomograms").iterdir())
        if is_volume(path) and not path.name.startswith(".")
    }
    if not files:
        raise RequestError(folder / "tomograms", "holds no tomograms", "put NAME.mrc there")
    lists = {_name(path): path for path in sorted(place.iterdir()) if is_particles(path)}
    if not lists:
        raise RequestError(place, "holds no particle lists", "put NAME.star, or one list of all, there")
    shared = next(iter(lists.values())) if len(lists) == 1 and not set(lists) & set(files) else None
    split = by_volume(files, SHARE)
    entries = []
    for name, path in files.items():
        picks = shared or lists.get(name)
        if picks is None:
            raise RequestError(place / f"{name}.star", "there is no such list", f"{path} has no picks")
        entries.append(Entry(name=name, tomogram=path, particles=picks, split=split[name], exhaustive=False))
    size = read_volume(next(iter(files.values()))).voxel_size
    kinds = (Species(name=species, label=1, radius=radius),)
    return Dataset(voxel_size=size, species=kinds, entries=tuple(entries))


def _place(folder: Path) -> Path | None:
    return next((folder / name for name in LISTS if (folder / name).is_dir()), None)


def _name(path: Path) -> str:
    """Name of a tomogram in the lists of Warp and RELION."""
    return plain_name(stem(path))
