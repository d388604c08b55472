"""Template matching: from a structure or map and tomograms to particles with poses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.intensity import sign_of
from cryovox.core.particles import Species
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume, scores, stem
from cryovox.picking.lamella import Lamella
from cryovox.report.doctor import Finding
from cryovox.report.html import ReportEntry, write_find_report
from cryovox.workflows.batch import Failures, run_batch
from cryovox.workflows.config import PickOutput
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.inputs import expand
from cryovox.workflows.lamella import CHECK
from cryovox.workflows.manifest import Manifest, locked
from cryovox.workflows.matching.config import DEFAULT_TILTS, MatchConfig, check_tilts
from cryovox.workflows.matching.poses import PosesAt, list_of
from cryovox.workflows.matching.search import Search
from cryovox.workflows.matching.target import MatchJob
from cryovox.workflows.pick import tomogram_frame
from cryovox.workflows.simulation.templates import read_template

DATASET = "matches.yaml"


def match(  # noqa: PLR0913 (the options of a command)
    template: Path,
    tomograms: list[Path],
    out: Path,
    config: MatchConfig | None = None,
    output: PickOutput | None = None,
    *,
    at: Path | None = None,
    dataset: Path | None = None,
    device: Device = "auto",
    seed: int = 0,
    overwrite: bool = False,
    command: str = "",
    report: bool = True,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, dict[str, Any]], Failures]:
    """Search tomograms for a structure; results of an earlier run with the same settings are kept.

    Writes `particles/NAME.star` with poses, `scores/NAME.zarr`, the best rotation of each voxel in
    `rotations/NAME.mrc` with their angles in `rotations/NAME.csv`, `view/NAME.cxc` and `view/NAME.mod` for
    ChimeraX and 3dmod, the dataset `matches.yaml` for training, and `report.html`. With *at*, it writes
    `particles/NAME.star` only.

    Parameters
    ----------
    template
        Structure (PDB, mmCIF), map (MRC, bright particle), or name of a built-in species.
    tomograms
        Files, folders or patterns.
    at
        A particle list, or a folder of lists that are named after the tomograms: searches only rotations,
        and small shifts, of these particles.
    dataset
        Tilt ranges, tilt axes, contrast and masks of the tomograms, where the settings do not say them.
    seed
        Of the random phases of the noise control.
    report
        Write the dataset and the report of the folder.

    Returns
    -------
    entries, failures
        Entries of the manifest, and what went wrong, by name of the tomogram.
    """
    config = config or MatchConfig()
    job = match_job(template, out, config, output, at=at, dataset=dataset, device=device, seed=seed)
    files = expand(tomograms)
    if at is not None:
        for name in files:
            list_of(at, name)
    facts = {"command": command, "template": str(template), "device": job.device, "seed": seed}
    manifest = Manifest(
        out, facts | {"config": config.model_dump(mode="json")}, "match" if at is None else "poses"
    )
    results = run_batch(job, files, manifest, overwrite=overwrite, on_progress=on_progress)
    if results[0] and at is None and report:
        _write_dataset(out, manifest)
        _write_report(out, manifest)
    return results


def match_job(
    template: Path,
    out: Path,
    config: MatchConfig,
    output: PickOutput | None = None,
    *,
    at: Path | None = None,
    dataset: Path | None = None,
    device: Device = "auto",
    seed: int = 0,
) -> MatchJob:
    """What :func:`match` does with each tomogram; settings that contradict each other are refused."""
    _check(config, at)
    entries = {} if dataset is None else {stem(e.tomogram): e for e in dataset_files.read(dataset).entries}
    if not template.exists():
        read_template(template, 10.0)  # refuses an unknown name before any work
    common = (out, template, config, output or PickOutput(), entries, choose_device(device), seed)
    return Search(*common) if at is None else PosesAt(*common, at)


def search_share(
    template: Path,
    out: Path,
    config: MatchConfig,
    output: PickOutput | None,
    path: Path,
    name: str,
    share: tuple[int, int],
    **options: Any,
) -> None:
    """Search a tomogram with a share of the rotations, unless it is finished.

    Parameters
    ----------
    share
        Number of the share, and of shares.
    options
        As of :func:`match_job`.
    """
    job = match_job(template, out, config, output, **options)
    if not isinstance(job, Search) or Manifest(out, {}).done(name, job.key(name), path):
        return
    target = job.load(name, path)
    with locked(out / f"match-{name}"):
        job.parts(name).begin(job.identity(name, path))
    job.search_share(name, target, share)


def _check(config: MatchConfig, at: Path | None) -> None:
    """Raise an error for settings that contradict each other."""
    check_tilts(config.tilt_range or DEFAULT_TILTS)
    if config.membrane is not None and at is not None:
        message = "limits the search of whole tomograms, not that of --at"
        raise RequestError("--membrane", message, "leave out one of them")
    if config.membrane is not None and config.symmetry in ("T", "O", "I"):
        message = f"needs a main axis, and the point group {config.symmetry} has several"
        raise RequestError("--membrane", message, "leave out --membrane, or set another --symmetry")
    if at is not None:
        return
    cuts = ("threshold", "false_positives", "fdr")
    options = [f"--{cut.replace('_', '-')}" for cut in cuts if getattr(config, cut) is not None]
    if len(options) > 1:
        message = f"is given with {options[1]}, and each of them chooses the minimum score"
        raise RequestError(options[0], message, "give one of them")
    if config.threshold is None and not config.noise_control:
        option = options[0] if options else "--threshold"
        raise RequestError(option, "needs a noise control", "set --threshold, or a --noise-control above 0")


def _write_dataset(out: Path, manifest: Manifest) -> None:
    """Describe tomograms and particles as training data, if all have the same voxel size and species."""
    manifest.refresh()
    entries = list(manifest.entries.items())
    first = entries[0][1]
    same = ("voxel_size", "species", "radius")
    if any(entry[key] != first[key] for _, entry in entries for key in same):
        return
    rows = []
    for name, entry in entries:
        imaging = entry["key"]["imaging"]
        picks = out / entry["outputs"]["particles"] if entry["count"] else None
        rows.append(
            Entry(
                name=name, tomogram=Path(entry["key"]["input"]), particles=picks, contrast=entry["contrast"],
                exhaustive=False, tilt_axis=imaging["tilt_axis"], tilt_range=imaging["tilt_range"],
            )
        )  # fmt: skip
    species = Species(name=first["species"], label=1, radius=first["radius"])
    dataset = Dataset(voxel_size=first["voxel_size"], species=(species,), entries=tuple(rows))
    dataset_files.write(out, dataset, DATASET)


def _write_report(out: Path, manifest: Manifest) -> None:
    """The report of all tomograms in the folder that were searched with these settings."""
    page = out / "report.html"
    with locked(page):
        manifest.refresh()
        shown = {k: v for k, v in manifest.facts.items() if k != "device"}
        pages = [_report_entry(name, out, entry) for name, entry in manifest.entries.items()]
        write_find_report(page, [p for p in pages if p is not None], shown, title="Template matching")


def _report_entry(name: str, out: Path, entry: Mapping[str, Any]) -> ReportEntry | None:
    """A tomogram of this or of an earlier run; None where its files are gone."""
    outputs = {kind: Path(path) for kind, path in (entry["outputs"] | entry.get("view", {})).items()}
    path = Path(entry["key"]["input"])
    try:
        score_map = scores.read(out / outputs["scores"])
        volume = read_volume(path, entry["voxel_size"])
        picks = read_particles(out / outputs["particles"], tomogram=tomogram_frame(score_map))
    except (RequestError, OSError):
        return None
    findings = [Finding("warning", "search", note) for note in entry["notes"]]
    facts = entry.get("lamella", {})
    findings += [Finding("note" if "planes" in facts else "ok", CHECK, facts["note"])] if facts else []
    if (noise := entry["noise"]) is not None:
        text = f"best score {entry['best']:.3f}; in noise of the same spectrum {noise['best']:.3f}"
        findings.append(Finding("ok" if entry["best"] > noise["best"] else "warning", "noise control", text))
    return ReportEntry(
        name=name, volume=volume, scores=score_map, particles=picks,
        thresholds={entry["species"]: entry["threshold"]}, findings=findings, outputs=outputs,
        seconds=entry["seconds"], sign=sign_of(entry["contrast"]), tomogram=path,
        lamella=Lamella.from_dict(facts) if "planes" in facts else None,
    )  # fmt: skip
