"""`cryovox train STRATEGY`."""

from __future__ import annotations

import sys
from pathlib import Path

from cryovox.cli.screen import Meter
from cryovox.formats.subtomograms import is_set
from cryovox.workflows.devices import Device, keep_freed_memory
from cryovox.workflows.train import TrainConfig, train_supervised


def supervised(
    *,
    data: Path,
    out: Path,
    config: TrainConfig = TrainConfig(),
    device: Device = "auto",
    devices: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Teach a network from label maps, picks or masks; run it again to go on after an interruption.

    Parameters
    ----------
    data
        Folder with dataset.yaml, or that file; a subtomogram set (.zarr, .h5); or an endless simulation,
        stream:PRESET (as in `cryovox simulate --preset`) or stream:FILE.yaml.
    out
        Run folder; model.safetensors, metrics.csv and config.yaml go there.
    config
        Settings.
    device
        Where to compute.
    devices
        How many of them; start with torchrun or SLURM for more than one.
    overwrite
        Start anew where the folder holds a run.
    quiet
        Show no progress.
    """
    keep_freed_memory()
    meter = Meter(quiet)

    def told(done: int, total: int, share: float, loss: float) -> None:
        meter("training", share, f"step {done} of at most {total}  loss {loss:.3f}")

    model = train_supervised(
        data, out, config, device=device, devices=devices, overwrite=overwrite, told=told
    )
    if not quiet:
        verb = "segment SET" if is_set(data) else "find TOMOGRAM"
        print(f"{model}\nnext: cryovox {verb} --model {model} --out FOUND", file=sys.stdout)
    return 0
