"""`cryovox demo`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from cryovox.cli.screen import Meter, table
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
    """Make small phantoms, train a network on them, find particles in another, and show it all.

    Parameters
    ----------
    out
        Output folder.
    steps
        Steps of training.
    device
        Where to compute.
    seed
        Seed of phantoms and training.
    overwrite
        Start anew where the folder holds a demonstration.
    quiet
        Show no progress.
    """
    from cryovox.workflows.demo import demo as run
    from cryovox.workflows.demo import summary

    keep_freed_memory()
    command = shlex.join(["cryovox", *sys.argv[1:]])
    rows, page = run(
        out, steps=steps, device=device, seed=seed, overwrite=overwrite, command=command, told=Meter(quiet)
    )
    told = summary(rows)
    print(f"{told.title}:\n{table(list(told.columns), told.rows)}\nlook at {page}")
    return 0
