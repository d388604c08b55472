"""Suggest locations to annotate next: score tomograms, choose among candidates, and show them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.intensity import sign_of
from cryovox.core.particles import Particles, concatenate
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Volume
from cryovox.formats import is_particles, read_particles, read_volume, scores, stem, write_particles
from cryovox.formats.tomogram_names import OtherTomogramError, plain_name
from cryovox.models.card import Card, model_file, read_card
from cryovox.picking.config import SuggestConfig
from cryovox.picking.suggest import crop_edge, find_candidates, local_features
from cryovox.picking.suggest import suggest as choose
from cryovox.workflows.batch import Failures, for_each
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device
from cryovox.workflows.inputs import expand, read_search_mask
from cryovox.workflows.manifest import Manifest, sha256
from cryovox.workflows.pick import OnNote, left_out_notes
from cryovox.workflows.segment import segment

STAR, PAGE = "suggested.star", "suggested.html"


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Candidates of one tomogram, and features of what is labeled in it."""

    volume: Volume
    sign: int
    particles: Particles
    features: NDArray[np.float32]
    labeled_features: NDArray[np.float32]
    near_faces: int


def suggest(  # noqa: PLR0913 (the options of a command)
    tomograms: list[Path],
    model: Path,
    out: Path,
    segmenting: SegmentConfig | None = None,
    config: SuggestConfig | None = None,
    *,
    labeled: Iterable[Path] = (),
    device: Device = "auto",
    overwrite: bool = False,
    command: str = "",
    on_progress: ProgressCallback = no_progress,
    on_note: OnNote = lambda name, text: None,
) -> tuple[Particles, Failures]:
    """Suggest the locations whose annotation would improve a model most.

    Writes what :func:`cryovox.workflows.segment.segment` writes, or uses what it or `find` wrote there
    with the same model and settings, then `suggested.star` and `suggested.html`.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    labeled
        Particle files, folders or patterns: locations that were examined already, particles or not.
    overwrite
        Replace an earlier suggestion; score maps that are up to date are kept.
    on_note
        Receives remarks on the locations of a tomogram.

    Returns
    -------
    locations, failures
        The suggestions in the order of rank; what went wrong with tomograms, by name.
    """
    start, model = time.monotonic(), model_file(model)
    segmenting, config = segmenting or SegmentConfig(), config or SuggestConfig()
    files, card = expand(tomograms), read_card(model)
    lists = [*dict.fromkeys(file for path in labeled for file in expand([path], is_particles).values())]
    _check_free(out, overwrite)
    known = _labeled_particles(lists, files, segmenting.voxel_size)
    names, failures = segment(tomograms, model, out, segmenting, device=device, on_progress=on_progress)
    manifest = Manifest(out, {})

    def search(name: str) -> _Candidates:
        return _search(name, out, card, config, manifest.entries[name], known[name], segmenting.mask)

    candidates, search_failures = for_each(names, search, collect=len(files) > 1)
    failures |= search_failures
    if not candidates:
        return concatenate([]), failures
    locations = _choose(candidates, config)
    manifest.facts = {
        "command": command or "suggest",
        "model": str(model),
        "model_sha256": sha256(model),
        "device": device,
        "segment": segmenting.model_dump(mode="json"),
        "suggest": config.model_dump(mode="json"),
        "labelled": {str(file): sha256(file) for file in lists},
        "outputs": {"suggested": STAR, "report": PAGE},
        "seconds": round(time.monotonic() - start, 1),
    }
    _write(out, locations, candidates, card, manifest)
    for name, own in candidates.items():
        for text in left_out_notes({"at_faces": own.near_faces}):
            on_note(name, text)
    return locations, failures


def _check_free(out: Path, overwrite: bool) -> None:
    for name in (STAR, PAGE):
        if (out / name).exists() and not overwrite:
            raise RequestError(out / name, "is there already", "pass --overwrite, or choose another --out")


def _labeled_particles(
    lists: list[Path], files: Mapping[str, Path], voxel_size: float | None
) -> dict[str, Particles]:
    """What is labeled in each tomogram; a list that names none of them is refused."""
    particles: dict[str, list[Particles]] = {name: [] for name in files}
    unused = dict.fromkeys(lists)
    for name, path in files.items() if lists else ():
        try:
            frame = read_volume(path, voxel_size)
        except RequestError:
            if len(files) == 1:
                raise
            continue  # its segmentation will fail, and say why
        for file in lists:
            own = _within_tomogram(file, name, frame, is_only=len(files) == 1)
            if own is not None:
                unused.pop(file, None)
                particles[name].append(own)
    for file in unused:
        message = f"names none of the tomograms that are searched ({', '.join(list(files)[:3])})"
        raise RequestError(file, message, "tomogram names in it, or its own name, must agree with theirs")
    return {name: concatenate(own) for name, own in particles.items()}


def _within_tomogram(file: Path, name: str, frame: Volume, is_only: bool) -> Particles | None:
    """Particles of a list that lie in a tomogram; None if the list is about others."""
    try:
        particles = read_particles(file, tomogram=frame, tomogram_names=(name,))
    except OtherTomogramError:
        return None
    is_named = particles.tomograms is not None and len(particles) > 0
    return particles if is_named or is_only or plain_name(stem(file)) == plain_name(name) else None


def _search(
    name: str,
    out: Path,
    card: Card,
    config: SuggestConfig,
    entry: Mapping[str, Any],
    labeled: Particles,
    mask: Path | None,
) -> _Candidates:
    volume = read_volume(Path(entry["key"]["input"]), entry["voxel_size"])
    inside = read_search_mask(mask, name, volume.shape)
    score_map = scores.read(out / "scores" / f"{name}.zarr")
    particles, near_faces = find_candidates(score_map, config, labeled.positions, inside)
    sign, edge = sign_of(entry["contrast"]), crop_edge(card.species)
    return _Candidates(
        volume=volume,
        sign=sign,
        particles=replace(particles, tomograms=np.full(len(particles), name)),
        features=local_features(volume, particles.positions, edge, sign),
        labeled_features=local_features(volume, labeled.positions, edge, sign),
        near_faces=near_faces,
    )


def _choose(candidates: Mapping[str, _Candidates], config: SuggestConfig) -> Particles:
    parts = list(candidates.values())
    return choose(
        concatenate([part.particles for part in parts]),
        np.concatenate([part.features for part in parts]),
        config,
        np.concatenate([part.labeled_features for part in parts]),
    )


def _write(
    out: Path, locations: Particles, candidates: Mapping[str, _Candidates], card: Card, manifest: Manifest
) -> None:
    from cryovox.report.suggested import SearchedTomogram, write_suggested_page

    tomograms = locations.tomograms
    names = None if tomograms is None else np.array([plain_name(str(name)) for name in tomograms])
    frames = {name: own.volume for name, own in candidates.items()}
    write_particles(out / STAR, replace(locations, tomograms=names), tomogram=frames)
    shown = {
        name: SearchedTomogram(own.volume, own.sign, len(own.particles), len(own.labeled_features))
        for name, own in candidates.items()
    }
    write_suggested_page(out / PAGE, locations, shown, card.species, manifest.facts)
    entries = {}
    for name, own in candidates.items():
        entries[name] = {
            "suggested": {
                "candidates": len(own.particles),
                "labelled": len(own.labeled_features),
                "count": 0 if tomograms is None else int((tomograms == name).sum()),
                "at_faces": own.near_faces,
            }
        }
    manifest.write(entries)
