"""From score maps and label maps on disk to particle files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import writable_folder
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import LabelMap, ScoreMap, Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import is_volume, read_labels, read_mask, scores, write_particles
from cryovox.formats.particles import manifest as picks_manifest
from cryovox.formats.particles.manifest import Origin
from cryovox.picking import PickConfig, pick_labels_counted
from cryovox.picking.config import check_calibrated, check_cut
from cryovox.picking.rated import RatedPicks, pick_rated
from cryovox.picking.selection import select, size_notes
from cryovox.workflows.batch import Failures, for_each
from cryovox.workflows.config import PickOutput
from cryovox.workflows.inputs import expand, mask_file
from cryovox.workflows.lamella import FOLDER as LAMELLA
from cryovox.workflows.manifest import Manifest

OnNote = Callable[[str, str], None]
"""Receives the name of an input and a remark for the user."""


def pick_files(  # noqa: PLR0913 (the options of a command)
    inputs: list[Path],
    out: Path,
    config: PickConfig,
    output: PickOutput | None = None,
    *,
    dataset: Path | None = None,
    mask: Path | None = None,
    voxel_size: float | None = None,
    on_note: OnNote = lambda name, text: None,
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, Particles], Failures]:
    """Pick from every input and write `out/particles/NAME.star`.

    Parameters
    ----------
    inputs
        Score maps (`scores/NAME.zarr`), label maps, folders or patterns.
    dataset
        Names and radii of the labels, for label maps.
    mask
        Volume that is not 0 where particles may lie, or a folder of such volumes named after the inputs;
        their voxel sizes are ignored.
    voxel_size
        Voxel size in Å of label maps; overrides their headers.
    on_note
        Receives remarks on the picks of an input.
    overwrite
        Replace the picks of another input of the same name; those of the same input are always replaced.

    Returns
    -------
    picks, failures
        By name.
    """
    check_cut(config)
    if config.by_contrast:
        message = "needs the tomogram, which score maps and label maps do not hold"
        raise RequestError("--by-contrast", message, "use `cryovox find TOMOGRAM --by-contrast`")
    files = expand(inputs, is_volume)
    species = _species(dataset)
    masks = {} if mask is None else {name: mask_file(mask, name) for name in files}
    read_mask_once = lru_cache(maxsize=1)(read_mask)
    manifest = Manifest(out, {}, "pick")
    if not overwrite:
        manifest.check_free(files)
    writable_folder(out / "particles")

    def pick(name: str) -> Particles:
        start = time.monotonic()
        inside = read_mask_once(masks[name]) if name in masks else None
        rated, frame, notes = _picks(files[name], config, species, inside, voxel_size)
        picks = rated.picks
        origin = origin_of(files[name], rated)
        file = write_picks(name, out, picks, frame, output or PickOutput(), origin)
        for text in (*notes, *left_out_notes({"at_faces": rated.near_edge})):
            on_note(name, text)
        key, seconds = {"settings": config.model_dump(mode="json")}, time.monotonic() - start
        more = {"count": len(picks), "expected": rated.summary()}
        manifest.note(name, key, {"particles": file}, seconds, files[name], **more)
        return picks

    return for_each(files, pick, on_progress=on_progress)


def _picks(
    path: Path,
    config: PickConfig,
    species: tuple[Species, ...],
    inside: NDArray[np.bool_] | None,
    voxel_size: float | None,
) -> tuple[RatedPicks, Volume, list[str]]:
    """Picks of one file, the frame of its tomogram, and remarks."""
    if scores.is_scores(path):
        stored = scores.read(path)
        score_map = select(stored, config.species)
        rated = pick_rated(score_map, config, inside)
        notes = [*size_notes(stored, config), *rated.notes(config), *_limits(path, inside is not None, rated)]
        return rated, tomogram_frame(score_map), notes
    check_calibrated(config, None)
    labels = read_labels(path, species, voxel_size)
    picks, near_faces = pick_labels_counted(_only(labels, config.species, path), config, inside)
    frame = Volume(labels.data, labels.voxel_size, labels.origin)
    return RatedPicks(picks, near_faces, {}, {}), frame, []


def _limits(path: Path, masked: bool, rated: RatedPicks) -> list[str]:
    """Say what `find` does with the tomogram and scores alone do not allow."""
    notes = []
    mask = path.parent.parent / LAMELLA / f"{path.name.removesuffix('.zarr')}.mrc"
    if mask.exists() and not masked:
        searched = (
            "picks and probabilities here are of the whole volume, those of `cryovox find` of the sample"
        )
        notes.append(f"{searched}; --mask {mask.parent} searches the sample alone")
    if rated.curves:
        notes.append("only `cryovox find` tests whether the probabilities hold for the tomogram")
    return notes


def _only(labels: LabelMap, wanted: tuple[str, ...], path: Path) -> LabelMap:
    """Labels of some species; the others become background."""
    if not wanted:
        return labels
    known = {species.name: species for species in labels.species}
    if unknown := [name for name in wanted if name not in known]:
        message = f"{unknown[0]!r} is not among the species of {path.name}"
        names = ", ".join(known) or "none; name them with --dataset"
        raise RequestError("--species", message, f"species of this label map: {names}")
    species = tuple(known[name] for name in wanted)
    kept = np.isin(labels.data, [one.label for one in species])
    return replace(labels, data=np.where(kept, labels.data, 0), species=species)


def origin_of(model: Path, rated: RatedPicks) -> Origin:
    """What the manifest of picks says of their origin."""
    finite = {name: float(value) for name, value in rated.thresholds.items() if np.isfinite(value)}
    return Origin(model=str(model), thresholds=finite)


def write_picks(
    name: str, out: Path, picks: Particles, frame: Volume, output: PickOutput, origin: Origin
) -> Path:
    """Write the particle file of a tomogram, and its manifest."""
    path = out / "particles" / f"{name}.star"
    write_particles(path, picks, tomogram=frame, tomogram_name=name, convention=output.convention)
    picks_manifest.write(path, picks, tomogram=frame, tomogram_name=name, origin=origin)
    return path


def left_out_notes(counts: Mapping[str, int]) -> list[str]:
    """Say how many picks were dropped, and which options keep them."""
    notes = []
    if counts.get("at_faces"):
        at = "near the volume edges (within half a radius, or --border)"
        notes.append(f"{counts['at_faces']} picks {at} are left out; --border 0 keeps them")
    if counts.get("lamella"):
        at = "more than a radius outside the estimated boundary of the sample"
        notes.append(f"{counts['lamella']} picks {at} are left out; --no-lamella keeps them")
    if counts.get("dense"):
        on = "on objects far denser than the other picks, such as gold beads,"
        notes.append(f"{counts['dense']} picks {on} are left out; --keep-dense keeps them")
    return notes


def tomogram_frame(score_map: ScoreMap) -> Volume:
    """Shape and voxel size of the tomogram of a score map, without its voxels."""
    shape = score_map.tomogram_shape or tuple(score_map.data.shape[1:])
    voxel_size = score_map.tomogram_voxel_size or score_map.voxel_size
    return Volume(np.broadcast_to(np.int8(0), shape), voxel_size, score_map.origin, score_map.nstart)


def _species(dataset: Path | None) -> tuple[Species, ...]:
    if dataset is None:
        return ()
    species = dataset_files.read(dataset).species
    if not species:
        raise RequestError(dataset, "names no species", "add `species:` with name, label and radius")
    return species
