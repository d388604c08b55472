"""The CZII challenge "CryoET Object Identification" (Kaggle, 2024 to 2025), a copick project.

The files are `static/ExperimentRuns/RUN/VoxelSpacing10.000/denoised.zarr` and
`overlay/ExperimentRuns/RUN/Picks/SPECIES.json` with positions in Å, in the folder itself or in its `train`,
as in the archive of Kaggle. The voxel size is 10.012 Å, as stored, despite the name of the folder.

It is not known whether every particle was picked. The challenge counts other picks as false, so the lists
are taken as exhaustive.
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
"""The seven tomograms in the order in which the winners of the challenge used them for validation."""


def is_here(folder: Path) -> bool:
    """Whether a folder, or its `train`, contains `static/ExperimentRuns`."""
    return _root(folder) is not None


def read(folder: Path, tomogram: str = "denoised", fold: int = 6) -> Dataset:
    """Describe the dataset without copying.

    Parameters
    ----------
    folder
        Folder with `static` and `overlay`, or with `train` and optionally `test` that contain them.
    tomogram
        Name of the store, without `.zarr`.
    fold
        Index in `FOLDS` of the validation tomogram; the others are for training. Runs without picks are for
        testing.
    """
    root = _root(folder)
    if root is None:
        message = "holds no static/ExperimentRuns"
        raise RequestError(
            folder, message, "unpack the archive of Kaggle, and name the folder that contains train"
        )
    if fold not in range(len(FOLDS)):
        raise RequestError("fold", f"is {fold}", f"there are 0 to {len(FOLDS) - 1}")
    entries = [_entry(root, run, tomogram, FOLDS[fold]) for run in _runs(root)]
    if root.name == "train" and (root.with_name("test") / "static").is_dir():
        test, names = root.with_name("test"), {entry.name for entry in entries}
        entries += [_entry(test, run, tomogram, "") for run in _runs(test) if run.name not in names]
    size = _voxel_size(entries[0].tomogram)
    species = tuple(Species(name=n, label=i, radius=r) for i, (n, r) in enumerate(RADII.items(), 1))
    return Dataset(voxel_size=size, species=species, entries=tuple(entries))


def _voxel_size(store: Path) -> float:
    """Voxel size of the store, in Å as everywhere in copick; else that in the name of its folder."""
    stored = ome_zarr.header(store, unit="angstrom").voxel_size
    return stored or float(store.parent.name.removeprefix("VoxelSpacing"))


def _root(folder: Path) -> Path | None:
    roots = (folder, folder / "train")
    return next((root for root in roots if (root / "static" / "ExperimentRuns").is_dir()), None)


def _runs(root: Path) -> list[Path]:
    folder = root / "static" / "ExperimentRuns"
    runs = sorted(path for path in folder.iterdir() if path.is_dir())
    if not runs:
        raise RequestError(folder, "holds no runs", "unpack the files again")
    return runs


def _entry(root: Path, run: Path, tomogram: str, validation: str) -> Entry:
    stores = sorted(run.glob(f"VoxelSpacing10*/{tomogram}.zarr"))
    if not stores:
        store = run / "VoxelSpacing10.000" / f"{tomogram}.zarr"
        raise RequestError(store, "there is no such store", "unpack the files again")
    picks = root / "overlay" / "ExperimentRuns" / run.name / "Picks"
    split: Literal["train", "val", "test"] = "test"
    if picks.is_dir():
        split = "val" if run.name == validation else "train"
    return Entry(name=run.name, tomogram=stores[0], particles=picks if picks.is_dir() else None, split=split)
