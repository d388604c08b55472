"""The report of `find` over all tomograms of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.core.intensity import sign_of
from cryovox.core.particles import Particles, pickable
from cryovox.formats import read_volume, scores
from cryovox.models.card import Card
from cryovox.picking.config import THRESHOLDS, PickConfig
from cryovox.picking.lamella import Lamella
from cryovox.workflows.contrast import selected
from cryovox.workflows.finding.results import read_picks, score_file
from cryovox.workflows.manifest import Manifest, locked
from cryovox.workflows.report_candidates import recorded_decoys, weaker_candidates
from cryovox.workflows.score_writing import SCORES_OF_SURROUNDINGS

if TYPE_CHECKING:
    from cryovox.report.html import ReportEntry, Table

Truth = Mapping[str, tuple[Particles, Mapping[str, float]]]
"""Known particles by name of the tomogram, with the radii of their species in Å."""


def write_report(
    out: Path,
    picks: dict[str, Particles],
    card: Card,
    facts: Mapping[str, Any],
    tables: list[Table],
    truth: Truth,
) -> None:
    """Write the report of this run and of others that searched tomograms into this folder with this model."""
    from cryovox.report.expected import expected_tables
    from cryovox.report.html import write_find_report

    page = out / "report.html"
    with locked(page):
        entries, expected = [], []
        for name, entry in Manifest(out, {}).entries.items():
            is_searched = "particles" in entry and entry["key"]["model_sha256"] == facts["model_sha256"]
            own = picks.get(name) if name in picks or not is_searched else read_picks(name, out, entry)
            if own is not None:
                one = _report_entry(name, out, entry, own, card, facts)
                known, radii = truth.get(name, (None, {}))
                entries.append(replace(one, truth=known, truth_radii=radii))
                expected.append(entry["particles"].get("expected", {}))
        shown = {key: value for key, value in facts.items() if key not in ("model_sha256", "device")}
        run = {**shown, "model": _model_facts(facts["model"], facts["model_sha256"], card)}
        write_find_report(page, entries, run, tables=[*tables, *expected_tables(expected)])


def _report_entry(
    name: str, out: Path, entry: Mapping[str, Any], picks: Particles, card: Card, facts: Mapping[str, Any]
) -> ReportEntry:
    from cryovox.report.doctor import Finding
    from cryovox.report.html import ReportEntry

    record, path = entry["particles"], Path(entry["key"]["input"])
    notes = [*card.warnings, *entry.get("notes", [])]
    findings = [Finding("warning", "model", text) for text in notes]
    if not len(picks) and pickable(card.species):
        remedy = "lower --threshold, or check voxel size and contrast with `cryovox doctor`"
        findings.append(Finding("warning", "picks", "no score is above the threshold", remedy))
    findings += [Finding(*row) for row in record.get("findings", [])]
    picking = PickConfig(species=record.get("species", ()), by_contrast=record.get("by_contrast", False))
    score_map = selected(scores.read(score_file(out, name)), picking, out, name, entry, card)
    names = [species.name for species in pickable(score_map.species)]
    defaults = {name: score_map.thresholds.get(name, THRESHOLDS[card.kind]) for name in names}
    around = entry["outputs"].get(SCORES_OF_SURROUNDINGS)
    used = {name: own["threshold"] for name, own in record.get("expected", {}).items()}
    return ReportEntry(
        name=name,
        volume=read_volume(path, entry["voxel_size"]),
        scores=score_map,
        particles=picks,
        thresholds={name: value for name, value in (defaults | used).items() if value is not None},
        findings=findings,
        outputs=_outputs(entry),
        seconds=entry["seconds"],
        sign=sign_of(entry["contrast"]),
        tomogram=path,
        lamella=Lamella.from_dict(record["lamella"]) if "planes" in record.get("lamella", {}) else None,
        expected=record.get("expected", {}),
        decoys=recorded_decoys(out, name, entry),
        surroundings=None if around is None else scores.read(out / around),
        weaker=partial(weaker_candidates, out, name, record, score_map, picks, facts),
    )


def _outputs(entry: Mapping[str, Any]) -> dict[str, Path]:
    """Files of a tomogram by kind."""
    record = entry["particles"]
    mask = {"sample mask": Path(record["lamella"]["mask"])} if "mask" in record.get("lamella", {}) else {}
    view = {kind: Path(file) for kind, file in record.get("view", {}).items()}
    outputs = {kind: Path(file) for kind, file in entry["outputs"].items()}
    return {**outputs, "particles": Path(record["file"]), **mask, **view}


def _model_facts(model: str, model_sha256: str, card: Card) -> dict[str, Any]:
    training = ("strategy", "steps", "seconds", "held_out", "seed")
    return {
        "file": model,
        "sha256": model_sha256[:16],
        "network": card.network,
        "output": f"{card.kind}, stride {card.output_stride}",
        "voxel size (Å)": card.voxel_size,
        "trained on": f"particles {card.contrast}",
        "species": ", ".join(f"{s.name} (radius {s.radius:g} Å)" for s in card.species),
        "thresholds": {k: round(v, 3) for k, v in card.thresholds.items()},
        **({} if card.surroundings is None else {"surroundings": card.surroundings.thresholds}),
        "training": {k: v for k, v in card.training.items() if k in training},
    }
