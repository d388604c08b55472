"""Reading and writing of `dataset.yaml` and of its files, and of folders in other layouts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from cryovox.core.atomic import replacing
from cryovox.core.config import from_yaml
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.decisions import REJECTED_SPECIES, decisions_of, has_decisions
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.placement import check_density, check_positions, check_radius, outside_message
from cryovox.core.volume import LabelMap, Volume
from cryovox.formats import (
    PARTICLES,
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
from cryovox.formats.particles import copick

FILE = "dataset.yaml"
FILES = ("tomogram", "even", "odd", "labels", "particles", "mask")


def read(path: Path | str) -> Dataset:
    """Read a dataset, and check that its files exist and have its voxel size.

    Parameters
    ----------
    path
        `dataset.yaml` or its folder; or a folder of one of :data:`cryovox.formats.layouts.LAYOUTS`.

    Returns
    -------
    Dataset
        The dataset, with paths resolved against that folder.
    """
    is_folder = Path(path).is_dir()
    file = Path(path) / FILE if is_folder else Path(path)
    dataset = _from_layout(Path(path)) if is_folder and not file.exists() else described(file)
    for kind in dataset.species:
        check_radius(file, kind.name, kind.radius, dataset.voxel_size)
    for entry in dataset.entries:
        _check(entry, dataset, file)
    return dataset


def described(file: Path) -> Dataset:
    """Read `dataset.yaml` with paths resolved against its folder, without checking its files."""
    dataset = from_yaml(Dataset, file)
    entries = [
        entry.model_copy(update={name: file.parent / value for name, value in _files(entry)})
        for entry in dataset.entries
    ]
    return dataset.model_copy(update={"entries": tuple(entries)})


def _from_layout(folder: Path) -> Dataset:
    layout = layouts.find(folder)
    if layout is None:
        message = f"holds no {FILE}, and has none of the layouts {', '.join(layouts.LAYOUTS)}"
        raise RequestError(folder, message, "name the folder of a dataset")
    dataset: Dataset = layout.read(folder)
    return dataset


def write(folder: Path | str, dataset: Dataset, name: str = FILE) -> Path:
    """Write `dataset.yaml`, or another name, into a folder, with relative paths of files below the folder.

    Returns
    -------
    Path
        Path of the file.
    """
    root = Path(folder).resolve()
    content: dict[str, Any] = dataset.model_dump(mode="json", exclude_defaults=True)
    for row, entry in zip(content.get("entries", []), dataset.entries, strict=True):
        for kind, value in _files(entry):
            row[kind] = _relative(value, root).as_posix()
    file = root / name
    with replacing(file) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def _relative(file: Path, root: Path) -> Path:
    """Path relative to a folder if the file is below it; links in the path are resolved, the file is not."""
    path = Path(os.path.abspath(file))
    path = path.parent.resolve() / path.name
    return path.relative_to(root) if path.is_relative_to(root) else path


def load_tomogram(entry: Entry, dataset: Dataset) -> Volume:
    """Open the tomogram, memory-mapped, with the voxel size of the dataset."""
    return read_volume(entry.tomogram, dataset.voxel_size)


def load_mask(entry: Entry) -> NDArray[np.bool_] | None:
    """Read the mask (z, y, x), true inside the annotated region; None if there is no mask."""
    if entry.mask is None:
        return None
    mask = read_mask(entry.mask)
    _check_shape(entry, "mask", mask.shape)
    return mask


def load_annotations(entry: Entry, dataset: Dataset) -> tuple[LabelMap | None, Particles | None]:
    """Read the annotations of an entry, and check them against its tomogram and the species.

    Picks may lie outside the tomogram by the radius of their species. A list without picks is useful only if
    it is exhaustive. Of a list with a column `keep`, only the picks that are kept are read; those that are
    rejected belong to the species `rejected` if the dataset has it. Extended structures have no picks.

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
    names = [kind.name for kind in dataset.species if kind.name != REJECTED_SPECIES]
    only = names[0] if len(names) == 1 else None
    picks = _read_picks(path, tomogram, only, (entry.name, stem(entry.tomogram)))
    picks = _without_rejected(picks, path, dataset)
    unknown = sorted(set(picks.species.tolist()) - {s.name for s in dataset.species})
    if unknown:
        known = ", ".join(s.name for s in dataset.species) or "none"
        message = f"holds picks of {', '.join(map(repr, unknown))}; species of the dataset: {known}"
        raise RequestError(path, message, f"rename them, or add the species to {FILE}")
    if not len(picks) and not all(entry.is_exhaustive(s.name) for s in dataset.species):
        message = "holds no picks and is not exhaustive, so it contains no information"
        raise RequestError(path, message, f"set `exhaustive: true` in {FILE} if there are none to find")
    extended = [s.name for s in dataset.species if s.extended]
    picks = picks.take(~np.isin(picks.species, extended)) if extended else picks
    radii = {s.name: s.radius for s in dataset.species}
    _check_inside(path, picks, tomogram, np.array([radii[str(name)] for name in picks.species]))
    for kind in dataset.species:
        check_density(f"{path}, {kind.name}", picks.named(kind.name).positions, tomogram, kind.radius)
    return picks


def _without_rejected(picks: Particles, path: Path, dataset: Dataset) -> Particles:
    """Picks that a person kept; those that were rejected are of the species of this name, if there is one."""
    if not has_decisions(picks):
        return picks
    decisions = decisions_of(picks, path)
    species = np.where(decisions == 0, REJECTED_SPECIES, picks.species)
    is_kept = decisions == 1
    if any(kind.name == REJECTED_SPECIES for kind in dataset.species):
        is_kept |= decisions == 0
    return replace(picks, species=species).take(is_kept)


def _read_picks(path: Path, tomogram: Volume, species: str | None, names: tuple[str, ...]) -> Particles:
    if path.is_dir():
        return copick.read_picks(path)
    if path.name == shrec2021.PICKS:
        return shrec2021.read_picks(path)
    return read_particles(path, tomogram=tomogram, species=species, tomogram_names=names)


def _check_inside(path: Path, particles: Particles, tomogram: Volume, radii: NDArray[np.float64]) -> None:
    """Raise an error for picks more than their radius outside; closer ones are cut by the border."""
    high = (np.array(tomogram.shape) - 0.5) * tomogram.voxel_size
    low = -0.5 * tomogram.voxel_size
    distance = np.maximum(particles.positions - high, low - particles.positions).max(axis=1, initial=-np.inf)
    outside = int((distance > radii).sum())
    if outside:
        message = outside_message(particles.positions, distance, outside, high)
        raise RequestError(path, message, "are they in pixels rather than Å, or are x and z swapped?")
    check_positions(path, particles.positions, tomogram, radii)


def _check(entry: Entry, dataset: Dataset, file: Path) -> None:
    for name, value in _files(entry):
        where = f"{file}, entry {entry.name}"
        if not value.exists():
            raise RequestError(where, f"{name}: there is no file {value}", "correct the path")
        if name == "particles" and not (is_particles(value) or value.is_dir()):
            remedy = f"known extensions: {', '.join(PARTICLES)}; or a folder Picks of copick"
            raise RequestError(where, f"{name}: {value} has an unknown extension", remedy)
        if name != "particles" and ((value.is_dir() and value.suffix != ".zarr") or not is_volume(value)):
            message = f"{name}: {value} has an unknown extension"
            raise RequestError(where, message, "use an MRC file or an OME-Zarr store")
        if name != "particles" and not shrec2021.is_volume_of(value):
            _check_size(where, name, value, dataset.voxel_size)


def _check_size(where: str, name: str, path: Path, voxel_size: float) -> None:
    stored = read_header(path).voxel_size
    if stored is None or abs(stored / voxel_size - 1) <= 0.05:
        return
    if name not in ("tomogram", "even", "odd") and stored == 1:  # label maps often have none
        return
    message = f"{name}: {path} has voxels of {stored:g} Å, the dataset says {voxel_size:g} Å"
    raise RequestError(
        where,
        message,
        f"correct voxel_size in {FILE}, or resample with `cryovox convert IN OUT --resample A`",
    )


def _check_shape(entry: Entry, name: str, shape: tuple[int, ...]) -> None:
    expected = read_header(entry.tomogram).shape
    if tuple(shape) != expected:
        message = f"{name} of shape {tuple(shape)} (z, y, x), the tomogram has {expected}"
        raise RequestError(entry.name, message, "both must cover the same voxels")


def _files(entry: Entry) -> Iterator[tuple[str, Path]]:
    for name in FILES:
        value: Path | None = getattr(entry, name)
        if value is not None:
            yield name, value
