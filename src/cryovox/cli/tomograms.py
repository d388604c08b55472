"""`cryovox segment`, `cryovox pick` and `cryovox find`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cryovox.cli.interface.plans import print_plan
from cryovox.cli.interface.screen import (
    Meter,
    check_json,
    failures,
    model_warnings,
    table,
    terminal_meter,
    write_json,
)
from cryovox.cli.interface.workers import on_cluster
from cryovox.models.card import EMBEDDED, is_embedded
from cryovox.picking.config import ControlConfig, PickConfig
from cryovox.workflows.config import PickOutput, SegmentConfig
from cryovox.workflows.devices import Device, keep_freed_memory
from cryovox.workflows.matching.config import PoseConfig

if TYPE_CHECKING:
    from cryovox.core.particles import Particles
    from cryovox.workflows.cluster.spread import Call
    from cryovox.workflows.dry_run.segment import TilePrediction

Inputs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")]


def segment(  # noqa: PLR0913 (the options of a command)
    tomograms: Inputs,
    /,
    *,
    model: Path,
    out: Path,
    config: SegmentConfig = SegmentConfig(),
    subset: Path | None = None,
    device: Device = "auto",
    cluster: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
) -> int:
    """Segment tomograms or subtomogram sets.

    Tomograms give labels/NAME.mrc and scores/NAME.zarr; sets give labels/NAME.zarr, a copy of the set with
    the predicted masks instead of the images.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    model
        Model file.
    out
        Output folder; results of an earlier run are kept.
    config
        Settings.
    subset
        File with names of tomograms, of `cryovox report`.
    device
        Device.
    cluster
        Workers: local:N, address of a scheduler, or YAML.
    overwrite
        Compute existing results again.
    dry_run
        Predict time, memory and output size of tomograms, without a run.
    quiet
        Suppress progress output.
    """
    from cryovox.workflows.cluster.tomograms import SlabCalls, without_result
    from cryovox.workflows.dry_run.segment import predict
    from cryovox.workflows.segment import segment_files, segmentable
    from cryovox.workflows.subsets import in_subset

    keep_freed_memory()
    tomograms = tuple(in_subset(tomograms, subset))
    if dry_run:
        return print_plan(predict(list(tomograms), model, out, config, device), cluster)
    meter = Meter(quiet)
    ready, lost = on_cluster(
        cluster,
        lambda: segmentable(list(tomograms)),
        lambda path: (
            without_result,
            (segment_files, [path], *_absolute(model, out), config),
            {"device": device, "overwrite": overwrite},
        ),
        out,
        meter,
        lambda: SlabCalls(*_absolute(model, out), config, device),
    )
    if ready is not None and not ready:
        return failures(lost)
    done, failed = segment_files(
        list(tomograms) if ready is None else ready, model, out, config,
        device=device, overwrite=overwrite and ready is None, on_progress=meter,
    )  # fmt: skip
    failed = lost | failed
    print_notes(out, [name for names in done.values() for name in names])
    model_warnings(model)
    print(", ".join(f"{len(names)} {kind} segmented" for kind, names in done.items()) + f", in {out}")
    if done.get("tomograms"):
        print(f"next: cryovox pick {shlex.quote(str(out / 'scores'))} --out {shlex.quote(str(out))}")
    return failures(failed)


def pick(  # noqa: PLR0913 (the options of a command)
    inputs: Inputs,
    /,
    *,
    out: Path,
    config: PickConfig = PickConfig(),
    output: PickOutput = PickOutput(),
    dataset: Path | None = None,
    mask: Path | None = None,
    subset: Path | None = None,
    voxel_size: float | None = None,
    overwrite: bool = False,
    json: Path | None = None,
) -> int:
    """Extract particle coordinates from score maps or label maps: particles/NAME.star.

    Parameters
    ----------
    inputs
        Score maps (scores/NAME.zarr), label maps (MRC, OME-Zarr), folders or patterns.
    out
        Output folder.
    config
        Picking.
    output
        Particle files.
    dataset
        dataset.yaml with names and radii of the labels, for label maps.
    mask
        Mask volume, or folder of masks named after the inputs; particles are picked only where it is not 0.
    subset
        File with names of tomograms, of `cryovox report`.
    voxel_size
        Voxel size of label maps in Å; overrides their headers.
    overwrite
        Replace the picks of another input with the same name.
    json
        Write counts, thresholds, and expected precision and recall at each cut to this JSON file.
    """
    from cryovox.workflows.manifest import Manifest
    from cryovox.workflows.pick import pick_files
    from cryovox.workflows.subsets import in_subset

    check_json(json)
    picks, failed = pick_files(
        in_subset(inputs, subset),
        out,
        config,
        output,
        dataset=dataset,
        mask=mask,
        voxel_size=voxel_size,
        overwrite=overwrite,
        on_note=lambda name, text: print(f"note: {name}: {text}", file=sys.stderr),
        on_progress=terminal_meter(),
    )
    _count(picks, json, {n: e.get("expected", {}) for n, e in Manifest(out, {}, "pick").entries.items()})
    if picks:
        print(f"next: cryovox report {shlex.quote(str(out))}")
    return failures(failed)


def find(  # noqa: PLR0913 (the options of a command)
    tomograms: Inputs,
    /,
    *,
    model: Path = EMBEDDED,
    out: Path,
    segment: SegmentConfig = SegmentConfig(),
    pick: PickConfig = PickConfig(),
    output: PickOutput = PickOutput(),
    control: ControlConfig = ControlConfig(),
    posing: PoseConfig = PoseConfig(),
    subset: Path | None = None,
    keep_dense: bool = False,
    lamella: bool = True,
    device: Device = "auto",
    cluster: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: Path | None = None,
) -> int:
    """Segment tomograms, pick particles and write a report; with no model, by the embedded one.

    The embedded model detects particles of any shape and names them by their diameter. Writes
    particles/NAME.star (RELION 5), scores/NAME.zarr, labels/NAME.mrc and report.html.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    model
        Model file; `embedded` comes with the package.
    out
        Output folder; segmentations of an earlier run are kept.
    segment
        Segmentation.
    pick
        Picking.
    output
        Particle files.
    control
        False discoveries.
    posing
        Poses.
    subset
        File with names of tomograms, of `cryovox report`.
    keep_dense
        Keep picks on gold and other objects that are far denser than the other picks of their species.
    lamella
        Leave out picks more than a radius outside the sample, if its estimated faces are clear.
    device
        Device.
    cluster
        Workers: local:N, address of a scheduler, or YAML.
    seed
        Seed of the noise in which false picks are counted.
    overwrite
        Compute existing results again.
    dry_run
        Predict time, memory and output size, without a run.
    quiet
        Suppress progress output.
    json
        Write counts, thresholds, expected precision and recall, or what --dry-run predicts, to this file.
    """
    from cryovox.workflows.cluster.tomograms import SlabCalls, without_result
    from cryovox.workflows.find import check_request
    from cryovox.workflows.find import find as run
    from cryovox.workflows.inputs import expand
    from cryovox.workflows.manifest import Manifest
    from cryovox.workflows.segment import segment as score
    from cryovox.workflows.subsets import in_subset

    check_json(json)
    keep_freed_memory()
    tomograms = tuple(in_subset(tomograms, subset))
    settings = (segment, pick, output, control, posing)
    if dry_run:
        return print_plan(_plan(list(tomograms), model, out, settings, device), cluster, json)
    if cluster is not None:  # refused before workers start, each of which reads the halves of its tomogram
        arguments = (list(tomograms), model, out, segment, pick, control, posing, device)
        check_request(*arguments, voxels=bool(control.curated))
    command = shlex.join(["cryovox", *sys.argv[1:]])
    options: dict[str, Any] = {
        "device": device, "seed": seed, "command": command, "keep_dense": keep_dense, "lamella": lamella,
    }  # fmt: skip
    meter = Meter(quiet)

    def call(path: Path) -> Call:
        if control.curated:  # what is picked depends on all tomograms
            scored = (score, [path], *_absolute(model, out), segment)
            return without_result, scored, {"device": device, "overwrite": overwrite, "noise": control.share}
        arguments = (run, [path], *_absolute(model, out), *settings)
        return without_result, arguments, options | {"overwrite": overwrite, "report": False}

    ready, lost = on_cluster(
        cluster,
        lambda: expand(list(tomograms)),
        call,
        out,
        meter,
        lambda: SlabCalls(*_absolute(model, out), segment, device, control.share),
    )
    if ready is not None and not ready:
        return failures(lost)
    picks, failed = run(
        list(tomograms) if ready is None else ready, model, out, *settings,
        **options, overwrite=overwrite and ready is None, on_progress=meter,
    )  # fmt: skip
    failed = lost | failed
    print_notes(out, list(picks), picked=True)
    model_warnings(model)
    entries = Manifest(out, {}).entries
    _count(picks, json, {name: entries[name]["particles"]["expected"] for name in picks})
    if picks:
        print(f"report: {out / 'report.html'}")
        print(f"next: open it, or cryovox view {shlex.quote(str(out))}")
    return failures(failed)


def _plan(
    tomograms: list[Path],
    model: Path,
    out: Path,
    settings: tuple[SegmentConfig, PickConfig, PickOutput, ControlConfig, PoseConfig],
    device: Device,
) -> list[TilePrediction]:
    """What `find` will take; a request that it would refuse is refused."""
    from cryovox.workflows.dry_run.segment import predict
    from cryovox.workflows.find import check_request

    segment, pick, _, control, posing = settings
    check_request(tomograms, model, out, segment, pick, control, posing, device)
    halves = control.halves is not None
    return predict(tomograms, model, out, segment, device, control.share, halves)


def print_notes(out: Path, names: list[str], picked: bool = False) -> None:
    """Print the notes on each input, such as that it differs from the training data of the model."""
    from cryovox.workflows.manifest import Manifest
    from cryovox.workflows.pick import left_out_notes

    for name, entry in Manifest(out, {}).entries.items():
        notes = list(entry.get("notes", []))
        if picked:
            record = entry.get("particles", {})
            notes += [*left_out_notes(record.get("left_out", {})), *record.get("notes", [])]
        for note in notes if name in names else []:
            print(f"note: {name}: {note}", file=sys.stderr)


def _absolute(model: Path, out: Path) -> tuple[Path, Path]:
    """Paths that workers find wherever they were started."""
    return (model if is_embedded(model) else model.resolve()), out.resolve()


def _count(picks: dict[str, Particles], json: Path | None, expected: dict[str, Any]) -> None:
    """Print the number of picks, their median score and their expected precision and recall."""
    import numpy as np

    rows: list[dict[str, Any]] = []
    for name, particles in picks.items():
        for species in np.unique(particles.species).tolist() if len(particles) else []:
            of_species = particles.named(species)
            row = {"tomogram": name, "species": species, "particles": len(of_species)}
            row["median_score"] = float(np.median(of_species.scores))
            rows.append(row | expected.get(name, {}).get(species, {}))
        if not len(particles):
            empty = {"tomogram": name, "species": "none", "particles": 0, "median_score": 0.0}
            rows.append(empty | {"expected": expected.get(name, {})})
    keys = ["tomogram", "species", "particles", "median_score", "expected_precision", "expected_recall"]
    shown = [key for key in keys if not key.startswith("expected") or any(key in row for row in rows)]
    cells = [[row.get(key, "") for key in shown] for row in rows]
    print(table([key.replace("_", " ") for key in shown], cells))
    write_json(json, rows)
