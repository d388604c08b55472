"""`dataset.yaml` and the files that it names; folders of the layouts that others use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from cryovox.core.atomic import replacing
from cryovox.core.config import from_yaml
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.placement import check_density, check_positions, check_radius, outside_message
from cryovox.core.volume import LabelMap, Volume
from cryovox.formats import (
    PARTICLES,
    copick,
    is_particles,
    is_volume,
    layouts,
    read_header,
    read_labels,
    read_mask,
    read_particles,
    read_volume,
    stem,
)
from cryovox.formats.layouts import shrec2021

FILE = "dataset.yaml"
FILES = ("tomogram", "even", "odd", "labels", "particles", "mask")


def read(path: Path | str) -> Dataset:
    """Read a dataset; the files it names are there and have its voxel size.

    Parameters
    ----------
    path
        `dataset.yaml` or its folder; or a folder of one of :data:`cryovox.formats.layouts.LAYOUTS`.

    Returns
    -------
    Dataset
        With paths resolved against that folder.
    """
    is_folder = Path(path).is_dir()
    file = Path(path) / FILE if is_folder else Path(path)
    dataset = _laid_out(Path(path)) if is_folder and not file.exists() else described(file)
    for kind in dataset.species:
        check_radius(file, kind.name, kind.radius, dataset.voxel_size)
    for entry in dataset.entries:
        _check(entry, dataset, file)
    return dataset


def described(file: Path) -> Dataset:
    """What a `dataset.yaml` says, with paths resolved against its folder; the files are not looked at."""
    dataset = from_yaml(Dataset, file)
    entries = [
        entry.model_copy(update={name: file.parent / value for name, value in _files(entry)})
        for entry in dataset.entries
    ]
    return dataset.model_copy(update={"entries": tuple(entries)})


def _laid_out(folder: Path) -> Dataset:
    layout = layouts.find(folder)
    if layout is None:
        told = f"holds no {FILE}, and is laid out like none of {', '.join(layouts.LAYOUTS)}"
        raise RequestError(folder, told, "name the folder of a dataset")
    dataset: Dataset = layout.read(folder)
    return dataset


def write(folder: Path | str, dataset: Dataset) -> Path:
    """Write `dataset.yaml` into a folder, with paths relative to it where they lie below it.

    Returns
    -------
    Path
        Of the file.
    """
    root = Path(folder).resolve()
    found: dict[str, Any] = dataset.model_dump(mode="json", exclude_defaults=True)
    for row, entry in zip(found.get("entries", []), dataset.entries, strict=True):
        for name, value in _files(entry):
            row[name] = _relative(value, root).as_posix()
    file = root / FILE
    with replacing(file) as beside:
        beside.write_text(yaml.safe_dump(found, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def _relative(file: Path, root: Path) -> Path:
    """The path from a folder to a file below it, whichever links lead there; a link itself stays one."""
    whole = Path(os.path.abspath(file))
    whole = whole.parent.resolve() / whole.name
    return whole.relative_to(root) if whole.is_relative_to(root) else whole


def load_tomogram(entry: Entry, dataset: Dataset) -> Volume:
    """The tomogram, mapped into memory, with the voxel size of the dataset."""
    return read_volume(entry.tomogram, dataset.voxel_size)


def load_mask(entry: Entry) -> NDArray[np.bool_] | None:
    """(z, y, x), true inside the region that was searched; None where all of it was."""
    if entry.mask is None:
        return None
    mask = read_mask(entry.mask)
    _check_shape(entry, "mask", mask.shape)
    return mask


def load_annotations(entry: Entry, dataset: Dataset) -> tuple[LabelMap | None, Particles | None]:
    """What is known of an entry, checked against its tomogram and the species.

    Picks may lie outside the tomogram by the radius of their species. A list without picks teaches
    something only where it is exhaustive.

    Returns
    -------
    labels : LabelMap or None
    particles : Particles or None
    """
    labels = None
    if entry.labels is not None:
        labels = read_labels(entry.labels, dataset.species, dataset.voxel_size)
        _check_shape(entry, "labels", labels.data.shape)
    if entry.particles is None:
        return labels, None
    return labels, _load_particles(entry.particles, entry, dataset)


def _load_particles(path: Path, entry: Entry, dataset: Dataset) -> Particles:
    tomogram = load_tomogram(entry, dataset)
    only = dataset.species[0].name if len(dataset.species) == 1 else None
    found = _read_picks(path, tomogram, only, (entry.name, stem(entry.tomogram)))
    unknown = sorted(set(found.species.tolist()) - {s.name for s in dataset.species})
    if unknown:
        known = ", ".join(s.name for s in dataset.species) or "none"
        told = f"holds picks of {', '.join(map(repr, unknown))}; species of the dataset: {known}"
        raise RequestError(path, told, f"rename them, or add the species to {FILE}")
    if not len(found) and not all(entry.is_exhaustive(s.name) for s in dataset.species):
        told = "holds no picks and is not exhaustive, which teaches nothing"
        raise RequestError(path, told, f"set `exhaustive: true` in {FILE} if there are none to find")
    radii = {s.name: s.radius for s in dataset.species}
    _check_inside(path, found, tomogram, np.array([radii[str(name)] for name in found.species]))
    for kind in dataset.species:
        check_density(f"{path}, {kind.name}", found.named(kind.name).positions, tomogram, kind.radius)
    return found


def _read_picks(path: Path, tomogram: Volume, species: str | None, names: tuple[str, ...]) -> Particles:
    if path.is_dir():
        return copick.read(path)
    if path.name == shrec2021.PICKS:
        return shrec2021.read_picks(path)
    return read_particles(path, tomogram=tomogram, species=species, tomogram_names=names)


def _check_inside(path: Path, particles: Particles, tomogram: Volume, radii: NDArray[np.float64]) -> None:
    """Refuse picks farther out than their radius; closer ones are particles that the border cuts."""
    high = (np.array(tomogram.shape) - 0.5) * tomogram.voxel_size
    low = -0.5 * tomogram.voxel_size
    beyond = np.maximum(particles.positions - high, low - particles.positions).max(axis=1, initial=-np.inf)
    outside = int((beyond > radii).sum())
    if outside:
        message = outside_message(particles.positions, beyond, outside, high)
        raise RequestError(path, message, "are they in pixels rather than Å, or are x and z swapped?")
    check_positions(path, particles.positions, tomogram, radii)


def _check(entry: Entry, dataset: Dataset, file: Path) -> None:
    for name, value in _files(entry):
        where = f"{file}, entry {entry.name}"
        if not value.exists():
            raise RequestError(where, f"{name}: there is no file {value}", "mend the path")
        if name == "particles" and not (is_particles(value) or value.is_dir()):
            table = f"known endings: {', '.join(PARTICLES)}; or a folder Picks of copick"
            raise RequestError(where, f"{name}: {value} has an ending that is not known", table)
        if name != "particles" and ((value.is_dir() and value.suffix != ".zarr") or not is_volume(value)):
            told = f"{name}: {value} has an ending that is not known"
            raise RequestError(where, told, "an MRC file, or an OME-Zarr store, is wanted")
        if name != "particles" and not shrec2021.is_volume_of(value):
            _check_size(where, name, value, dataset.voxel_size)


def _check_size(where: str, name: str, path: Path, voxel_size: float) -> None:
    written = read_header(path).voxel_size
    if written is None or abs(written / voxel_size - 1) <= 0.05:
        return
    if name not in ("tomogram", "even", "odd") and written == 1:  # label maps often say nothing
        return
    told = f"{name}: {path} has voxels of {written:g} Å, the dataset says {voxel_size:g} Å"
    raise RequestError(
        where, told, f"mend voxel_size in {FILE}, or resample with `cryovox convert IN OUT --resample A`"
    )


def _check_shape(entry: Entry, name: str, shape: tuple[int, ...]) -> None:
    wanted = read_header(entry.tomogram).shape
    if tuple(shape) != wanted:
        told = f"{name} of shape {tuple(shape)} (z, y, x), the tomogram has {wanted}"
        raise RequestError(entry.name, told, "both must cover the same voxels")


def _files(entry: Entry) -> Iterator[tuple[str, Path]]:
    for name in FILES:
        value: Path | None = getattr(entry, name)
        if value is not None:
            yield name, value
