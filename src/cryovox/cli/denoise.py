"""`cryovox denoise`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import tyro

from cryovox.cli.interface.plans import print_plan
from cryovox.cli.interface.screen import Meter, check_json, failures, table, write_json
from cryovox.cli.interface.workers import on_cluster
from cryovox.workflows.config import DenoiseConfig
from cryovox.workflows.devices import Device, keep_freed_memory


def denoise(  # noqa: PLR0913 (the options of a command)
    tomograms: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")],
    /,
    *,
    out: Path,
    config: DenoiseConfig = DenoiseConfig(),
    subset: Path | None = None,
    device: Device = "auto",
    cluster: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: Path | None = None,
) -> int:
    """Denoise tomograms: denoised/NAME.mrc, with the gray-value range of the tomogram.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    out
        Output folder; results of an earlier run are kept.
    config
        Settings.
    subset
        File with the names of the tomograms to use, as `cryovox report` saves it.
    device
        Device.
    cluster
        Workers: local:N, address of a scheduler, or YAML.
    overwrite
        Compute existing results again.
    dry_run
        Predict time, memory and output size, without a run.
    quiet
        Suppress progress output.
    json
        Write the table, or what --dry-run predicts, to this JSON file.
    """
    from cryovox.workflows.cluster.tomograms import ShareCalls, without_result
    from cryovox.workflows.denoise import denoise as run
    from cryovox.workflows.denoise import filter_share
    from cryovox.workflows.dry_run.denoise import predict
    from cryovox.workflows.inputs import expand
    from cryovox.workflows.subsets import in_subset

    check_json(json)
    keep_freed_memory()
    tomograms = tuple(in_subset(tomograms, subset))
    if dry_run:
        return print_plan(predict(list(tomograms), config, device), cluster, json)
    meter = Meter(quiet)
    ready, lost = on_cluster(
        cluster,
        lambda: expand(list(tomograms)),
        lambda path: (
            without_result,
            (run, [path], out.resolve(), config),
            {"device": device, "overwrite": overwrite},
        ),
        out,
        meter,
        lambda: ShareCalls(filter_share, out.resolve(), config, device),
    )
    if ready is not None and not ready:
        return failures(lost)
    done, failed = run(
        list(tomograms) if ready is None else ready, out, config,
        device=device, overwrite=overwrite and ready is None, on_progress=meter,
    )  # fmt: skip
    failed = lost | failed
    columns = ("tomogram", "file", "removed", "seconds")
    rows = [[n, str(out / e["outputs"]["denoised"]), e["removed"], e["seconds"]] for n, e in done.items()]
    print(table(columns, rows))
    print("removed: standard deviation of the removed part relative to that of the tomogram")
    if done:
        print(f"next: cryovox find {shlex.quote(str(out / 'denoised'))} --out RESULTS")
    write_json(json, [dict(zip(columns, row, strict=True)) for row in rows])
    return failures(failed)
