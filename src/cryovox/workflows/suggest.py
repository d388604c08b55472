"""Which places to label next: score tomograms, choose among what might be a particle, and show it."""

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
from cryovox.picking.suggest import suggest as chosen_of
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device
from cryovox.workflows.inputs import expand, read_search_mask
from cryovox.workflows.manifest import Manifest, sha256
from cryovox.workflows.pick import OnNote, left_out_notes
from cryovox.workflows.segment import segment

STAR, PAGE = "suggested.star", "suggested.html"


@dataclass(frozen=True, eq=False)
class _Searched:
    """One tomogram with its candidates and what is labelled in it."""

    volume: Volume
    sign: int
    found: Particles
    features: NDArray[np.float32]
    seeds: NDArray[np.float32]
    at_faces: int


def suggest(  # noqa: PLR0913 (the options of a command)
    tomograms: list[Path],
    model: Path,
    out: Path,
    segmenting: SegmentConfig | None = None,
    config: SuggestConfig | None = None,
    *,
    labelled: Iterable[Path] = (),
    device: Device = "auto",
    overwrite: bool = False,
    command: str = "",
    on_progress: ProgressCallback = no_progress,
    on_note: OnNote = lambda name, text: None,
) -> tuple[Particles, dict[str, Exception]]:
    """Suggest places whose labels would teach a model most.

    Writes what :func:`cryovox.workflows.segment.segment` writes, or uses what it or `find` wrote there
    with the same model and settings, then `suggested.star` and `suggested.html`.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    labelled
        Particle files, folders or patterns: what was looked at already, found to be a particle or not.
    overwrite
        Replace an earlier suggestion; score maps that are up to date stay.
    on_note
        Called with the name of a tomogram and what the reader should know of its places.

    Returns
    -------
    places, failures
        The suggestions in the order of rank; what went wrong with tomograms, by name.
    """
    began, model = time.monotonic(), model_file(model)
    segmenting, config = segmenting or SegmentConfig(), config or SuggestConfig()
    files, card, labelled = expand(tomograms), read_card(model), list(labelled)
    _check_free(out, overwrite)
    known = _known(labelled, files, segmenting.voxel_size)
    names, failures = segment(tomograms, model, out, segmenting, device=device, on_progress=on_progress)
    manifest = Manifest(out, {})
    searched: dict[str, _Searched] = {}
    for name in names:
        try:
            searched[name] = _search(
                name, out, card, config, manifest.entries[name], known[name], segmenting.mask
            )
        except Exception as error:
            if len(files) == 1:
                raise
            failures[name] = error
    if not searched:
        return concatenate([]), failures
    places = _chosen(searched, config)
    manifest.facts = {
        "command": command or "suggest",
        "model": str(model),
        "model_sha256": sha256(model),
        "device": device,
        "segment": segmenting.model_dump(mode="json"),
        "suggest": config.model_dump(mode="json"),
        "labelled": {str(file): sha256(file) for path in labelled for file in _lists(path)},
        "outputs": {"suggested": STAR, "report": PAGE},
        "seconds": round(time.monotonic() - began, 1),
    }
    _write(out, places, searched, card, manifest)
    for name, part in searched.items():
        for text in left_out_notes({"at_faces": part.at_faces}):
            on_note(name, text)
    return places, failures


def _check_free(out: Path, overwrite: bool) -> None:
    for name in (STAR, PAGE):
        if (out / name).exists() and not overwrite:
            raise RequestError(out / name, "is there already", "pass --overwrite, or choose another --out")


def _lists(path: Path) -> list[Path]:
    return list(expand([path], is_particles).values())


def _known(labelled: list[Path], files: Mapping[str, Path], voxel_size: float | None) -> dict[str, Particles]:
    """What is labelled in each tomogram; a list that speaks of none of them is refused."""
    lists: dict[str, list[Particles]] = {name: [] for name in files}
    used: dict[Path, bool] = {file: False for path in labelled for file in _lists(path)}
    for name, path in files.items() if used else ():
        try:
            frame = read_volume(path, voxel_size)
        except RequestError:
            if len(files) == 1:
                raise
            continue  # scoring it will fail, and tell why
        for file in used:
            own = _of_tomogram(file, name, frame, alone=len(files) == 1)
            used[file] |= own is not None
            lists[name] += [] if own is None else [own]
    for file, some in used.items():
        if not some:
            told = f"names none of the tomograms that are searched ({', '.join(list(files)[:3])})"
            raise RequestError(file, told, "tomogram names in it, or its own name, must agree with theirs")
    return {name: concatenate(own) for name, own in lists.items()}


def _of_tomogram(file: Path, name: str, frame: Volume, alone: bool) -> Particles | None:
    """Those of a list that lie in a tomogram; None where the list is about others."""
    try:
        picks = read_particles(file, tomogram=frame, tomogram_names=(name,))
    except OtherTomogramError:
        return None
    named = picks.tomograms is not None and len(picks) > 0
    return picks if named or alone or plain_name(stem(file)) == plain_name(name) else None


def _search(
    name: str,
    out: Path,
    card: Card,
    config: SuggestConfig,
    entry: Mapping[str, Any],
    known: Particles,
    mask: Path | None,
) -> _Searched:
    volume = read_volume(Path(entry["key"]["input"]), entry["voxel_size"])
    inside = read_search_mask(mask, name, volume.shape)
    scored = scores.read(out / "scores" / f"{name}.zarr")
    found, at_faces = find_candidates(scored, config, known.positions, inside)
    sign, edge = sign_of(entry["contrast"]), crop_edge(card.species)
    return _Searched(
        volume=volume,
        sign=sign,
        found=replace(found, tomograms=np.full(len(found), name)),
        features=local_features(volume, found.positions, edge, sign),
        seeds=local_features(volume, known.positions, edge, sign),
        at_faces=at_faces,
    )


def _chosen(searched: Mapping[str, _Searched], config: SuggestConfig) -> Particles:
    parts = list(searched.values())
    return chosen_of(
        concatenate([part.found for part in parts]),
        np.concatenate([part.features for part in parts]),
        config,
        np.concatenate([part.seeds for part in parts]),
    )


def _write(
    out: Path, places: Particles, searched: Mapping[str, _Searched], card: Card, manifest: Manifest
) -> None:
    from cryovox.report.suggested import SearchedTomogram, write_suggested_page

    frames = {name: part.volume for name, part in searched.items()}
    names = None if places.tomograms is None else np.array([plain_name(str(n)) for n in places.tomograms])
    write_particles(out / STAR, replace(places, tomograms=names), tomogram=frames)
    shown = {n: SearchedTomogram(p.volume, p.sign, len(p.found), len(p.seeds)) for n, p in searched.items()}
    write_suggested_page(out / PAGE, places, shown, card.species, manifest.facts)
    entries = {}
    for name, part in searched.items():
        count = int((places.tomograms == name).sum()) if places.tomograms is not None else 0
        facts = {"candidates": len(part.found), "labelled": len(part.seeds), "count": count}
        facts["at_faces"] = part.at_faces
        entries[name] = {"suggested": facts}
    manifest.write(entries)
