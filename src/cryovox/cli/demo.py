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
    train: bool = False,
    steps: int = 240,
    device: Device = "auto",
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Run the whole workflow on a small example: simulate a tomogram, find particles, evaluate and report.

    The picks are those of the embedded model, or of a network trained on the spot with --train.

    Parameters
    ----------
    out
        Output folder.
    train
        Train a network on small phantoms, and find particles in another one.
    steps
        Training steps of --train.
    device
        Device.
    seed
        Random seed of the simulation and of the training.
    overwrite
        Delete the results in the folder and start again.
    quiet
        Suppress progress output.
    """
    from cryovox.workflows.demo import Demo

    keep_freed_memory()
    command = shlex.join(["cryovox", *sys.argv[1:]])
    example = Demo(out, device, seed, overwrite, command, Meter(quiet))
    result, page = example.with_training(steps) if train else example.with_embedded_model()
    print(f"{result.title}:\n{table(list(result.columns), result.rows)}")
    if result.note:
        print(result.note)
    print(f"particles: {out / 'found' / 'particles'}\nreport: {page}")
    print("next: open it, then cryovox doctor TOMOGRAM with one of your own")
    return 0
