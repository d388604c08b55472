"""Compare what was found with the truth."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cryovox.core.errors import DataWarning, RequestError
from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.placement import check_positions
from cryovox.core.volume import LabelMap, Volume
from cryovox.data.annotated_regions import AnnotatedRegions, keep_annotated, read_annotated_regions
from cryovox.formats import dataset as dataset_files
from cryovox.formats import is_particles, read_header, read_labels, read_particles, read_volume, subtomograms
from cryovox.formats.tomogram_names import listed, plain_name
from cryovox.metrics import czii, shrec
from cryovox.metrics.evaluation import evaluate_particles, precision_recall_curves
from cryovox.metrics.segmentation import evaluate_labels
from cryovox.metrics.subtomograms import evaluate_masks
from cryovox.metrics.table import Row
from cryovox.workflows.config import Rule
from cryovox.workflows.inputs import expand, frame


@dataclass(frozen=True)
class Evaluation:
    """A comparison of particle lists."""

    rows: list[Row]
    """One per tomogram, species and metric."""
    curves: dict[str, dict[str, list[float]]]
    """Species -> precision-recall curve over all tomograms; rule radius only."""
    notes: list[str]
    """What the reader should know."""


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
) -> Evaluation:
    """Compare particle files, or folders of them with equal names.

    Lists that name tomograms are compared tomogram by tomogram. With a dataset, only the boxes and masks
    that were searched are scored, and what is not annotated exhaustively gets no precision.

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
        Dataset that names species, radii, tomograms, and what was searched in them.
    tomogram
        The tomogram, or a folder of tomograms, where a format counts from its centre.
    occupancy
        Occupancy mask of the SHREC rule.
    """
    if rule == "shrec" and occupancy is None:
        raise RequestError(
            "--occupancy", "the SHREC rule looks picks up in the occupancy mask", "name that file"
        )
    searched = _searched(dataset, tomogram)
    species = _species(dataset)
    picks, true = (_lists(path, searched, species, rule) for path in (found, truth))
    picks, true = _paired(picks, true, found, truth, searched)
    _check_places({truth: true, found: picks}, searched, radius)
    picks, true = (keep_annotated(some, searched) for some in (picks, true))
    radii = _radii(true, picks, species, radius, rule)
    mask = None if occupancy is None else _numbers(occupancy)
    incomplete = {name: one.incomplete for name, one in searched.items() if one.incomplete}
    if incomplete and rule != "radius":
        message = (
            f"annotation is not exhaustive in {listed(incomplete)}: rule {rule} counts true picks as false"
        )
        warnings.warn(message, DataWarning, stacklevel=2)
    rows = evaluate_particles(
        picks, true, radii, rule, fraction=fraction, occupancy=mask, incomplete=incomplete
    )
    curves = precision_recall_curves(picks, true, radii, fraction) if rule == "radius" else {}
    return Evaluation(rows, curves, _unjudged(incomplete, true))


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


def _paired(
    picks: Particles, true: Particles, found: Path, truth: Path, searched: Mapping[str, AnnotatedRegions]
) -> tuple[Particles, Particles]:
    """Two lists whose names of tomograms mean the same, or that both have none."""
    if not len(picks) or not len(true):
        return picks, true
    sides = ((found, picks), (truth, true))
    names = [None if some.tomograms is None else sorted(set(some.tomograms.tolist())) for _, some in sides]
    for (path, some), (_, other), theirs in zip(sides, sides[::-1], names[::-1], strict=True):
        if some.tomograms is None and other.tomograms is not None and theirs and len(theirs) > 1:
            message = f"names no tomograms, the other list names {len(theirs)} ({listed(theirs)})"
            remedy = (
                "add a column `tomogram` (CSV) or `rlnTomoName` (STAR), or compare the lists of one tomogram"
            )
            raise RequestError(path, message, remedy)
    ours, theirs = names
    if ours is None or theirs is None:
        only = (ours or theirs or [None])[0]
        return (picks, true) if only is None else (_renamed(picks, only), _renamed(true, only))
    if not set(ours) & set(theirs):
        if len(ours) != 1 or len(theirs) != 1 or {*ours, *theirs} <= set(searched):
            message = f"names no tomogram of {truth.name} (here {listed(ours, 3)}; there {listed(theirs, 3)})"
            raise RequestError(found, message, "names must agree with those of the truth")
        message = f"{found} names tomogram {ours[0]}, {truth} names {theirs[0]}: compared as one tomogram"
        warnings.warn(message, DataWarning, stacklevel=3)
        return _renamed(picks, theirs[0]), true
    missing = sorted(set(theirs) - set(ours))
    if missing:
        message = f"{found} holds nothing of {listed(missing)}: all particles there count as missed"
        warnings.warn(message, DataWarning, stacklevel=3)
    return picks, true


def _check_places(
    lists: Mapping[Path, Particles],
    searched: Mapping[str, AnnotatedRegions],
    radius: float | None,
) -> None:
    """Compare positions and radii with the tomograms that are known."""
    for name, one in searched.items():
        for path, some in lists.items():
            mine = some.within(name) if some.tomograms is not None or len(searched) == 1 else None
            check_positions(path, np.zeros((0, 3)) if mine is None else mine.positions, one.volume)
        if radius is not None:
            _check_radius(radius, one.volume.voxel_size)


def _check_radius(radius: float, voxel_size: float) -> None:
    if radius < voxel_size:
        message = f"--radius {radius:g} Å is less than a voxel of {voxel_size:g} Å: is it in Å?"
        warnings.warn(message, DataWarning, stacklevel=4)


def _renamed(particles: Particles, name: str) -> Particles:
    return replace(particles, tomograms=np.full(len(particles), name))


def _species(dataset: Path | None) -> tuple[Species, ...]:
    return () if dataset is None else dataset_files.read(dataset).species


def _searched(dataset: Path | None, tomogram: Path | None) -> dict[str, AnnotatedRegions]:
    """The tomograms by name; entries of one tomogram are regions of it."""
    if tomogram is not None and dataset is None:
        return {name: AnnotatedRegions(frame(path), (name,)) for name, path in expand([tomogram]).items()}
    regions = {} if dataset is None else read_annotated_regions(dataset_files.read(dataset))
    if tomogram is None:
        return regions
    frames = {name: frame(path) for name, path in expand([tomogram]).items()}
    matched = {name: _named_alike(name, one, frames) for name, one in regions.items()}
    kept = {n: replace(regions[n], volume=volume) for n, volume in matched.items() if volume is not None}
    return kept or {name: AnnotatedRegions(volume, (name,)) for name, volume in frames.items()}


def _named_alike(name: str, one: AnnotatedRegions, frames: Mapping[str, Volume]) -> Volume | None:
    plain = {plain_name(other) for other in (name, *one.names)}
    return next((volume for key, volume in frames.items() if plain_name(key) in plain), None)


def _numbers(path: Path) -> LabelMap:
    """An occupancy mask: particle numbers, which may exceed 255; its header often knows no voxel size."""
    volume = read_volume(path, read_header(path).voxel_size or shrec.VOXEL_SIZE)
    return LabelMap(np.asarray(volume.data), volume.voxel_size)


def _lists(
    path: Path, searched: Mapping[str, AnnotatedRegions], species: tuple[Species, ...], rule: Rule
) -> Particles:
    """All particles of a file or folder; tomograms have their names in *searched*, or plain ones."""
    only = species[0].name if len(species) == 1 else None
    alias = {plain_name(other): name for name, one in searched.items() for other in (name, *one.names)}
    frames = {other: one.volume for name, one in searched.items() for other in {name, *one.names}}
    alone = next(iter(searched.values())).volume if len(searched) == 1 else None
    files = expand([path], is_particles)
    lists = []
    for name, file in files.items():
        if rule == "shrec" and file.suffix == ".txt":
            picks = shrec.read_objects(file)
        else:
            picks = read_particles(file, tomogram=alone or frames or None, species=only)
        if picks.tomograms is not None and any(picks.tomograms.tolist()):
            plain = [plain_name(str(other)) for other in picks.tomograms]
            picks = replace(picks, tomograms=np.array([alias.get(other, other) for other in plain]))
        elif len(files) > 1 or plain_name(name) in alias:
            picks = _renamed(picks, alias.get(plain_name(name), plain_name(name)))
        else:
            picks = replace(picks, tomograms=None)
        lists.append(picks)
    return concatenate(lists)


def _unjudged(incomplete: Mapping[str, Collection[str]], true: Particles) -> list[str]:
    """What is said of species that are not annotated exhaustively."""
    names = sorted({name for some in incomplete.values() for name in some} & set(true.species.tolist()))
    if not names:
        return []
    message = f"annotation of {listed(names)} is not exhaustive (in {listed(incomplete)})"
    return [
        f"{message}: no precision, F1 or average precision; recall at 1x, 2x and 4x the true number holds"
    ]


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
