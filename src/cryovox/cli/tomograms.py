"""`cryovox segment`, `cryovox pick` and `cryovox find`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from cryovox.cli.screen import Meter, check_json, failures, model_warnings, table, write_json
from cryovox.picking.config import PickConfig
from cryovox.workflows.config import PickOutput, SegmentConfig
from cryovox.workflows.devices import Device, keep_freed_memory

if TYPE_CHECKING:
    from cryovox.core.particles import Particles

Inputs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")]


def segment(
    tomograms: Inputs,
    /,
    *,
    model: Path,
    out: Path,
    config: SegmentConfig = SegmentConfig(),
    device: Device = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Segment tomograms (labels/NAME.mrc and scores/NAME.zarr) or subtomogram sets (labels/NAME.zarr, the set
    with predicted masks in place of its images).

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
    device
        Device.
    overwrite
        Compute existing results again.
    quiet
        Suppress progress output.
    """
    from cryovox.workflows.segment import segment_files

    keep_freed_memory()
    meter = Meter(quiet)
    done, failed = segment_files(
        list(tomograms), model, out, config, device=device, overwrite=overwrite, on_progress=meter
    )
    print_notes(out, [name for names in done.values() for name in names])
    model_warnings(model)
    print(", ".join(f"{len(names)} {kind} segmented" for kind, names in done.items()) + f", in {out}")
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
        What counts as a particle.
    output
        What the files look like.
    dataset
        dataset.yaml with names and radii of the labels, for label maps.
    mask
        Mask volume: particles are picked where it is not 0. Or a folder of masks named after the inputs.
    voxel_size
        Voxel size of label maps in Å; overrides their headers.
    overwrite
        Replace the picks of another input of the same name.
    json
        Write the counts to this JSON file.
    """
    from cryovox.workflows.pick import pick_files

    check_json(json)
    picks, failed = pick_files(
        list(inputs),
        out,
        config,
        output,
        dataset=dataset,
        mask=mask,
        voxel_size=voxel_size,
        overwrite=overwrite,
        on_note=lambda name, text: print(f"note: {name}: {text}", file=sys.stderr),
    )
    _count(picks, json)
    return failures(failed)


def find(  # noqa: PLR0913 (the options of a command)
    tomograms: Inputs,
    /,
    *,
    model: Path,
    out: Path,
    segment: SegmentConfig = SegmentConfig(),
    pick: PickConfig = PickConfig(),
    output: PickOutput = PickOutput(),
    keep_dense: bool = False,
    device: Device = "auto",
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
    json: Path | None = None,
) -> int:
    """Segment, pick and report: particles/NAME.star and report.html, beside the scores and labels.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    model
        Model file.
    out
        Output folder; segmentations of an earlier run are kept.
    segment
        How tomograms are scored.
    pick
        What counts as a particle.
    output
        What particle files look like.
    keep_dense
        Keep picks on gold and other specks that are far denser than the other picks of their species.
    device
        Device.
    seed
        Noted in the manifest; nothing here is random.
    overwrite
        Compute existing results again.
    quiet
        Suppress progress output.
    json
        Write the counts to this JSON file.
    """
    from cryovox.workflows.find import find as run

    check_json(json)
    keep_freed_memory()
    command = shlex.join(["cryovox", *sys.argv[1:]])
    picks, failed = run(
        list(tomograms),
        model,
        out,
        segment,
        pick,
        output,
        device=device,
        seed=seed,
        overwrite=overwrite,
        command=command,
        keep_dense=keep_dense,
        on_progress=Meter(quiet),
    )
    print_notes(out, list(picks), picked=True)
    model_warnings(model)
    _count(picks, json)
    if picks:
        print(f"look at {out / 'report.html'}")
    return failures(failed)


def print_notes(out: Path, names: list[str], picked: bool = False) -> None:
    """Print what was noted of each input, such as that it is unlike what the model knows."""
    from cryovox.workflows.manifest import Manifest
    from cryovox.workflows.pick import left_out_notes

    for name, entry in Manifest(out, {}).entries.items():
        notes = list(entry.get("notes", []))
        if picked:
            notes += left_out_notes(entry.get("particles", {}).get("left_out", {}))
        for note in notes if name in names else []:
            print(f"note: {name}: {note}", file=sys.stderr)


def _count(picks: dict[str, Particles], json: Path | None) -> None:
    import numpy as np

    rows: list[list[object]] = []
    for name, found in picks.items():
        for kind in np.unique(found.species) if len(found) else []:
            own = found.named(str(kind))
            rows.append([name, str(kind), len(own), float(np.median(own.scores))])
        if not len(found):
            rows.append([name, "none", 0, 0.0])
    print(table(["tomogram", "species", "particles", "median score"], rows))
    write_json(
        json, [dict(zip(("tomogram", "species", "particles", "median_score"), r, strict=True)) for r in rows]
    )
