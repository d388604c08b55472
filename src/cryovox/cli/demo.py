"""`cryovox demo`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from cryovox.cli.interface.screen import Meter, table
from cryovox.workflows.devices import Device, keep_freed_memory


def demo(
    *,
    out: Path = Path("demo-out"),
    steps: int = 240,
    device: Device = "auto",
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Run the whole workflow on small phantoms: train a network, find particles, evaluate and report.

    Parameters
    ----------
    out
        Output folder.
    steps
        Training steps.
    device
        Device.
    seed
        Random seed of phantoms and training.
    overwrite
        Delete the results in the folder and start again.
    quiet
        Suppress progress output.
    """
    from cryovox.workflows.demo import demo as run
    from cryovox.workflows.demo import summary

    keep_freed_memory()
    command = shlex.join(["cryovox", *sys.argv[1:]])
    rows, page = run(
        out,
        steps=steps,
        device=device,
        seed=seed,
        overwrite=overwrite,
        command=command,
        on_progress=Meter(quiet),
    )
    summary_table = summary(rows)
    print(f"{summary_table.title}:\n{table(list(summary_table.columns), summary_table.rows)}\nreport: {page}")
    return 0
