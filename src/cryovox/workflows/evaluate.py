"""Compare particles and labels with the ground truth."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cryovox.core.errors import DataWarning, RequestError
from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.placement import check_positions
from cryovox.core.progress import ProgressCallback, no_progress, tracked
from cryovox.core.volume import LabelMap, Volume
from cryovox.data.annotated_regions import AnnotatedRegions, keep_annotated, read_annotated_regions
from cryovox.formats import dataset as dataset_files
from cryovox.formats import is_particles, read_header, read_labels, read_particles, read_volume, subtomograms
from cryovox.formats.particles.names import UNNAMED
from cryovox.formats.tomogram_names import listed, plain_name
from cryovox.metrics import czii, shrec
from cryovox.metrics.evaluation import evaluate_particles, precision_recall_curves
from cryovox.metrics.segmentation import evaluate_labels
from cryovox.metrics.subtomograms import evaluate_masks
from cryovox.metrics.table import Row
from cryovox.workflows.config import Rule
from cryovox.workflows.inputs import expand, frame

Regions = Mapping[str, AnnotatedRegions]
"""Name of a tomogram -> its annotated regions."""


@dataclass(frozen=True)
class Evaluation:
    """A comparison of particle lists."""

    rows: list[Row]
    """One per tomogram, species and metric."""
    curves: dict[str, dict[str, list[float]]]
    """Species -> precision-recall curve over all tomograms; rule radius only."""
    notes: list[str]
    """Remarks for the user."""


def evaluate_particle_files(  # noqa: PLR0913 (the options of a command)
    picks: Path,
    truth: Path,
    rule: Rule = "radius",
    *,
    radius: float | None = None,
    fraction: float = 1.0,
    dataset: Path | None = None,
    tomogram: Path | None = None,
    occupancy: Path | None = None,
    on_progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Compare particle files, or folders of them with equal names.

    Lists that name tomograms are compared tomogram by tomogram. With a dataset, only the annotated boxes
    and masks are scored, and species that are not annotated exhaustively get no precision.

    Parameters
    ----------
    picks, truth
        Particle files, or folders in which files of equal name belong together.
    rule
        "radius", "czii" or "shrec".
    radius
        Radius in Å of every species; those of *dataset* by default.
    fraction
        Largest distance of a hit, in radii.
    dataset
        Dataset with species, radii, tomograms, and their annotated regions.
    tomogram
        The tomogram, or a folder of tomograms, where a format counts from its center.
    occupancy
        Occupancy mask of the SHREC rule.
    """
    if rule == "shrec" and occupancy is None:
        message = "the SHREC rule looks picks up in the occupancy mask"
        raise RequestError("--occupancy", message, "name that file")
    species = () if dataset is None else dataset_files.read(dataset).species
    extended = [one.name for one in species if one.extended]
    regions = _regions(dataset, tomogram)
    predicted, true = (_read_lists(path, regions, species, rule, on_progress) for path in (picks, truth))
    predicted, true = (own.take(~np.isin(own.species, extended)) for own in (predicted, true))
    predicted, true = _match_tomograms(predicted, true, picks, truth, regions)
    predicted, true, unnamed = _match_species(predicted, true, picks, truth)
    _check_positions({truth: true, picks: predicted}, regions)
    _check_radius(radius, regions)
    predicted, true = keep_annotated(predicted, regions), keep_annotated(true, regions)
    radii = _radii({*true.species.tolist(), *predicted.species.tolist()}, species, radius, rule)
    incomplete = {name: own.incomplete for name, own in regions.items() if own.incomplete}
    if incomplete and rule != "radius":
        message = f"annotation is not exhaustive in {listed(incomplete)}"
        warnings.warn(f"{message}: rule {rule} counts true picks as false", DataWarning, stacklevel=2)
    mask = None if occupancy is None else _read_occupancy(occupancy)
    rows = evaluate_particles(
        predicted, true, radii, rule, fraction=fraction, occupancy=mask, incomplete=incomplete
    )
    curves = precision_recall_curves(predicted, true, radii, fraction) if rule == "radius" else {}
    return Evaluation(rows, curves, [*unnamed, *_incomplete_notes(incomplete, true)])


def evaluate_label_files(
    predictions: Path,
    truth: Path,
    dataset: Path | None = None,
    tolerance: float | None = None,
    *,
    on_progress: ProgressCallback = no_progress,
) -> list[Row]:
    """One tidy table for label maps, folders of them with equal names, or subtomogram sets.

    Parameters
    ----------
    tolerance
        Distance in Å within which surfaces agree; by default one voxel. Sets have no surface Dice.
    """
    if subtomograms.is_set(predictions) or subtomograms.is_set(truth):
        return _evaluate_sets(predictions, truth)
    species = () if dataset is None else dataset_files.read(dataset).species
    predicted, true = (_read_all_labels(folder, species, on_progress) for folder in (predictions, truth))
    if tolerance is not None:
        _check_voxel_sizes(expand([truth]))
    if len(true) == 1 and len(predicted) == 1:
        pair = next(iter(predicted.values())), next(iter(true.values()))
        return evaluate_labels(*pair, tolerance=tolerance, on_progress=on_progress)
    missing = sorted(set(true) - set(predicted))
    if missing:
        message = f"has no label map called {missing[0]}"
        raise RequestError(predictions, message, "names must agree with those of the truth")
    paired = {name: predicted[name] for name in true}
    return evaluate_labels(paired, true, tolerance=tolerance, on_progress=on_progress)


def _evaluate_sets(predictions: Path, truth: Path) -> list[Row]:
    """Compare the masks of two sets of the same subtomograms in the same order."""
    predicted, true = subtomograms.read(predictions), subtomograms.read(truth)
    for path, masks in ((predictions, predicted.masks), (truth, true.masks)):
        if masks is None:
            remedy = "name a set that `cryovox segment` or `extract` wrote"
            raise RequestError(path, "holds no masks", remedy)
    assert predicted.masks is not None
    assert true.masks is not None
    if predicted.masks.shape != true.masks.shape:
        message = f"masks of shape {predicted.masks.shape}, those of {truth.name} have {true.masks.shape}"
        raise RequestError(predictions, message, "compare labels of the same set")
    if not np.allclose(predicted.particles.positions, true.particles.positions, atol=true.voxel_size):
        message = f"its subtomograms are not those of {truth.name}"
        raise RequestError(predictions, message, "compare labels of the same set")
    masks = np.asarray(predicted.masks[:]), np.asarray(true.masks[:])
    return evaluate_masks(*masks, predicted.species, true.species)


def _check_voxel_sizes(files: Mapping[str, Path]) -> None:
    """Refuse a tolerance in Å for label maps that do not say their voxel size."""
    for path in files.values():
        if read_header(path).voxel_size is None:
            message = f"is in Å, and {path} has no voxel size"
            remedy = "add it with `cryovox convert IN OUT --voxel-size A`, or leave --tolerance out"
            raise RequestError("--tolerance", message, remedy)


def _read_all_labels(
    folder: Path, species: tuple[Species, ...], on_progress: ProgressCallback
) -> dict[str, LabelMap]:
    files = expand([folder])
    tracked_files = tracked(files.items(), on_progress, f"reading {folder.name}")
    return {name: _read_labels(path, species) for name, path in tracked_files}


def _read_labels(path: Path, species: tuple[Species, ...]) -> LabelMap:
    """A label map; its voxel size may be unknown, since voxels are compared one by one."""
    return read_labels(path, species, read_header(path).voxel_size or 1.0)


def _read_occupancy(path: Path) -> LabelMap:
    """Numbers of particles, which may exceed 255; the header often lacks the voxel size."""
    volume = read_volume(path, read_header(path).voxel_size or shrec.VOXEL_SIZE)
    return LabelMap(np.asarray(volume.data), volume.voxel_size)


def _read_lists(
    path: Path,
    regions: Regions,
    species: tuple[Species, ...],
    rule: Rule,
    on_progress: ProgressCallback,
) -> Particles:
    """All particles of a file or folder; tomograms have the names in *regions*, or plain ones."""
    only_species = species[0].name if len(species) == 1 else None
    alias = {plain_name(other): name for name, own in regions.items() for other in (name, *own.names)}
    frames = {other: own.volume for name, own in regions.items() for other in {name, *own.names}}
    frame_or_frames = next(iter(regions.values())).volume if len(regions) == 1 else frames or None
    files = expand([path], is_particles)
    lists = []
    for name, file in tracked(files.items(), on_progress, f"reading {path.name}"):
        if rule == "shrec" and file.suffix == ".txt":
            particles = shrec.read_objects(file)
        else:
            particles = read_particles(file, tomogram=frame_or_frames, species=only_species)
        if particles.tomograms is not None and any(particles.tomograms.tolist()):
            plain = [plain_name(str(other)) for other in particles.tomograms]
            particles = replace(particles, tomograms=np.array([alias.get(p, p) for p in plain]))
        elif len(files) > 1 or plain_name(name) in alias:
            particles = _named(particles, alias.get(plain_name(name), plain_name(name)))
        else:
            particles = replace(particles, tomograms=None)
        lists.append(particles)
    return concatenate(lists)


def _named(particles: Particles, tomogram: str) -> Particles:
    return replace(particles, tomograms=np.full(len(particles), tomogram))


def _match_species(
    predicted: Particles, true: Particles, picks: Path, truth: Path
) -> tuple[Particles, Particles, list[str]]:
    """Give a list without species the only species of the other, and say so."""
    of_picks, of_truth = ({*own.species.tolist()} for own in (predicted, true))
    if of_truth == {UNNAMED} and len(of_picks - {UNNAMED}) == len(of_picks) == 1:
        return predicted, _of_species(true, *of_picks), [_unnamed_note(truth, *of_picks)]
    if of_picks == {UNNAMED} and len(of_truth - {UNNAMED}) == len(of_truth) == 1:
        return _of_species(predicted, *of_truth), true, [_unnamed_note(picks, *of_truth)]
    return predicted, true, []


def _of_species(particles: Particles, species: str) -> Particles:
    return replace(particles, species=np.full(len(particles), species))


def _unnamed_note(path: Path, species: str) -> str:
    return f"{path.name} names no species: its particles count as {species}"


def _match_tomograms(
    predicted: Particles, true: Particles, picks: Path, truth: Path, regions: Regions
) -> tuple[Particles, Particles]:
    """Two lists with the same names of tomograms, or both without."""
    if not len(predicted) or not len(true):
        return predicted, true
    predicted_names, true_names = _tomogram_names(predicted), _tomogram_names(true)
    _refuse_unnamed(picks, predicted_names, true_names)
    _refuse_unnamed(truth, true_names, predicted_names)
    if not predicted_names or not true_names:
        names = predicted_names or true_names
        return (_named(predicted, names[0]), _named(true, names[0])) if names else (predicted, true)
    if not set(predicted_names) & set(true_names):
        several = len(predicted_names) != 1 or len(true_names) != 1
        if several or {*predicted_names, *true_names} <= set(regions):
            here, there = listed(predicted_names, 3), listed(true_names, 3)
            message = f"names no tomogram of {truth.name} (here {here}; there {there})"
            raise RequestError(picks, message, "names must agree with those of the truth")
        message = f"{picks} names tomogram {predicted_names[0]}, {truth} names {true_names[0]}"
        warnings.warn(f"{message}: compared as one tomogram", DataWarning, stacklevel=3)
        return _named(predicted, true_names[0]), true
    missing = sorted(set(true_names) - set(predicted_names))
    if missing:
        message = f"{picks} holds nothing of {listed(missing)}: all particles there count as missed"
        warnings.warn(message, DataWarning, stacklevel=3)
    return predicted, true


def _tomogram_names(particles: Particles) -> list[str]:
    return [] if particles.tomograms is None else sorted(set(particles.tomograms.tolist()))


def _refuse_unnamed(path: Path, names: list[str], other_names: list[str]) -> None:
    """Refuse a list without names of tomograms if the other list names several."""
    if not names and len(other_names) > 1:
        message = f"names no tomograms, the other list names {len(other_names)} ({listed(other_names)})"
        columns = "add a column `tomogram` (CSV) or `rlnTomoName` (STAR)"
        raise RequestError(path, message, f"{columns}, or compare the lists of one tomogram")


def _check_positions(lists: Mapping[Path, Particles], regions: Regions) -> None:
    for name, own in regions.items():
        for path, particles in lists.items():
            if particles.tomograms is not None or len(regions) == 1:
                check_positions(path, particles.within(name).positions, own.volume)


def _check_radius(radius: float | None, regions: Regions) -> None:
    for own in regions.values():
        if radius is not None and radius < own.volume.voxel_size:
            message = (
                f"--radius {radius:g} Å is less than a voxel of {own.volume.voxel_size:g} Å: is it in Å?"
            )
            warnings.warn(message, DataWarning, stacklevel=3)


def _regions(dataset: Path | None, tomogram: Path | None) -> Regions:
    """Tomograms with their annotated regions; entries of one tomogram are regions of it."""
    regions = {} if dataset is None else read_annotated_regions(dataset_files.read(dataset))
    if tomogram is None:
        return regions
    frames = {name: frame(path) for name, path in expand([tomogram]).items()}
    whole = {name: AnnotatedRegions(volume, (name,)) for name, volume in frames.items()}
    volumes = {name: _volume_of(name, own, frames) for name, own in regions.items()}
    return {n: replace(regions[n], volume=v) for n, v in volumes.items() if v is not None} or whole


def _volume_of(name: str, regions: AnnotatedRegions, frames: Mapping[str, Volume]) -> Volume | None:
    plain = {plain_name(other) for other in (name, *regions.names)}
    return next((volume for key, volume in frames.items() if plain_name(key) in plain), None)


def _incomplete_notes(incomplete: Mapping[str, Collection[str]], true: Particles) -> list[str]:
    """Say which metrics species that are not annotated exhaustively lack."""
    names = sorted({name for own in incomplete.values() for name in own} & set(true.species.tolist()))
    if not names:
        return []
    message = f"annotation of {listed(names)} is not exhaustive (in {listed(incomplete)})"
    return [
        f"{message}: no precision, F1 or average precision; recall at 1x, 2x and 4x the true number holds"
    ]


def _radii(
    names: set[str], species: tuple[Species, ...], radius: float | None, rule: Rule
) -> dict[str, float] | float:
    if radius is not None:
        return radius
    if species:
        return {s.name: s.radius for s in species}
    unknown = sorted(names - set(czii.RADII))
    if rule == "radius" or (rule == "czii" and unknown):
        message = "the largest distance of a hit is not known"
        if rule == "czii":
            message += f" for {unknown[0]!r}, which the challenge does not have"
        raise RequestError("--radius", message, "give --radius A (in Å) or --dataset")
    return dict.fromkeys(names, 0.0)
