"""From score maps and label maps on disk to particle files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import writable_folder
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import is_volume, read_labels, read_mask, scores, write_particles
from cryovox.picking import PickConfig, pick_counted, pick_labels_counted
from cryovox.workflows.config import PickOutput
from cryovox.workflows.inputs import expand
from cryovox.workflows.manifest import Manifest

OnNote = Callable[[str, str], None]
"""Called with the name of an input and what the reader should know of it."""


def is_pickable(path: Path) -> bool:
    """Whether a path is a score map or a label map."""
    return is_volume(path)


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
) -> tuple[dict[str, Particles], dict[str, Exception]]:
    """Pick from every input and write `out/particles/NAME.star`.

    Parameters
    ----------
    inputs
        Score maps (`scores/NAME.zarr`), label maps, folders or patterns.
    dataset
        Names and radii of the labels, for label maps.
    mask
        Volume that is not 0 where particles may lie; its voxel size plays no part.
    voxel_size
        Edge of a voxel in Å of label maps; wins over their headers.
    on_note
        Called with the name of an input and what the reader should know of its picks.
    overwrite
        Replace the picks of another input of the same name; those of the same input are always replaced.

    Returns
    -------
    picks, failures
        By name.
    """
    files = expand(inputs, is_pickable)
    species = _species(dataset)
    allowed = None if mask is None else read_mask(mask)
    manifest = Manifest(out, {}, "pick")
    if not overwrite:
        manifest.check_free(files)
    picks: dict[str, Particles] = {}
    failures: dict[str, Exception] = {}
    writable_folder(out / "particles")
    for name, path in files.items():
        try:
            began = time.monotonic()
            picks[name], frame, at_faces = _picked(path, config, species, allowed, voxel_size)
            write_picks(name, out, picks[name], frame, output or PickOutput())
            for text in left_out_notes({"at_faces": at_faces}):
                on_note(name, text)
            key, file = {"settings": config.model_dump(mode="json")}, particle_file(out, name)
            seconds = time.monotonic() - began
            manifest.note(name, key, {"particles": file}, seconds, path, count=len(picks[name]))
        except Exception as error:
            if len(files) == 1:
                raise
            failures[name] = error
    return picks, failures


def _picked(
    path: Path,
    config: PickConfig,
    species: tuple[Species, ...],
    allowed: NDArray[np.bool_] | None,
    voxel_size: float | None,
) -> tuple[Particles, Volume, int]:
    """Particles of one file, a stand-in for its tomogram, and how many were left out at its faces."""
    if scores.is_scores(path):
        found = scores.read(path)
        picks, at_faces = pick_counted(found, config, allowed)
        return picks, frame_of(found), at_faces
    labels = read_labels(path, species, voxel_size)
    picks, at_faces = pick_labels_counted(labels, config, allowed)
    return picks, Volume(labels.data, labels.voxel_size, labels.origin), at_faces


def write_picks(name: str, out: Path, picks: Particles, frame: Volume, output: PickOutput) -> None:
    """Write the particle file of a tomogram."""
    file, version = particle_file(out, name), output.star_version
    write_particles(file, picks, tomogram=frame, tomogram_name=name, star_version=version)


def left_out_notes(counts: Mapping[str, int]) -> list[str]:
    """What is said of picks that were left out, and the options that keep them."""
    notes = []
    if counts.get("at_faces"):
        at = "near the faces of the volume (within half a radius, or --border)"
        notes.append(f"{counts['at_faces']} picks {at} are left out; --border 0 keeps them")
    if counts.get("dense"):
        on = "on specks far denser than the others, such as gold,"
        notes.append(f"{counts['dense']} picks {on} are left out; --keep-dense keeps them")
    return notes


def particle_file(out: Path, name: str) -> Path:
    """Where the picks of a tomogram go."""
    return out / "particles" / f"{name}.star"


def frame_of(found: ScoreMap) -> Volume:
    """A stand-in for the tomogram of a score map: its shape and voxel size, no voxels."""
    shape = found.tomogram_shape or tuple(found.data.shape[1:])
    size = found.tomogram_voxel_size or found.voxel_size
    return Volume(np.broadcast_to(np.int8(0), shape), size, found.origin, found.nstart)


def _species(dataset: Path | None) -> tuple[Species, ...]:
    if dataset is None:
        return ()
    from cryovox.formats import dataset as dataset_files

    found = dataset_files.read(dataset).species
    if not found:
        raise RequestError(dataset, "names no species", "add `species:` with name, label and radius")
    return found
