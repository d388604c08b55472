"""Make datasets of folders in the layouts of their authors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import replacing, writable_folder
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.formats import dataset as dataset_files
from cryovox.formats import layouts, stem, subtomograms, write_particles
from cryovox.formats.layouts import folder as volumes
from cryovox.formats.layouts import xulab
from cryovox.formats.layouts.stack import LazyStack
from cryovox.formats.subtomograms import Subtomograms


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a dataset in a known layout."""
    return layouts.find(folder) is not None


def prepare_dataset(folder: Path, out: Path, layout: str = "tomograms", *, overwrite: bool = False) -> Path:
    """Make a dataset, or subtomogram sets, of a folder.

    Parameters
    ----------
    folder
        In the layout of its authors, or one of :mod:`cryovox.formats.layouts`.
    out
        Output folder.
    layout
        One of `LAYOUTS`. "tomograms": `dataset.yaml`, `particles/NAME.star` and, in `tomograms`, links
        named after the entries; no voxel is copied. "volumes": also sets of patches, `train.zarr` and
        `test.zarr`. "subtomograms": one set, `all.zarr`.
    overwrite
        Overwrite existing files.

    Returns
    -------
    Path
        Dataset or set to train on.
    """
    if out.resolve() == folder.resolve():
        raise RequestError("--out", f"is {folder} itself", "choose another folder")
    return LAYOUTS[layout](folder, out, overwrite)


def _tomograms(folder: Path, out: Path, overwrite: bool) -> Path:
    dataset = dataset_files.read(folder)
    _check_free(out / dataset_files.FILE, overwrite)
    writable_folder(out)
    entries = tuple(_linked_entry(entry, dataset, out) for entry in dataset.entries)
    dataset_files.write(out, dataset.model_copy(update={"entries": entries}))
    return out


def _volumes(folder: Path, out: Path, overwrite: bool) -> Path:
    patches = volumes.read_patches(folder)
    for part in ("train", "test"):
        _check_free(out / f"{part}.zarr", overwrite)
    _tomograms(folder, out, overwrite)
    for part in ("train", "test"):
        indices = np.flatnonzero(patches.particles.extra["split"] == part)
        if len(indices):
            subtomograms.write(out / f"{part}.zarr", _subset(patches, indices))
    return out / "train.zarr"


def _subtomograms(folder: Path, out: Path, overwrite: bool) -> Path:
    subtomogram_set = xulab.read(folder)
    _check_free(out / "all.zarr", overwrite)
    writable_folder(out)
    subtomograms.write(out / "all.zarr", subtomogram_set)
    return out / "all.zarr"


LAYOUTS: dict[str, Callable[[Path, Path, bool], Path]] = {
    "tomograms": _tomograms,
    "volumes": _volumes,
    "subtomograms": _subtomograms,
}


def _check_free(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise RequestError(path, "is there already", "choose another --out, or pass --overwrite")


def _linked_entry(entry: Entry, dataset: Dataset, out: Path) -> Entry:
    """The entry with a link to its tomogram, and its picks as a STAR file."""
    changes = {"tomogram": _link_tomogram(entry, out / "tomograms")}
    if entry.labels is not None:
        changes["labels"] = entry.labels.resolve()
    picks = dataset_files.load_annotations(entry.model_copy(update={"labels": None}), dataset)[1]
    if picks is not None:
        changes["particles"] = out / "particles" / f"{entry.name}.star"
        tomogram = dataset_files.load_tomogram(entry, dataset)
        write_particles(changes["particles"], picks, tomogram=tomogram, tomogram_name=entry.name)
    return entry.model_copy(update=changes)


def _link_tomogram(entry: Entry, folder: Path) -> Path:
    original = entry.tomogram.resolve()
    link = folder / f"{entry.name}{original.name[len(stem(original)) :]}"
    folder.mkdir(exist_ok=True)
    if link.exists() and not link.is_symlink():
        return original
    try:
        with replacing(link) as beside:
            beside.symlink_to(original, target_is_directory=original.is_dir())
    except (OSError, NotImplementedError):  # some file systems have no links
        return original
    return link


def _subset(subvolumes: Subtomograms, indices: NDArray[np.intp]) -> Subtomograms:
    return replace(
        subvolumes,
        images=_select(subvolumes.images, indices),
        masks=_select(subvolumes.masks, indices),
        particles=subvolumes.particles.take(indices),
        corners=None if subvolumes.corners is None else subvolumes.corners[indices],
    )


def _select(cubes: Any, indices: NDArray[np.intp]) -> LazyStack:
    shape = (len(indices), *cubes.shape[1:])
    return LazyStack(shape, cubes.dtype, lambda i: cubes[int(indices[i])])
