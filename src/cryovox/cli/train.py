"""`cryovox train STRATEGY`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from cryovox.cli.parse import with_defaults
from cryovox.cli.screen import Meter
from cryovox.core.config import validated
from cryovox.formats.subtomograms import is_set
from cryovox.models.card import read_card
from cryovox.training.recipes import recipe
from cryovox.training.strategies import STRATEGIES
from cryovox.workflows.adapt import train_adapted
from cryovox.workflows.config import AdaptConfig, GeneralConfig, TrainConfig, adapt_settings, settings_of
from cryovox.workflows.devices import Device, keep_freed_memory
from cryovox.workflows.job import Told
from cryovox.workflows.train import train_supervised

SEMI = """Teach a picker from few picks and from tomograms, or parts of them, where nothing is picked.

    Entries of the dataset without particles and labels are unlabelled tomograms. Say `exhaustive: false`
    where only some particles are picked. Sets of subtomograms and stream:PRESET are not taken
    here. Run it again to go on after an interruption."""


BLIND = """Learn from a labelled source alone, for tomograms that nobody has seen yet.

    Run it again to go on after an interruption."""


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

    Settings of a published training: --preset mvgformer, --preset mvgformer-pretraining.

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
    model = train_supervised(
        data,
        out,
        config,
        device=device,
        devices=devices,
        overwrite=overwrite,
        told=_meter(quiet),
        warned=lambda text: print(f"note: {text}", file=sys.stderr),
    )
    if not quiet:
        if not read_card(model).training["held_out"]:
            print("nothing was held out, since the picks are too few to judge by: check what find finds")
        verb = "segment SET" if is_set(data) else "find TOMOGRAM"
        print(f"{model}\nnext: cryovox {verb} --model {model} --out FOUND", file=sys.stdout)
    return 0


def _meter(quiet: bool) -> Told:
    meter = Meter(quiet)
    return lambda done, total, share, loss: meter(
        "training", share, f"step {done} of at most {total}  loss {loss:.3f}"
    )


def _by_recipe(name: str | None) -> Callable[..., int]:
    """The same with the settings of a published training."""
    if name is None:
        return supervised
    return with_defaults(supervised, {"config": validated(TrainConfig, recipe(name), name)})


supervised.preset = _by_recipe  # type: ignore[attr-defined]  # see cryovox.cli.parse


def adapted(
    *,
    source: Path,
    target: tuple[Path, ...],
    out: Path,
    config: AdaptConfig = AdaptConfig(),
    device: Device = "auto",
    devices: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Learn from a labelled source, adapt to unlabelled tomograms, and keep the better model of the two.

    Run it again to go on after an interruption. report.html says which model was kept, and why.

    Parameters
    ----------
    source
        With labels: a dataset, a subtomogram set, or stream:PRESET.
    target
        Without labels: tomograms, folders, patterns, datasets, or one subtomogram set.
    out
        Run folder; model.safetensors, choice.json and report.html go there.
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
    model = train_adapted(
        source, target, out, config, device=device, devices=devices, overwrite=overwrite, told=_meter(quiet)
    )
    if not quiet:
        choice = json.loads((out / "choice.json").read_text(encoding="utf-8"))
        print(f"kept: the {choice['chosen']} model\n" + "\n".join(f"    {r}" for r in choice["reasons"]))
        print(f"{model}\nnext: cryovox find TOMOGRAM --model {model} --out FOUND")
    return 0


def by_strategy(name: str) -> Callable[..., int]:
    """Give the command of a strategy, by the streams that it draws from."""
    needs = STRATEGIES[name].needs
    if "target" in needs:
        return _of(adapted, adapt_settings(name))
    if "unlabelled" in needs:
        return _of(supervised, settings_of(name), SEMI)
    if not STRATEGIES[name].elsewhere:
        return _of(supervised, settings_of(name))
    command = _of(supervised, settings_of(name, GeneralConfig), BLIND)
    command.__annotations__["data"] = Annotated[Path, tyro.conf.arg(name="source")]
    return command


def _of(command: Callable[..., int], kind: type[TrainConfig], told: str | None = None) -> Callable[..., int]:
    """The command with settings of this kind, and with another description if one is given."""
    made = with_defaults(command, {"config": kind()})
    if told is not None:
        _, heading, options = (made.__doc__ or "").partition("\n\n    Parameters\n")
        made.__doc__ = told + heading + options
    made.__annotations__ = {**made.__annotations__, "config": kind}
    return made
