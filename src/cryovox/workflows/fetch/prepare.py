"""Datasets of our own out of folders as their authors lay them out."""

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
    """Whether a folder can be trained on as it is."""
    return layouts.find(folder) is not None


def prepare_dataset(folder: Path, out: Path, layout: str = "tomograms", *, overwrite: bool = False) -> Path:
    """Make a dataset, or sets of subtomograms, of a folder.

    Parameters
    ----------
    folder
        As its authors, or :mod:`cryovox.formats.layouts`, lay it out.
    out
        Where to write.
    layout
        One of `LAYOUTS`. "tomograms": `dataset.yaml`, `particles/NAME.star` and, in `tomograms`, links
        called after the entries; no voxel is copied. "volumes": the same, and sets of patches
        `train.zarr` and `test.zarr`. "subtomograms": one set, `all.zarr`.
    overwrite
        Write anew what is there.

    Returns
    -------
    Path
        Of what to train on.
    """
    if out.resolve() == folder.resolve():
        raise RequestError("--out", f"is {folder} itself", "choose another folder")
    return LAYOUTS[layout](folder, out, overwrite)


def _tomograms(folder: Path, out: Path, overwrite: bool) -> Path:
    found = dataset_files.read(folder)
    _free(out / dataset_files.FILE, overwrite)
    writable_folder(out)
    entries = tuple(_adopted(entry, found, out) for entry in found.entries)
    dataset_files.write(out, found.model_copy(update={"entries": entries}))
    return out


def _volumes(folder: Path, out: Path, overwrite: bool) -> Path:
    found = volumes.read_patches(folder)
    for part in ("train", "test"):
        _free(out / f"{part}.zarr", overwrite)
    _tomograms(folder, out, overwrite)
    for part in ("train", "test"):
        which = np.flatnonzero(found.particles.extra["split"] == part)
        if len(which):
            subtomograms.write(out / f"{part}.zarr", _taken(found, which))
    return out / "train.zarr"


def _subtomograms(folder: Path, out: Path, overwrite: bool) -> Path:
    found = xulab.read(folder)
    _free(out / "all.zarr", overwrite)
    writable_folder(out)
    subtomograms.write(out / "all.zarr", found)
    return out / "all.zarr"


LAYOUTS: dict[str, Callable[[Path, Path, bool], Path]] = {
    "tomograms": _tomograms,
    "volumes": _volumes,
    "subtomograms": _subtomograms,
}


def _free(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise RequestError(path, "is there already", "choose another --out, or pass --overwrite")


def _adopted(entry: Entry, dataset: Dataset, out: Path) -> Entry:
    """The entry with a tomogram called after it, and its picks as a STAR file."""
    changes = {"tomogram": _linked(entry, out / "tomograms")}
    if entry.labels is not None:
        changes["labels"] = entry.labels.resolve()
    picks = dataset_files.load_annotations(entry.model_copy(update={"labels": None}), dataset)[1]
    if picks is not None:
        changes["particles"] = out / "particles" / f"{entry.name}.star"
        tomogram = dataset_files.load_tomogram(entry, dataset)
        write_particles(changes["particles"], picks, tomogram=tomogram, tomogram_name=entry.name)
    return entry.model_copy(update=changes)


def _linked(entry: Entry, place: Path) -> Path:
    there = entry.tomogram.resolve()
    link = place / f"{entry.name}{there.name[len(stem(there)) :]}"
    place.mkdir(exist_ok=True)
    if link.exists() and not link.is_symlink():
        return there
    try:
        with replacing(link) as beside:
            beside.symlink_to(there, target_is_directory=there.is_dir())
    except (OSError, NotImplementedError):  # some systems have no links: then the place itself serves
        return there
    return link


def _taken(found: Subtomograms, which: NDArray[np.intp]) -> Subtomograms:
    return replace(
        found,
        images=_some(found.images, which),
        masks=_some(found.masks, which),
        particles=found.particles.take(which),
        corners=None if found.corners is None else found.corners[which],
    )


def _some(cubes: Any, which: NDArray[np.intp]) -> LazyStack:
    shape = (len(which), *cubes.shape[1:])
    return LazyStack(shape, cubes.dtype, lambda i: cubes[int(which[i])])
