"""Segment, pick and report in one go."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.intensity import sign_of
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import ScoreMap
from cryovox.formats import read_volume, scores
from cryovox.inference.label_map import write_label_map
from cryovox.models.card import Card, model_file, read_card
from cryovox.picking import PickConfig, check_method, pick_counted
from cryovox.picking.config import THRESHOLDS
from cryovox.picking.dense import dense_picks
from cryovox.workflows.config import PickOutput, SegmentConfig
from cryovox.workflows.devices import Device
from cryovox.workflows.inputs import mask_of
from cryovox.workflows.manifest import Manifest, sha256, versions
from cryovox.workflows.pick import frame_of, particle_file, write_picks
from cryovox.workflows.segment import segment


def find(  # noqa: PLR0913 (the options of a command)
    tomograms: list[Path],
    model: Path,
    out: Path,
    segmenting: SegmentConfig | None = None,
    picking: PickConfig | None = None,
    output: PickOutput | None = None,
    *,
    device: Device = "auto",
    seed: int = 0,
    overwrite: bool = False,
    command: str = "",
    keep_dense: bool = False,
    tables: Callable[[dict[str, Particles]], list[Any]] | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, Particles], dict[str, Exception]]:
    """From tomograms to particle files and a page to look at.

    Writes what :func:`cryovox.workflows.segment.segment` writes, `particles/NAME.star` and
    `report.html`.

    Parameters
    ----------
    keep_dense
        Keep picks on gold and other specks that are far denser than the rest of their species.
    tables
        Gives further tables for the page, from the picks.

    Returns
    -------
    picks, failures
        By name of the tomogram.
    """
    began, model = time.monotonic(), model_file(model)
    segmenting, picking = segmenting or SegmentConfig(), picking or PickConfig()
    check_method(picking, read_card(model).kind)
    names, failures = segment(
        tomograms, model, out, segmenting, device=device, overwrite=overwrite, on_progress=on_progress
    )
    picks: dict[str, Particles] = {}
    left_out: dict[str, dict[str, int]] = {}
    entries = Manifest(out, {}).entries
    for name in names:
        try:
            scored = scores.read(out / "scores" / f"{name}.zarr")
            tomogram = frame_of(scored)
            inside = mask_of(segmenting.mask, name, tomogram.shape)
            own, at_faces = pick_counted(scored, picking, inside)
            dense = _on_specks(own, scored, entries[name], keep_dense)
            left_out[name] = {"at_faces": at_faces, "dense": int(dense.sum())}
            picks[name] = own.take(~dense)
            write_picks(name, out, picks[name], tomogram, output or PickOutput())
            if scored.kind == "heatmap":  # the labels are the picks, so they follow the same settings
                write_label_map(scored, tomogram, out / "labels" / f"{name}.mrc", picks[name], inside)
        except Exception as error:
            if len(names) + len(failures) == 1:
                raise
            failures[name] = error
    if picks:
        card = read_card(model)
        run = _facts(card, model, segmenting, picking, command, seed, time.monotonic() - began)
        _note(
            out,
            picks,
            left_out,
            {**run, "model": str(model), "model_sha256": sha256(model), "device": device},
        )
        _report(out, picks, card, picking, run, tables(picks) if tables else [])
    return picks, failures


def _on_specks(picks: Particles, scored: ScoreMap, entry: dict[str, Any], keep: bool) -> NDArray[np.bool_]:
    """Which picks lie on gold or other dense specks."""
    if keep:
        return np.zeros(len(picks), dtype=bool)
    volume = read_volume(Path(entry["key"]["input"]), entry["voxel_size"])
    return dense_picks(volume, picks, scored.species, sign_of(entry["contrast"]))


def _note(
    out: Path, picks: dict[str, Particles], left_out: dict[str, dict[str, int]], facts: dict[str, Any]
) -> None:
    """Add the picks, and how they were made, to the manifest that the segmentation left."""
    files = {name: str(particle_file(out, name).relative_to(out)) for name in picks}
    counts = {
        name: {"file": files[name], "count": len(particles), "left_out": left_out[name]}
        for name, particles in picks.items()
    }
    Manifest(out, facts).write({name: {"particles": count} for name, count in counts.items()})


def _facts(
    card: Card,
    model: Path,
    segmenting: SegmentConfig,
    picking: PickConfig,
    command: str,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    training = {
        k: v for k, v in card.training.items() if k in ("strategy", "steps", "seconds", "held_out", "seed")
    }
    return {
        "command": command,
        "model": {
            "file": str(model),
            "sha256": sha256(model)[:16],
            "network": card.network,
            "answers": f"{card.kind}, stride {card.output_stride}",
            "voxel size (Å)": card.voxel_size,
            "trained on": f"particles {card.contrast}",
            "species": ", ".join(f"{s.name} (radius {s.radius:g} Å)" for s in card.species),
            "thresholds": {k: round(v, 3) for k, v in card.thresholds.items()},
            "training": training,
        },
        "segment": segmenting.model_dump(mode="json"),
        "pick": picking.model_dump(mode="json"),
        "seed": seed,
        "seconds": round(seconds, 1),
        "versions": versions(),
    }


def _report(
    out: Path,
    picks: dict[str, Particles],
    card: Card,
    picking: PickConfig,
    run: dict[str, Any],
    tables: list[Any],
) -> None:
    import json

    from cryovox.report.doctor import Finding, examine
    from cryovox.report.html import ReportEntry, write_find_report

    entries: list[ReportEntry] = []
    noted = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["entries"]
    default = {s.name: card.thresholds.get(s.name, THRESHOLDS[card.kind]) for s in card.species}
    thresholds = {n: t if picking.threshold is None else picking.threshold for n, t in default.items()}
    for name, particles in picks.items():
        entry = noted[name]
        path = Path(entry["key"]["input"])
        volume = read_volume(path, entry["voxel_size"])
        outputs = {k: Path(v) for k, v in entry["outputs"].items()}
        notes = [*card.warnings, *entry.get("notes", [])]
        warned = [Finding("warning", "model", text) for text in notes]
        if not len(particles):
            lower = "lower --threshold, or check voxel size and contrast with `cryovox doctor`"
            warned.append(Finding("warning", "picks", "no score is above the threshold", lower))
        entries.append(
            ReportEntry(
                name=name,
                volume=volume,
                scores=scores.read(out / "scores" / f"{name}.zarr"),
                particles=particles,
                thresholds=thresholds,
                findings=[*warned, *examine(volume, path)],
                outputs={**outputs, "particles": particle_file(out, name).relative_to(out)},
                seconds=entry["seconds"],
                sign=sign_of(entry["contrast"]),
                tomogram=path,
            )
        )
    write_find_report(out / "report.html", entries, run, tables=tables)
