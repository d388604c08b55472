"""Segment, pick and report in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox import __version__
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.models.card import Card, model_file, read_card
from cryovox.picking import PickConfig, check_method
from cryovox.picking.config import ControlConfig, check_calibrated, check_cut
from cryovox.picking.selection import channels_of, check_by_contrast, lacks_sizes
from cryovox.workflows.batch import Failures, for_each
from cryovox.workflows.config import PickOutput, SegmentConfig
from cryovox.workflows.curated import Decided, read_decisions
from cryovox.workflows.devices import Device
from cryovox.workflows.finding.input_files import file_records
from cryovox.workflows.finding.picker import Picker
from cryovox.workflows.finding.report import Truth, write_report
from cryovox.workflows.finding.results import recorded_picks
from cryovox.workflows.halves import Halves
from cryovox.workflows.inputs import expand, mask_file
from cryovox.workflows.manifest import Manifest, sha256, stamp, versions
from cryovox.workflows.matching.config import PoseConfig
from cryovox.workflows.noise_control import NoiseControl
from cryovox.workflows.segment import segment
from cryovox.workflows.simulation.templates import check_template

if TYPE_CHECKING:
    from cryovox.report.html import Table
    from cryovox.workflows.matching.poses import PickPoses

Tables = Callable[[dict[str, Particles]], list["Table"]]
"""Makes further tables of the report from the picks of this run."""


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

    Writes the files of :func:`cryovox.workflows.segment.segment`, `particles/NAME.star`, `view/NAME.cxc` and
    `view/NAME.mod` for ChimeraX and 3dmod, and `report.html`, which covers all tomograms of the folder that
    were processed with this model.

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
    segmenting, picking = segmenting or SegmentConfig(), picking or PickConfig()
    control, posing = control or ControlConfig(), posing or PoseConfig()
    request = check_request(tomograms, model, out, segmenting, picking, control, posing, device)
    card, decided, halves = request.card, request.decided, request.halves
    curated = file_records(control.curated, {})
    poses = _poses(posing, segmenting, device)
    names, failures = segment(
        tomograms, model, out, segmenting,
        device=device, overwrite=overwrite, noise=control.share, on_progress=on_progress,
    )  # fmt: skip
    entries = Manifest(out, {}).entries

    noise = NoiseControl(model, out, segmenting, picking, seed, device, halves)
    picker = Picker(
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
        picker = picker.curated(decided, entries, failures)
    facts = {
        "command": command,
        "model": str(model),
        "segment": segmenting.model_dump(mode="json"),
        "pick": picking.model_dump(mode="json"),
        "control": control.model_dump(mode="json"),
        "poses": posing.model_dump(mode="json"),
        "seed": seed,
        "versions": versions(),
        "model_sha256": sha256(model),
        "device": device,
    }
    manifest = Manifest(out, facts)
    key = {name: facts[name] for name in ("pick", "control", "poses", "seed")} | {"version": __version__}
    several = len(names) + len(failures) > 1
    loop = _PickLoop(picker, manifest, key, overwrite or bool(decided), curated)
    picks, pick_failures = for_each(names, loop, manifest, collect=several)
    if picks:
        facts["seconds"] = round(time.monotonic() - start, 1)
        manifest.write()
    if picks and report:
        write_report(out, picks, card, facts, tables(picks), truth or {})
    return picks, failures | pick_failures


@dataclass(frozen=True, eq=False)
class Request:
    """A request of :func:`find` that has passed its checks.

    Attributes
    ----------
    card
        Of the model.
    decided
        Decisions of a person on picks, by tomogram.
    halves
        Half tomograms; None without them.
    """

    card: Card
    decided: dict[str, Decided]
    halves: Halves | None


def check_request(  # noqa: PLR0913 (the options of a command)
    tomograms: list[Path],
    model: Path,
    out: Path,
    segmenting: SegmentConfig,
    picking: PickConfig,
    control: ControlConfig,
    posing: PoseConfig,
    device: Device = "auto",
    *,
    voxels: bool = True,
) -> Request:
    """Refuse settings and files that do not suit the model or the tomograms; writes nothing.

    Parameters
    ----------
    tomograms, model, out, segmenting, picking, control, posing, device
        As for :func:`find`.
    voxels
        Also read the half tomograms; otherwise only their headers.
    """
    model = model_file(model)
    card = read_card(model)
    check_method(picking, card.kind)
    check_cut(picking, control.fdr)
    channels_of(card.species, picking.species)
    check_by_contrast(card.species, picking)
    known = None if lacks_sizes(card.species, card.calibration, picking) else card.calibration
    check_calibrated(picking, known or control.curated or None)
    if posing.poses:
        posing.check([species.name for species in card.species])
        for template in posing.templates().values():
            check_template(template)
    files = expand(tomograms)
    decided = read_decisions(control.curated, files, segmenting.voxel_size) if control.curated else {}
    halves = None
    if control.halves is not None:
        halves = Halves(*control.halves, model, out, segmenting, picking, device)
        halves.check(files, voxels=voxels)
    return Request(card, decided, halves)


def _poses(posing: PoseConfig, segmenting: SegmentConfig, device: Device) -> PickPoses | None:
    """Search of poses."""
    if not posing.poses:
        return None
    from cryovox.workflows.devices import choose_device
    from cryovox.workflows.matching.poses import PickPoses

    return PickPoses(posing, segmenting.tilt_axis, choose_device(device))


@dataclass(frozen=True, eq=False)
class _PickLoop:
    """Picks each tomogram and records it at once; picks of an earlier run with the same settings are kept."""

    picker: Picker
    manifest: Manifest
    settings: Mapping[str, Any]
    redo: bool
    curated: Mapping[str, Any]
    """Records of the curated lists."""

    def __call__(self, name: str) -> Particles:
        entry, out, picker = self.manifest.entries[name], self.picker.out, self.picker
        paths = [path for path in picker.inputs(name) if path.exists()]
        files = {str(path): stamp(path) for path in paths}
        own = {"output": picker.output.model_dump(mode="json"), "keep_dense": picker.keep_dense}
        key = {**self.settings, **own, "lamella": picker.lamella, "files": files}
        kept = None if self.redo else recorded_picks(name, out, entry, key)
        if kept is not None:
            return kept
        inputs = {**self.curated, **file_records(paths, entry)}
        picks, record = picker(name, entry)
        outputs = entry["outputs"] | {"particles": record["particles"]["file"]}
        record["particles"] |= {"key": key, "inputs": inputs}
        if picker.mask is not None:
            record["mask"] = str(mask_file(picker.mask, name).resolve())
        stamps = {kind: stamp(out / file) for kind, file in outputs.items()}
        self.manifest.write({name: record | {"stamps": stamps}})
        return picks
