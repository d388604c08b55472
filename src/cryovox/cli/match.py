"""`cryovox match`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from cryovox.cli.interface.plans import print_plan
from cryovox.cli.interface.screen import Meter, check_json, failures, table, write_json
from cryovox.cli.interface.workers import on_cluster, resolved
from cryovox.workflows.config import PickOutput
from cryovox.workflows.devices import Device, keep_freed_memory
from cryovox.workflows.matching.config import MatchConfig

Table = tuple[list[str], list[list[Any]]]


def match(  # noqa: PLR0913 (the options of a command)
    template: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TEMPLATE")],
    tomograms: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")],
    /,
    *,
    out: Path,
    config: MatchConfig = MatchConfig(),
    output: PickOutput = PickOutput(),
    at: Path | None = None,
    dataset: Path | None = None,
    subset: Path | None = None,
    threads: int | None = None,
    device: Device = "auto",
    cluster: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: Path | None = None,
) -> int:
    """Search tomograms for a known structure by template matching: particles/NAME.star with poses.

    Writes scores/NAME.zarr, the best rotation of each voxel (rotations/NAME.mrc and .csv) and report.html as
    well.

    Parameters
    ----------
    template
        Structure (PDB, mmCIF), map (MRC, bright particle), or name of a built-in species.
    tomograms
        Files, folders or patterns.
    out
        Output folder; results of an earlier run are kept.
    config
        Search.
    output
        Particle files.
    at
        Particle list, or folder of lists named after the tomograms: gives poses to these particles instead of
        searching the tomograms. All columns are kept, rlnLCCmax is the correlation coefficient.
    dataset
        dataset.yaml with tilt ranges, tilt axes, contrast and masks of the tomograms.
    subset
        File with the names of the tomograms to use, as `cryovox report` saves it.
    threads
        Number of processor threads; by default that of PyTorch.
    device
        Device.
    cluster
        Workers: local:N, address of a scheduler, or YAML.
    seed
        Random seed of the noise control.
    overwrite
        Compute existing results again.
    dry_run
        Predict time, memory and output size of a search, without a run.
    quiet
        Suppress progress output.
    json
        Write the counts, or what --dry-run predicts, to this JSON file.
    """
    from cryovox.workflows.cluster.tomograms import ShareCalls, without_result
    from cryovox.workflows.dry_run.match import predict
    from cryovox.workflows.inputs import expand
    from cryovox.workflows.match import match as run
    from cryovox.workflows.match import search_share
    from cryovox.workflows.subsets import in_subset

    check_json(json)
    keep_freed_memory()
    _use(threads)
    tomograms = tuple(in_subset(tomograms, subset))
    if dry_run:
        plan = predict(template, list(tomograms), config, at=at, dataset=dataset, device=device)
        return print_plan(plan, cluster, json)
    meter, command = Meter(quiet), shlex.join(["cryovox", *sys.argv[1:]])
    options: dict[str, Any] = {"device": device, "seed": seed, "command": command}
    absolute = template.resolve() if template.exists() else template
    ready, lost = on_cluster(
        cluster,
        lambda: expand(list(tomograms)),
        lambda path: (
            without_result,
            (run, absolute, [path], out.resolve(), config, output),
            options | resolved(at=at, dataset=dataset) | {"overwrite": overwrite, "report": False},
        ),
        out,
        meter,
        None if at is not None else lambda: ShareCalls(
            search_share, absolute, out.resolve(), config, output,
            device=device, seed=seed, **resolved(dataset=dataset),
        ),
    )  # fmt: skip
    if ready is not None and not ready:
        return failures(lost)
    done, failed = run(
        template, list(tomograms) if ready is None else ready, out, config, output,
        at=at, dataset=dataset, **options, overwrite=overwrite and ready is None, on_progress=meter,
    )  # fmt: skip
    failed = lost | failed
    for name, entry in done.items():
        for note in entry["notes"]:
            print(f"note: {name}: {note}", file=sys.stderr)
    columns, rows = _searched(done) if at is None else _posed(done)
    print(table(columns, rows))
    write_json(json, [dict(zip([c.replace(" ", "_") for c in columns], row, strict=True)) for row in rows])
    if done and at is None:
        print(f"report: {out / 'report.html'}")
        print(f"next: open it, or cryovox view {shlex.quote(str(out))}")
    return failures(failed)


def _searched(done: dict[str, Any]) -> Table:
    columns = ["tomogram", "species", "particles", "threshold", "best score"]
    columns += ["best in noise", "expected in noise", "expected false"]
    rows = []
    for name, entry in done.items():
        noise = entry["noise"] or {"best": "", "expected": ""}
        decoy = entry["decoy"] or {"expected": "no decoy"}
        row = [name, entry["species"], entry["count"], entry["threshold"], entry["best"]]
        rows.append([*row, noise["best"], noise["expected"], decoy["expected"]])
    return columns, rows


def _posed(done: dict[str, Any]) -> Table:
    columns = ["tomogram", "species", "particles", "best score", "median score"]
    return columns, [
        [name, *(e[k] for k in ("species", "count", "best", "median"))] for name, e in done.items()
    ]


def _use(threads: int | None) -> None:
    if threads is None:
        return
    import torch

    from cryovox.core.errors import RequestError

    if threads < 1:
        raise RequestError("--threads", f"is {threads}", "give a number of at least 1")
    torch.set_num_threads(threads)
