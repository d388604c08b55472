"""Segment, pick and report in one call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox import __version__
from cryovox.core.errors import RequestError
from cryovox.core.intensity import sign_of
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import read_particles, read_volume, scores
from cryovox.inference.label_map import write_label_map
from cryovox.models.card import Card, model_file, read_card
from cryovox.picking import PickConfig, check_method
from cryovox.picking.config import THRESHOLDS, ControlConfig, check_calibrated, check_cut
from cryovox.picking.curation import Curation
from cryovox.picking.dense import dense_picks
from cryovox.picking.lamella import Lamella
from cryovox.picking.rated import (
    Decoys,
    RatedPicks,
    calibration_of,
    candidates,
    pick_at,
    pick_rated,
    trusted_species,
)
from cryovox.picking.selection import channels_of, select
from cryovox.workflows.batch import Failures, for_each
from cryovox.workflows.config import PickOutput, SegmentConfig
from cryovox.workflows.curated import Decided, Pool, curate, curation_finding, read_decisions
from cryovox.workflows.devices import Device
from cryovox.workflows.halves import Halves, halves_finding
from cryovox.workflows.inputs import calibration_finding, expand, read_search_mask
from cryovox.workflows.lamella import FOLDER, SearchRegion, search_region
from cryovox.workflows.manifest import Manifest, locked, sha256, stamp, versions
from cryovox.workflows.matching.config import PoseConfig
from cryovox.workflows.noise_control import NoiseControl
from cryovox.workflows.pick import origin_of, tomogram_frame, write_picks
from cryovox.workflows.report_candidates import recorded_decoys, weaker_candidates
from cryovox.workflows.segment import segment

if TYPE_CHECKING:
    from cryovox.report.html import ReportEntry, Table
    from cryovox.workflows.matching.poses import PickPoses

Tables = Callable[[dict[str, Particles]], list["Table"]]
"""Makes further tables of the report from the picks of this run."""
Truth = Mapping[str, tuple[Particles, Mapping[str, float]]]
"""Known particles by name of the tomogram, with the radii of their species in Å."""


def find(  # noqa: PLR0913 (the options of a command)
    tomograms: list[Path],
    model: Path,
    out: Path,
    segmenting: SegmentConfig | None = None,
    picking: PickConfig | None = None,
    output: PickOutput | None = None,
    control: ControlConfig | None = None,
    posing: PoseConfig | None = None,
    *,
    device: Device = "auto",
    seed: int = 0,
    overwrite: bool = False,
    command: str = "",
    keep_dense: bool = False,
    lamella: bool = True,
    report: bool = True,
    tables: Tables = lambda picks: [],
    truth: Truth | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, Particles], Failures]:
    """Segment tomograms, pick particles, and write particle files and a report.

    Writes the files of :func:`cryovox.workflows.segment.segment`, `particles/NAME.star`, and `report.html`,
    which covers all tomograms of the folder that were processed with this model.

    Parameters
    ----------
    tomograms, model, out
        Tomograms, model file and output folder.
    segmenting, picking, output, control, posing
        Settings of segmentation, picking, particle files, the control of false discoveries, and poses; the
        defaults where None.
    seed
        Of the noise in which false picks are counted.
    keep_dense
        Keep picks on gold and other specks that are far denser than other picks of their species.
    lamella
        Leave out picks more than a radius outside the sample, where its faces are clear; see
        :func:`cryovox.picking.lamella.estimate`.
    report
        Write the report of the folder.
    tables
        Function that computes further tables of the report from the picks.
    truth
        Known particles, with which the report shows precision and recall at each threshold.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.

    Returns
    -------
    picks, failures
        Picks and errors by name of the tomogram.
    """
    start, model = time.monotonic(), model_file(model)
    card = read_card(model)
    segmenting, picking = segmenting or SegmentConfig(), picking or PickConfig()
    control = control or ControlConfig()
    check_method(picking, card.kind)
    check_cut(picking, control.fdr)
    check_calibrated(picking, card.calibration or control.curated or None)
    channels_of(card.species, picking.species)
    decided = _decisions(tomograms, control, segmenting)
    halves = None
    if control.halves is not None:
        halves = Halves(*control.halves, model, out, segmenting, picking, device)
        halves.check(expand(tomograms))
    poses = _poses(posing or PoseConfig(), card, segmenting, device)
    names, failures = segment(
        tomograms, model, out, segmenting,
        device=device, overwrite=overwrite, noise=control.share, on_progress=on_progress,
    )  # fmt: skip
    entries = Manifest(out, {}).entries

    noise = NoiseControl(model, out, segmenting, picking, seed, device, halves)
    picker = _Picker(
        out,
        card,
        segmenting.mask,
        picking,
        output or PickOutput(),
        keep_dense,
        lamella,
        control,
        noise,
        poses,
        on_progress,
        model,
    )

    if decided:
        picker = picker.curated({name: own for name, own in decided.items() if name in names}, entries)
    facts = {
        "command": command,
        "model": str(model),
        "segment": segmenting.model_dump(mode="json"),
        "pick": picking.model_dump(mode="json"),
        "control": control.model_dump(mode="json"),
        "poses": (posing or PoseConfig()).model_dump(mode="json"),
        "seed": seed,
        "versions": versions(),
        "model_sha256": sha256(model),
        "device": device,
    }
    manifest = Manifest(out, facts)
    key = {name: facts[name] for name in ("pick", "control", "poses", "seed")} | {"version": __version__}
    several = len(names) + len(failures) > 1
    loop = _PickLoop(picker, manifest, key, redo=overwrite or bool(decided))
    picks, pick_failures = for_each(names, loop, manifest, collect=several)
    if picks:
        facts["seconds"] = round(time.monotonic() - start, 1)
        manifest.write()
    if picks and report:
        _write_report(out, picks, card, facts, tables(picks), truth or {})
    return picks, failures | pick_failures


def _decisions(
    tomograms: list[Path], control: ControlConfig, segmenting: SegmentConfig
) -> dict[str, Decided]:
    """Decisions of a person on picks of these tomograms; none where no list is given."""
    if not control.curated:
        return {}
    return read_decisions(control.curated, expand(tomograms), segmenting.voxel_size)


def _poses(posing: PoseConfig, card: Card, segmenting: SegmentConfig, device: Device) -> PickPoses | None:
    """Search of poses; templates of species that the model does not know are refused."""
    if not posing.poses:
        return None
    from cryovox.workflows.devices import choose_device
    from cryovox.workflows.matching.poses import PickPoses

    posing.check([species.name for species in card.species])
    return PickPoses(posing, segmenting.tilt_axis, choose_device(device))


@dataclass(frozen=True, eq=False)
class _PickLoop:
    """Picks each tomogram and records it at once; picks of an earlier run with the same settings are kept."""

    picker: _Picker
    manifest: Manifest
    settings: Mapping[str, Any]
    redo: bool

    def __call__(self, name: str) -> Particles:
        entry, out, picker = self.manifest.entries[name], self.picker.out, self.picker
        files = {str(path): stamp(path) for path in picker.inputs(name) if path.exists()}
        own = {"output": picker.output.model_dump(mode="json"), "keep_dense": picker.keep_dense}
        key = {**self.settings, **own, "lamella": picker.lamella, "files": files}
        kept = None if self.redo else _recorded_picks(name, out, entry, key)
        if kept is not None:
            return kept
        picks, record = picker(name, entry)
        outputs = entry["outputs"] | {"particles": record["particles"]["file"]}
        record["particles"]["key"] = key
        stamps = {kind: stamp(out / file) for kind, file in outputs.items()}
        self.manifest.write({name: record | {"stamps": stamps}})
        return picks


@dataclass(frozen=True, eq=False)
class _Opened:
    """A tomogram with its scores, the mask of the user and the region that is searched."""

    scores: ScoreMap
    path: Path
    volume: Volume
    inside: NDArray[np.bool_] | None
    region: SearchRegion


@dataclass(frozen=True, eq=False)
class _Picker:
    """Picks from the scores of a tomogram, and records what is expected of the picks."""

    out: Path
    card: Card
    mask: Path | None
    picking: PickConfig
    output: PickOutput
    keep_dense: bool
    lamella: bool
    control: ControlConfig
    noise: NoiseControl
    poses: PickPoses | None
    on_progress: ProgressCallback
    model: Path
    curation: Curation | None = None

    def curated(self, decided: Mapping[str, Decided], entries: Mapping[str, Any]) -> _Picker:
        """A picker whose probabilities follow decisions on these tomograms."""
        pools, calibration = {}, None
        for name, own in decided.items():
            opened = self._open(name, entries[name])
            calibration = calibration_of(opened.scores)
            pool = candidates(opened.scores, self.picking, opened.region.mask)
            pools[name] = Pool(pool, opened.scores.species, own)
        if not pools:
            message = "all tomograms with decisions failed"
            raise RequestError("--curated", message, "correct them, or leave the option out")
        return replace(self, curation=curate(calibration, pools, self.control.curated))

    def __call__(self, name: str, entry: Mapping[str, Any]) -> tuple[Particles, dict[str, Any]]:
        """Picks of a tomogram, and the new parts of its entry in the manifest."""
        from cryovox.report.doctor import examine
        from cryovox.report.expected import control_notes, noise_finding, rate_finding

        opened = self._open(name, entry)
        score_map, path, region = opened.scores, opened.path, opened.region
        frame, volume = tomogram_frame(score_map), opened.volume
        transfer = calibration_finding(volume, self.card, path)
        fdr, transfers = self.control.fdr, transfer is not None and transfer.level == "ok"
        certain = trusted_species(calibration_of(score_map), transfers, self.curation)
        trusted = certain >= {species.name for species in score_map.species}
        decoys, noise = self._decoys(name, entry, opened, fdr is not None and not trusted)
        rated = pick_rated(
            score_map, self.picking, region.mask,
            fdr=fdr, decoys=decoys, trusted=transfers, curation=self.curation,
        )  # fmt: skip
        picks, dense = rated.picks, 0
        if not self.keep_dense:
            on_specks = dense_picks(volume, picks, score_map.species, sign_of(entry["contrast"]))
            picks, dense = picks.take(~on_specks), int(on_specks.sum())
        agreement = None
        if self.noise.halves is not None:
            halves = self.noise.halves.search(name, entry, score_map, region.mask, self.on_progress)
            picks, agreement = self.noise.halves.compared(picks, halves, score_map, region.mask)
        notes: list[str] = []
        if self.poses is not None:
            picks, notes = self.poses(name, path, picks, entry)
        file = write_picks(name, self.out, picks, frame, self.output, origin_of(self.model, rated))
        if score_map.kind == "heatmap":  # its labels are balls around these picks
            write_label_map(score_map, frame, self.out / "labels" / f"{name}.mrc", picks, opened.inside)
        expected = replace(rated, picks=picks).summary()
        controls = [
            None if self.curation is not None and trusted else transfer,
            None if self.curation is None else curation_finding(self.curation),
            None if agreement is None else halves_finding(agreement),
            None if noise is None else noise_finding(expected, noise["share"], noise["source"]),
            None if fdr is None else rate_finding(expected, fdr, trusted),
        ]
        findings = [*filter(None, controls), *region.findings, *examine(volume, path)]
        outside = self._outside(region, score_map, rated, opened.inside)
        record = {
            "file": str(file.relative_to(self.out)),
            "count": len(picks),
            "left_out": {"at_faces": rated.near_edge, "dense": dense, "lamella": outside},
            "lamella": region.record(self.out),
            "species": list(self.picking.species),
            "expected": expected,
            "notes": [*control_notes(controls), *notes],
            "findings": [astuple(finding) for finding in findings],
        }
        return picks, {"particles": record} | ({} if noise is None else {"noise": noise})

    def inputs(self, name: str) -> list[Path]:
        """Files besides the tomogram, its mask and the model on which the picks depend."""
        halves = () if self.noise.halves is None else self.noise.halves.files(name)
        return [*halves, *(() if self.poses is None else self.poses.posing.templates().values())]

    def _open(self, name: str, entry: Mapping[str, Any]) -> _Opened:
        stored = replace(scores.read(_score_file(self.out, name)), calibration=self.card.calibration)
        score_map = select(stored, self.picking.species)
        inside = read_search_mask(self.mask, name, tomogram_frame(score_map).shape)
        path = Path(entry["key"]["input"])
        volume = read_volume(path, entry["voxel_size"])
        return _Opened(score_map, path, volume, inside, self._region(name, volume, score_map, inside))

    def _decoys(
        self, name: str, entry: Mapping[str, Any], opened: _Opened, needed: bool
    ) -> tuple[Decoys | None, dict[str, Any] | None]:
        """Candidates in noise and the record of their search; `--fdr` needs noise of the background."""
        share = 1.0 if needed else self.control.noise_control
        if not share:
            return None, None
        pool = candidates(opened.scores, self.picking, opened.region.mask) if needed else None
        decoys, record = self.noise.run(name, entry, share, self.on_progress, pool)
        return decoys.scaled(opened.region.fraction), record

    def _region(
        self, name: str, volume: Volume, score_map: ScoreMap, inside: NDArray[np.bool_] | None
    ) -> SearchRegion:
        if not self.lamella:
            return SearchRegion(inside)
        radius = max(species.radius for species in score_map.species)
        return search_region(volume, radius, inside, self.out / FOLDER / f"{name}.mrc", self.mask)

    def _outside(
        self, region: SearchRegion, score_map: ScoreMap, rated: RatedPicks, inside: NDArray[np.bool_] | None
    ) -> int:
        """Number of picks that the estimated boundary of the sample leaves out."""
        if region.lamella is None:
            return 0
        everything = self.picking.model_copy(update={"max_count": None, "purpose": None})
        return region.outside(pick_at(score_map, everything, inside, rated.thresholds)[0])


def _score_file(out: Path, name: str) -> Path:
    return out / "scores" / f"{name}.zarr"


def _write_report(
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
            own = picks.get(name) if name in picks or not is_searched else _read_picks(name, out, entry)
            if own is not None:
                one = _report_entry(name, out, entry, own, card, facts)
                known, radii = truth.get(name, (None, {}))
                entries.append(replace(one, truth=known, truth_radii=radii))
                expected.append(entry["particles"].get("expected", {}))
        shown = {key: value for key, value in facts.items() if key not in ("model_sha256", "device")}
        run = {**shown, "model": _model_facts(facts["model"], facts["model_sha256"], card)}
        write_find_report(page, entries, run, tables=[*tables, *expected_tables(expected)])


def _recorded_picks(
    name: str, out: Path, entry: Mapping[str, Any], key: Mapping[str, Any]
) -> Particles | None:
    """Picks that an earlier run made with the same settings, where their file is as it was written."""
    record, stamps = entry.get("particles", {}), entry.get("stamps", {})
    if record.get("key") != json.loads(json.dumps(key)):
        return None
    files = {"particles": record["file"], "labels": entry["outputs"]["labels"]}
    if any(
        not (out / file).exists() or stamps.get(kind) != stamp(out / file) for kind, file in files.items()
    ):
        return None
    return _read_picks(name, out, entry)


def _read_picks(name: str, out: Path, entry: Mapping[str, Any]) -> Particles | None:
    """Picks of an earlier run or of another process; None where its files are gone."""
    try:
        frame = tomogram_frame(scores.read(_score_file(out, name)))
        read_volume(Path(entry["key"]["input"]), entry["voxel_size"])
        return read_particles(out / entry["particles"]["file"], tomogram=frame)
    except (RequestError, OSError):
        return None


def _report_entry(
    name: str, out: Path, entry: Mapping[str, Any], picks: Particles, card: Card, facts: Mapping[str, Any]
) -> ReportEntry:
    from cryovox.report.doctor import Finding
    from cryovox.report.html import ReportEntry

    record, path = entry["particles"], Path(entry["key"]["input"])
    notes = [*card.warnings, *entry.get("notes", [])]
    findings = [Finding("warning", "model", text) for text in notes]
    if not len(picks):
        remedy = "lower --threshold, or check voxel size and contrast with `cryovox doctor`"
        findings.append(Finding("warning", "picks", "no score is above the threshold", remedy))
    findings += [Finding(*row) for row in record.get("findings", [])]
    score_map = select(scores.read(_score_file(out, name)), record.get("species", ()))
    defaults = {s.name: score_map.thresholds.get(s.name, THRESHOLDS[card.kind]) for s in score_map.species}
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
        weaker=partial(weaker_candidates, out, name, record, score_map, picks, facts),
    )


def _outputs(entry: Mapping[str, Any]) -> dict[str, Path]:
    """Files of a tomogram by kind."""
    record = entry["particles"]
    mask = {"sample mask": Path(record["lamella"]["mask"])} if "mask" in record.get("lamella", {}) else {}
    return {**{k: Path(v) for k, v in entry["outputs"].items()}, "particles": Path(record["file"]), **mask}


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
        "training": {k: v for k, v in card.training.items() if k in training},
    }
