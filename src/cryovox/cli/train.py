"""`cryovox train STRATEGY`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryovox.cli.interface.parse import with_settings
from cryovox.cli.interface.screen import Meter, model_warnings
from cryovox.core.config import Config, validated
from cryovox.training.recipes import recipe
from cryovox.training.strategies import Task, facts
from cryovox.workflows.config import AdaptConfig, TrainConfig, train_config
from cryovox.workflows.devices import Device, keep_freed_memory

DESCRIPTIONS: dict[Task, str] = {
    "semi-supervised": """\
Train a picker from few picks and from tomograms, or parts of them, where nothing is picked.

Entries of the dataset without particles and labels are unlabeled tomograms. Write `exhaustive: false`
where only some particles are picked. Subtomogram sets and stream:PRESET are not supported here. Run the
same command again to continue after an interruption.""",
    "distillation": """\
Train a light network on the scores of a trained model (--teacher) instead of annotations.

--data is a tomogram, a folder, a quoted pattern, a dataset or stream:PRESET. Annotations of a dataset are
used too; its species must be those of the teacher. Without them, thresholds and held-out scores compare with
the picks of the teacher. Subtomogram sets are not supported here. Run the same command again to continue
after an interruption.""",
    "domain adaptation": """\
Train a network on a labeled source, adapt it to unlabeled tomograms, and keep the better
model of the two. Run the same command again to continue after an interruption. report.html says which
model was kept, and why. --max-time limits the whole command. The exit code is 1 if neither model predicts
foreground in the target.""",
    "domain generalization": """\
Train a network on a labeled source alone, for tomograms with other noise, missing
wedge and CTF. Run the same command again to continue after an interruption.""",
}
"""What the commands of a task do, for the help."""


def supervised(  # noqa: PLR0913 (the options of a command)
    *,
    data: Path,
    out: Path,
    config: TrainConfig = TrainConfig(),
    mask: Path | None = None,
    subset: Path | None = None,
    device: Device = "auto",
    devices: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Train a network on label maps, picks or masks.

    Run the same command again to continue after an interruption. --preset mvgformer and
    --preset mvgformer-pretraining take the settings of the published trainings.

    Parameters
    ----------
    data
        Folder with dataset.yaml, or that file; a subtomogram set (.zarr, .h5); or simulation during training,
        stream:PRESET (as in `cryovox simulate --preset`) or stream:FILE.yaml.
    out
        Run folder for model.safetensors, metrics.csv and config.yaml.
    config
        Settings.
    mask
        Mask of the region to train on, not 0 inside, or a folder of masks named after the tomograms; in place
        of `mask` in dataset.yaml.
    subset
        File with the names of the entries of dataset.yaml to train on, as `cryovox report` saves it.
    device
        Device.
    devices
        Number of devices; launch with torchrun or SLURM for more than one.
    overwrite
        Delete the run in the folder and start again.
    quiet
        Suppress progress output.
    """
    from cryovox.workflows.training.checks import check_training

    check_training(data, out, config, overwrite=overwrite)
    from cryovox.formats.subtomograms import is_set
    from cryovox.workflows.training.run import train
    from cryovox.workflows.training.run_folder import finished_note

    keep_freed_memory()
    finished = "" if overwrite else finished_note(out, out / "model.safetensors")
    meter = Meter(quiet)
    model = train(
        data,
        out,
        config,
        device=device,
        devices=devices,
        overwrite=overwrite,
        mask=mask,
        subset=subset,
        on_warning=lambda text: print(f"note: {text}", file=sys.stderr),
        on_message=meter.message,
        on_progress=meter,
    )
    _remark(finished)
    if not quiet:
        verb = "segment SET" if is_set(data) else "find TOMOGRAM"
        last = [str(model), f"next: cryovox {verb} --model {model} --out RESULTS"]
        print("\n".join([*_scores(model), *last]))
    model_warnings(model)
    return 0


def _remark(text: str) -> None:
    if text:
        print(f"note: {text}", file=sys.stderr)


def _scores(model: Path) -> list[str]:
    """Held-out figures of a model, a line for each species."""
    from cryovox.models.card import read_card
    from cryovox.training.evaluation.summary import species_lines

    card = read_card(model)
    extended = [species.name for species in card.species if species.extended]
    held_out, blob_picker = (card.training.get(name, {}) for name in ("held_out", "blob_picker"))
    return species_lines(held_out, blob_picker, extended)


def _by_recipe(name: str | None) -> Callable[..., int]:
    """The same with the settings of a published training."""
    if name is None:
        return supervised
    return with_settings(supervised, {"config": validated(TrainConfig, recipe(name), name)})


supervised.preset = _by_recipe  # type: ignore[attr-defined]  # see cryovox.cli.interface.parse


def adapted(  # noqa: PLR0913 (the options of a command)
    *,
    source: Path,
    target: tuple[Path, ...],
    out: Path,
    config: AdaptConfig[Any] = AdaptConfig[Config](own=Config()),
    mask: Path | None = None,
    subset: Path | None = None,
    device: Device = "auto",
    devices: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Learn from a labeled source, adapt to unlabeled tomograms, and keep the better model of the two.

    Run it again to go on after an interruption. report.html says which model was kept, and why. --max-time
    bounds the whole command. The exit code is 1 where neither model finds anything in the target.

    Parameters
    ----------
    source
        Labeled data: a dataset, a subtomogram set, or stream:PRESET.
    target
        Unlabeled data: tomograms, folders, patterns, datasets, or one subtomogram set.
    out
        Run folder for model.safetensors, choice.json and report.html.
    config
        Settings.
    mask
        Mask of the targets, not 0 inside, or a folder of masks named after them: patches are drawn inside.
    subset
        File with the names of the targets to use, as `cryovox report` saves it.
    device
        Device.
    devices
        Number of devices; launch with torchrun or SLURM for more than one.
    overwrite
        Delete the run in the folder and start again.
    quiet
        Suppress progress output.
    """
    from cryovox.workflows.training.checks import check_training

    check_training(source, out, config, target, overwrite=overwrite)
    from cryovox.workflows.subsets import in_subset

    target = tuple(in_subset(target, subset))
    from cryovox.workflows.training.adapt import adapt
    from cryovox.workflows.training.run_folder import finished_note

    keep_freed_memory()
    finished = "" if overwrite else finished_note(out / "adapted", out / "model.safetensors")
    meter = Meter(quiet)
    model = adapt(
        source,
        target,
        out,
        config,
        device=device,
        devices=devices,
        overwrite=overwrite,
        mask=mask,
        on_message=meter.message,
        on_progress=meter,
    )
    _remark(finished)
    choice = json.loads((out / "choice.json").read_text(encoding="utf-8"))
    if not quiet:
        kept = f"kept: the {choice['chosen']} model"
        if choice["undecided"]:
            kept = "no model predicts foreground in the target; the source model was kept"
        print("\n".join([kept, *(f"    {reason}" for reason in choice["reasons"]), *_scores(model)]))
        print(f"{model}\nnext: cryovox find TOMOGRAM --model {model} --out RESULTS")
    model_warnings(model)
    return 1 if choice["undecided"] else 0


def by_strategy(name: str) -> Callable[..., int]:
    """The command of a strategy, by its task."""
    strategy, settings = facts(name), {"config": train_config(name)()}
    if strategy.task == "supervised":
        return with_settings(supervised, settings)
    description = f"{strategy.summary}.\n\n{DESCRIPTIONS[strategy.task]}"
    if strategy.task == "domain adaptation":
        return with_settings(adapted, settings, description=description)
    names = {"data": "source"} if strategy.task == "domain generalization" else {}
    return with_settings(supervised, settings, description=description, option_names=names)
