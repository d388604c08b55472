"""Compare what was found with the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.volume import LabelMap, Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import is_particles, read_header, read_labels, read_particles, read_volume, subtomograms
from cryovox.metrics import czii, shrec
from cryovox.metrics.evaluation import evaluate_particles
from cryovox.metrics.segmentation import evaluate_labels
from cryovox.metrics.subtomograms import evaluate_masks
from cryovox.metrics.table import Row
from cryovox.workflows.inputs import expand, frame

Rule = Literal["radius", "czii", "shrec"]


def evaluate_particle_files(
    found: Path,
    truth: Path,
    rule: Rule = "radius",
    *,
    radius: float | None = None,
    fraction: float = 1.0,
    dataset: Path | None = None,
    tomogram: Path | None = None,
    occupancy: Path | None = None,
) -> list[Row]:
    """One tidy table for particle files, or folders of them with equal names.

    Parameters
    ----------
    found, truth
        Particle files, or folders in which files of equal name belong together.
    rule
        "radius", "czii" or "shrec".
    radius
        Radius in Å of every species; those of *dataset* by default.
    fraction
        Largest distance of a hit, in radii.
    dataset
        Dataset that names species, radii and tomograms.
    tomogram
        The tomogram, where a format counts from its centre.
    occupancy
        Occupancy mask of the SHREC rule.
    """
    if rule == "shrec" and occupancy is None:
        raise RequestError(
            "--occupancy", "the SHREC rule looks picks up in the occupancy mask", "name that file"
        )
    species = _species(dataset)
    frames = _frames(dataset, tomogram)
    picks, true = _lists(found, frames, species, rule), _lists(truth, frames, species, rule)
    picks = _paired(picks, true, found, truth)
    radii = _radii(true, picks, species, radius, rule)
    mask = None if occupancy is None else _numbers(occupancy)
    return evaluate_particles(picks, true, radii, rule, fraction=fraction, occupancy=mask)


def evaluate_label_files(found: Path, truth: Path, dataset: Path | None = None) -> list[Row]:
    """One tidy table for label maps, folders of them with equal names, or subtomogram sets."""
    if subtomograms.is_set(found) or subtomograms.is_set(truth):
        return _evaluate_sets(found, truth)
    species = _species(dataset)
    maps = [{n: _labels(p, species) for n, p in expand([folder]).items()} for folder in (found, truth)]
    picks, true = maps
    if len(true) == 1 and len(picks) == 1:
        return evaluate_labels(next(iter(picks.values())), next(iter(true.values())))
    missing = sorted(set(true) - set(picks))
    if missing:
        raise RequestError(
            found, f"has no label map called {missing[0]}", "names must agree with those of the truth"
        )
    return evaluate_labels({n: picks[n] for n in true}, true)


def _evaluate_sets(found: Path, truth: Path) -> list[Row]:
    """Both are sets with masks of the same subtomograms, in the same order."""
    ours, theirs = subtomograms.read(found), subtomograms.read(truth)
    for path, one in ((found, ours), (truth, theirs)):
        if one.masks is None:
            raise RequestError(path, "holds no masks", "name a set that `cryovox segment` or `extract` wrote")
    assert ours.masks is not None
    assert theirs.masks is not None
    if ours.masks.shape != theirs.masks.shape:
        told = f"masks of shape {ours.masks.shape}, those of {truth.name} have {theirs.masks.shape}"
        raise RequestError(found, told, "compare labels of the same set")
    if not np.allclose(ours.particles.positions, theirs.particles.positions, atol=theirs.voxel_size):
        told = f"its subtomograms are not those of {truth.name}"
        raise RequestError(found, told, "compare labels of the same set")
    masks = np.asarray(ours.masks[:]), np.asarray(theirs.masks[:])
    return evaluate_masks(*masks, ours.species, theirs.species)


def _labels(path: Path, species: tuple[Species, ...]) -> LabelMap:
    """A label map; voxels are compared one by one, so their size may be unknown."""
    return read_labels(path, species, read_header(path).voxel_size or 1.0)


def _paired(picks: Particles, true: Particles, found: Path, truth: Path) -> Particles:
    """Two lists that each name one tomogram belong together; several must have names in common."""
    if picks.tomograms is None or true.tomograms is None or not len(picks) or not len(true):
        return picks
    ours, theirs = sorted(set(picks.tomograms.tolist())), sorted(set(true.tomograms.tolist()))
    if set(ours) & set(theirs):
        return picks
    if len(ours) == len(theirs) == 1:
        return replace(picks, tomograms=np.full(len(picks), theirs[0]))
    told = f"names no tomogram of {truth.name} (here {', '.join(ours[:3])}; there {', '.join(theirs[:3])})"
    raise RequestError(found, told, "names must agree with those of the truth")


def _species(dataset: Path | None) -> tuple[Species, ...]:
    return () if dataset is None else dataset_files.read(dataset).species


def _frames(dataset: Path | None, tomogram: Path | None) -> dict[str, Volume]:
    if tomogram is not None:
        return {"": frame(tomogram)}
    if dataset is None:
        return {}
    found = dataset_files.read(dataset)
    return {entry.name: dataset_files.load_tomogram(entry, found) for entry in found.entries}


def _numbers(path: Path) -> LabelMap:
    """An occupancy mask: particle numbers, which may exceed 255; its header often knows no voxel size."""
    volume = read_volume(path, read_header(path).voxel_size or shrec.VOXEL_SIZE)
    return LabelMap(np.asarray(volume.data), volume.voxel_size)


def _lists(path: Path, frames: dict[str, Volume], species: tuple[Species, ...], rule: Rule) -> Particles:
    only = species[0].name if len(species) == 1 else None
    files = expand([path], is_particles)
    lists = []
    for name, file in files.items():
        belongs = frames.get(name, frames.get("", next(iter(frames.values())) if len(frames) == 1 else None))
        if rule == "shrec" and file.suffix == ".txt":
            read = shrec.read_objects(file)
        else:
            read = read_particles(file, tomogram=belongs, species=only)
        if read.tomograms is None and len(files) > 1:
            read = Particles.of(read.positions, read.species, read.scores, tomograms=[name] * len(read))
        lists.append(read)
    return concatenate(lists)


def _radii(
    truth: Particles, found: Particles, species: tuple[Species, ...], radius: float | None, rule: Rule
) -> dict[str, float] | float:
    if radius is not None:
        return radius
    if species:
        return {s.name: s.radius for s in species}
    names = {*truth.species.tolist(), *found.species.tolist()}
    if rule == "radius" or (rule == "czii" and not names <= set(czii.RADII)):
        told = "how far a hit may lie is not known"
        if rule == "czii":
            told += f" for {sorted(names - set(czii.RADII))[0]!r}, which the challenge does not have"
        raise RequestError("--radius", told, "give --radius A (in Å) or --dataset")
    return dict.fromkeys(names, 0.0)
