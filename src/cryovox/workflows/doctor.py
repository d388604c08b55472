"""Inspect tomograms before anything else."""

from __future__ import annotations

import shlex
from pathlib import Path

from cryovox.core.atomic import writable_folder
from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Volume
from cryovox.formats import mrc, read_header, read_volume, stem
from cryovox.models.card import Card, model_file, read_card
from cryovox.picking.lamella import estimate
from cryovox.report.doctor import MARGIN, Finding, ModelInput, examine, sample_planes, sort_by_severity
from cryovox.report.volume_checks import volume_findings
from cryovox.workflows import lamella as lamella_file
from cryovox.workflows.batch import Failures, for_each
from cryovox.workflows.inputs import domain_finding, expand


def inspect_tomograms(
    tomograms: list[Path],
    model: Path | None = None,
    voxel_size: float | None = None,
    masks: Path | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[Path, list[Finding]], Failures]:
    """Inspect every tomogram; a file that cannot be read is a failure.

    A header without a usable voxel size is a finding: the file is then read with voxels of 10 Å.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    model
        Model file to compare with.
    voxel_size
        In Å; overrides the headers.
    masks
        Folder for a mask of the sample of every tomogram, NAME.mrc.
    on_progress
        Receives how many of several tomograms are done.

    Returns
    -------
    findings, failures
        By file, and by name.
    """
    card = expected = None
    if model is not None:
        model = model_file(model)
        card = read_card(model)
        expected = ModelInput(card.voxel_size, card.contrast, model.name)
    files = expand(tomograms)
    for target in [] if masks is None else [mask_path(masks, path) for path in files.values()]:
        if target.exists():  # perhaps the tomogram itself
            raise RequestError(target, "is there already", "name another folder with --write-masks")

    def inspect(name: str) -> list[Finding]:
        findings = _inspect(files[name], card, expected, voxel_size)
        if masks is not None:
            _write_mask(files[name], mask_path(masks, files[name]))
        return findings

    findings, failures = for_each(files, inspect, on_progress=on_progress)
    return {files[name]: own for name, own in findings.items()}, failures


def mask_path(folder: Path, tomogram: Path) -> Path:
    """File of the mask of a tomogram."""
    return folder / f"{stem(tomogram)}.mrc"


def _write_mask(tomogram: Path, target: Path) -> None:
    """Write 1 where the sample is and 0 elsewhere, with the shape of the tomogram."""
    volume = read_volume(tomogram, read_header(tomogram).voxel_size or 10.0)
    lamella, _ = estimate(volume)
    if lamella is not None:
        lamella_file.write_mask(target, volume, lamella, MARGIN)
        return
    writable_folder(target.parent)
    first, last = sample_planes(volume)
    with mrc.create(target, volume.shape, "int8", volume.voxel_size, volume.origin, volume.nstart) as mask:
        mask[:first], mask[first:last], mask[last:] = 0, 1, 0


def _inspect(
    path: Path, card: Card | None, expected: ModelInput | None, voxel_size: float | None
) -> list[Finding]:
    header = read_header(path)
    volume = read_volume(path, voxel_size or header.voxel_size or 10.0)
    if voxel_size is not None:
        findings = examine(volume, path, model=expected)
    else:
        findings = examine(volume, path, header.voxel_sizes, header.problems, model=expected)
    findings += volume_findings(volume, path, header.voxel_size)
    findings.append(_lamella(volume, path))
    domain = None if card is None else domain_finding(volume, card, path)
    return sort_by_severity(findings if domain is None else [*findings, domain])


def _lamella(volume: Volume, path: Path) -> Finding:
    """Faces of the sample, if they are clear."""
    lamella, text = estimate(volume)
    if lamella is None:
        return Finding("ok", lamella_file.CHECK, text)
    remedy = f"cryovox doctor {shlex.quote(str(path))} --write-masks masks"
    return Finding("note", lamella_file.CHECK, f"{text}; `find` and `match` leave out picks outside", remedy)
