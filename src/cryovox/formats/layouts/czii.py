"""The CZII challenge "CryoET Object Identification" (Kaggle, 2024 to 2025), a copick project.

`static/ExperimentRuns/RUN/VoxelSpacing10.000/denoised.zarr` and
`overlay/ExperimentRuns/RUN/Picks/SPECIES.json` with places in Å, in the folder itself or in its `train`,
as Kaggle packs it. Voxels are 10.012 Å, as the stores say, whatever the name of the folder.

What is not sure: whether every particle was picked. The challenge counts other picks as false, so the
lists are taken as exhaustive.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cryovox.core.czii import RADII
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.formats import ome_zarr

FOLDS = ("TS_5_4", "TS_86_3", "TS_69_2", "TS_99_9", "TS_73_6", "TS_6_4", "TS_6_6")
"""The seven tomograms in the order in which the winners of the challenge held them out."""


def is_here(folder: Path) -> bool:
    """Whether a folder, or its `train`, holds `static/ExperimentRuns`."""
    return _root(folder) is not None


def read(folder: Path, tomogram: str = "denoised", fold: int = 6) -> Dataset:
    """Describe the dataset; nothing is copied.

    Parameters
    ----------
    folder
        Holds `static` and `overlay`, or `train` and maybe `test` with them.
    tomogram
        Name of the store, without `.zarr`.
    fold
        Which of `FOLDS` validates; the others train. Runs without picks are there to test.
    """
    root = _root(folder)
    if root is None:
        told = "holds no static/ExperimentRuns"
        raise RequestError(folder, told, "unpack what Kaggle gives, and name the folder that holds train")
    if fold not in range(len(FOLDS)):
        raise RequestError("fold", f"is {fold}", f"there are 0 to {len(FOLDS) - 1}")
    entries = [_entry(root, run, tomogram, FOLDS[fold]) for run in _runs(root)]
    if root.name == "train" and (root.with_name("test") / "static").is_dir():
        test, known = root.with_name("test"), {entry.name for entry in entries}
        entries += [_entry(test, run, tomogram, "") for run in _runs(test) if run.name not in known]
    found = tuple(entries)
    size = _voxel_size(found[0].tomogram)
    kinds = tuple(Species(name=n, label=i, radius=r) for i, (n, r) in enumerate(RADII.items(), 1))
    return Dataset(voxel_size=size, species=kinds, entries=found)


def _voxel_size(store: Path) -> float:
    """What the store says, in Å as all of a copick project; else the name of its folder."""
    written = ome_zarr.header(store, unit="angstrom").voxel_size
    return written or float(store.parent.name.removeprefix("VoxelSpacing"))


def _root(folder: Path) -> Path | None:
    places = (folder, folder / "train")
    return next((place for place in places if (place / "static" / "ExperimentRuns").is_dir()), None)


def _runs(root: Path) -> list[Path]:
    place = root / "static" / "ExperimentRuns"
    found = sorted(path for path in place.iterdir() if path.is_dir())
    if not found:
        raise RequestError(place, "holds no runs", "unpack the files again")
    return found


def _entry(root: Path, run: Path, tomogram: str, held: str) -> Entry:
    stores = sorted(run.glob(f"VoxelSpacing10*/{tomogram}.zarr"))
    if not stores:
        wanted = run / "VoxelSpacing10.000" / f"{tomogram}.zarr"
        raise RequestError(wanted, "there is no such store", "unpack the files again")
    picks = root / "overlay" / "ExperimentRuns" / run.name / "Picks"
    split: Literal["train", "val", "test"] = "test"
    if picks.is_dir():
        split = "val" if run.name == held else "train"
    return Entry(name=run.name, tomogram=stores[0], particles=picks if picks.is_dir() else None, split=split)
