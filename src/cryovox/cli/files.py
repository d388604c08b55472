"""`cryovox doctor`, `convert` and `extract`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import tyro

from cryovox.cli.interface.screen import check_json, failures, terminal_meter, write_json
from cryovox.core.errors import RequestError
from cryovox.workflows.batch import Failures
from cryovox.workflows.config import ConvertConfig

Inputs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")]


def doctor(  # noqa: PLR0913 (the options of a command)
    tomograms: Inputs = (),
    /,
    *,
    subset: Path | None = None,
    model: Path | None = None,
    voxel_size: float | None = None,
    write_masks: Path | None = None,
    particles: Path | None = None,
    against: Path | None = None,
    shape: Annotated[str | None, tyro.conf.arg(metavar="X,Y,Z")] = None,
    reference: Path | None = None,
    json: Path | None = None,
) -> int:
    """Inspect tomograms and particle lists: each problem is reported with the command that fixes it.

    Tomograms: voxel size, contrast, NaN, extent of the sample, missing wedge, seams. Particle lists: CTF
    values, names, selection, density at the particles, and the difference from another list.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    subset
        File with the names of the tomograms to use, as `cryovox report` saves it.
    model
        Model file: compare the tomograms with the data that the model was trained on.
    voxel_size
        Voxel size in Å; overrides the headers.
    write_masks
        Write a mask of the sample of each tomogram to this folder (NAME.mrc), for --mask of find, segment,
        suggest and train.
    particles
        Particle list of the tomograms, or a STAR file of RELION.
    against
        Other list of the same particles: name flips, order of axes, scale and constant offset that turn
        --particles into it.
    shape
        Shape of the tomogram in voxels, with --against.
    reference
        Map of known hand and contrast: the files are averages of its structure, whose hand and contrast are
        told.
    json
        Write the findings to this JSON file.
    """
    from cryovox.report.doctor import Finding, render, sort_by_severity
    from cryovox.workflows.average_checks import compare_average
    from cryovox.workflows.doctor import inspect_tomograms, mask_path
    from cryovox.workflows.inputs import expand
    from cryovox.workflows.list_checks import compare_lists, inspect_list, parse_shape
    from cryovox.workflows.subsets import in_subset

    check_json(json)
    _check_doctor(tomograms, particles, against, reference)
    findings: dict[Path, list[Finding]] = {}
    failed: Failures = {}
    tomograms = tuple(in_subset(tomograms, subset)) if tomograms else ()
    if tomograms:
        findings, failed = inspect_tomograms(
            list(tomograms), model, voxel_size, write_masks, terminal_meter()
        )
    if reference is not None:
        for path, rows in findings.items():
            findings[path] = sort_by_severity([*rows, *compare_average(path, reference, voxel_size)])
    if particles is not None and against is not None:
        box = None if shape is None else parse_shape(shape)
        findings[particles] = compare_lists(particles, against, box, voxel_size)
    elif particles is not None:
        files = expand(tomograms) if tomograms else {}
        files = {name: path for name, path in files.items() if name not in failed}
        findings[particles] = inspect_list(particles, files, voxel_size)
    for path, rows in findings.items():
        print(render(rows, path), end="\n\n")
        if write_masks is not None and path != particles:
            mask = shlex.quote(str(mask_path(write_masks, path)))
            print(f"mask of the sample: {mask}; limit the search to it with --mask {mask}", end="\n\n")
    write_json(json, {str(path): [row.to_dict() for row in rows] for path, rows in findings.items()})
    if tomograms and reference is None and not failed:
        problems = any(row.level in ("error", "warning") for rows in findings.values() for row in rows)
        first = "correct the problems above, then " if problems else ""
        print(f"next: {first}cryovox find TOMOGRAM --out RESULTS")
    return failures(failed)


def _check_doctor(
    tomograms: tuple[Path, ...], particles: Path | None, against: Path | None, reference: Path | None
) -> None:
    if against is not None and particles is None:
        raise RequestError("--against", "needs --particles", "name both lists")
    if not tomograms and particles is None:
        raise RequestError("doctor", "names no file", "name tomograms, or a list with --particles")
    if reference is not None and not tomograms:
        raise RequestError("--reference", "needs an average", "name its file")


def convert(
    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN... OUT")],
    /,
    *,
    config: ConvertConfig = ConvertConfig(),
    tomogram: Path | None = None,
    verify: bool = False,
    overwrite: bool = False,
) -> int:
    """Convert volumes or particle lists; the file names determine the formats.

    Parameters
    ----------
    files
        Inputs, then the output. Inputs are volumes (.mrc, .rec, .map, with .gz or .bz2; .zarr, .h5, .tif,
        .em, .npy) or particle lists (.star, .csv, .tbl, .em, .mod, .json and others), or folders and
        patterns. An output like DIR/{name}.csv converts each input; otherwise lists are joined.
    config
        Settings.
    tomogram
        Tomogram of the particles, for coordinates in voxels or from its center. For a list that names several
        tomograms, or several lists: the folder with these tomograms, or the tomograms.star of RELION.
    verify
        Read the output back and print the largest difference. With --tomogram, compare the particles with the
        density, also for other flips, shifts, centers and binnings.
    overwrite
        Overwrite existing outputs.
    """
    from cryovox.workflows.convert import convert as run

    if len(files) < 2:
        raise RequestError("convert", "needs an input and an output", "type `cryovox convert IN OUT`")
    *sources, target = files
    messages, failed = run(
        sources,
        target,
        config,
        tomogram=tomogram,
        verify=verify,
        overwrite=overwrite,
        on_progress=terminal_meter(),
    )
    for message in messages.values():
        print(message)
    return failures(failed)


def extract(  # noqa: PLR0913 (the options of a command)
    particles: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PARTICLES")],
    tomogram: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="TOMOGRAM")] = None,
    /,
    *,
    out: Path,
    box: int | None = None,
    voxel_size: float | None = None,
    labels: Path | None = None,
    dataset: Path | None = None,
    pad: bool = False,
    tomogram_name: str | None = None,
    overwrite: bool = False,
) -> int:
    """Extract subtomograms at particles into one file, NAME.zarr or NAME.h5 (a subtomogram set).

    Without TOMOGRAM, the 2-D stacks of RELION 5 or WarpTools that PARTICLES names are back-projected.

    Parameters
    ----------
    particles
        Particle list. If it names several tomograms, only the particles of this one are extracted. For 2-D
        stacks: optimisation_set.star, or the list of particles and then tomograms.star.
    tomogram
        Tomogram; leave it out for 2-D stacks.
    out
        Output file; the position of every subtomogram is stored with it.
    box
        Box size in voxels; for 2-D stacks by default that of the images.
    voxel_size
        Voxel size in Å; overrides the header.
    labels
        Label map from which masks are extracted.
    dataset
        dataset.yaml with names, labels and radii of the species, to be stored in the set.
    pad
        Pad boxes that reach beyond the tomogram with its mean; otherwise they are left out.
    tomogram_name
        Name of the tomogram in the particle list, if it is not that of the file.
    overwrite
        Overwrite an existing set.
    """
    from cryovox.workflows.extract import extract as run
    from cryovox.workflows.extract import is_stacks, reconstruct_stacks

    if out.exists() and not overwrite:
        raise RequestError(out, "is there already", "name another file with --out, or add --overwrite")
    meter = terminal_meter()
    if is_stacks(particles, tomogram):
        _check_stacks(voxel_size, labels, dataset, pad, tomogram_name)
        wrote, size = reconstruct_stacks(particles, out, tomograms=tomogram, box=box, on_progress=meter)
        print(f"{out}: {wrote} subtomograms of {size}^3 voxels, back-projected from 2-D stacks")
        print(f"next: cryovox train supervised --data {shlex.quote(str(out))} --out RUN")
        return 0
    if tomogram is None:
        raise RequestError(
            particles, "names no 2-D stacks of images", "name the tomogram: PARTICLES TOMOGRAM"
        )
    if box is None:
        raise RequestError("--box", "is missing", "give the box size in voxels")
    wrote, left = run(
        particles,
        tomogram,
        box,
        out,
        voxel_size=voxel_size,
        labels=labels,
        dataset=dataset,
        pad=pad,
        tomogram_name=tomogram_name,
        on_progress=meter,
    )
    print(f"{out}: {wrote} subtomograms of {box}^3 voxels; {left} boxes beyond the tomogram were left out")
    print(f"next: cryovox train supervised --data {shlex.quote(str(out))} --out RUN")
    return 0


def _check_stacks(*settings: object) -> None:
    """Raise an error for options that 2-D stacks do not have."""
    names = ("--voxel-size", "--labels", "--dataset", "--pad", "--tomogram-name")
    for name, value in zip(names, settings, strict=True):
        if value:
            raise RequestError(name, "does not apply to 2-D stacks", "leave it out")
