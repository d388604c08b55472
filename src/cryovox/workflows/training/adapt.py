"""Train on a labeled source, adapt to unlabeled tomograms, and keep the better model of the two."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Any

from cryovox.core.atomic import replacing
from cryovox.core.config import to_yaml
from cryovox.core.durations import seconds
from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress, portion
from cryovox.models.card import Card, model_file, read_card
from cryovox.training.config import LoopConfig
from cryovox.workflows.config import AdaptConfig, TrainConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.training.data import TrainingData
from cryovox.workflows.training.network import Prepared, network_options, prepare_training
from cryovox.workflows.training.open_data import open_training_data
from cryovox.workflows.training.run import TrainingRun, train, validation_tiles
from cryovox.workflows.training.run_folder import check_settings, prepare_folder
from cryovox.workflows.training.select import ModelSelector
from cryovox.workflows.training.target import TargetData, open_target
from cryovox.workflows.training.time_budget import TimeBudget, forward_seconds

SECOND_STAGE_SEED = 7919
"""Added to the seed of the second stage, so that its batches are not those of the first."""
VALIDATION_SHARE = 0.04
"""Fraction of the whole time that one validation may take."""


def adapt(  # noqa: PLR0913 (the options of a command)
    source: Path | str | TrainingData,
    targets: Sequence[Path | str],
    out: Path,
    config: AdaptConfig[Any],
    *,
    device: Device = "auto",
    devices: int = 1,
    overwrite: bool = False,
    mask: Path | None = None,
    on_message: Callable[[str], None] = lambda text: None,
    on_progress: ProgressCallback = no_progress,
) -> Path:
    """Train on the source, adapt to the target, and select a model; continues an interrupted run.

    Parameters
    ----------
    source
        As the data of :func:`cryovox.workflows.training.run.train`.
    targets
        Tomograms, folders, patterns, datasets, or one subtomogram set. Their labels are not used.
    out
        `source/` and `adapted/` are run folders; `model.safetensors` is the better model of the two,
        `choice.json` and `report.html` give the reasons.
    config
        Settings, of the type that `cryovox.workflows.config.train_config` gives for the strategy.
        `loop.max_time` limits the whole function.
    mask
        Mask of the targets, or folder of masks named after them: patches are drawn inside.
    on_message
        Receives a message with the held-out score after each validation.
    on_progress
        Receives the completed fraction of the training, and then of the comparison of both models.

    Returns
    -------
    Path
        File of the selected model.
    """
    budget = _time_budget(config)
    network_options(config.network)
    if not overwrite:
        check_settings(out, config)
    data = open_training_data(source, config, on_progress=on_progress)
    prepared = prepare_training(config, data)
    if config.network.start is not None:
        _check_species(config.network.start, prepared.card)
    target = open_target(targets, prepared.card, config.stages.target_contrast, mask)
    inputs = {"source": data.inputs(), "target": target.inputs()}
    prepare_folder(out, to_yaml(config), inputs, overwrite)
    stages = _Stages(data, target, prepared, out, config, device, devices, overwrite, on_message, on_progress)
    max_tiles = budget.forwards(stages.forward_seconds(), VALIDATION_SHARE)
    data.limit_held_out(max_tiles, validation_tiles(prepared.card))
    before = stages.train_source()
    after = stages.adapt(before)
    selector = ModelSelector(data, target, config, device, budget, on_progress)
    choice = selector.choose(before, after)
    selector.keep(out, choice, before, after)
    return out / "model.safetensors"


def _time_budget(config: AdaptConfig[Any]) -> TimeBudget:
    """Time for everything; without a limit if the trainings may take all of it."""
    loop = config.loop if config.stages.selection_share else config.loop.model_copy(update={"max_time": None})
    return TimeBudget.of(loop)


@dataclass
class _Stages:
    """Both trainings, with what they share; see :func:`adapt`."""

    data: TrainingData
    target: TargetData
    prepared: Prepared
    out: Path
    config: AdaptConfig[Any]
    device: Device
    devices: int
    overwrite: bool
    on_message: Callable[[str], None]
    on_progress: ProgressCallback

    def forward_seconds(self) -> float:
        """Seconds that the network takes for a patch; only measured if the time is limited."""
        loop = self.config.loop
        if loop.max_time is None:
            return 1.0
        network, card = self.prepared.network, self.prepared.card
        device, processor = choose_device(self.device), loop.clock == "processor"
        return forward_seconds(network, card.patch, device, processor=processor)

    def train_source(self) -> Path:
        """Train on the source alone, or copy the model that is given instead."""
        folder = self.out / "source"
        if self.config.network.start is not None:
            folder.mkdir(exist_ok=True)
            with replacing(folder / "model.safetensors") as beside:
                shutil.copyfile(model_file(self.config.network.start), beside)
            return folder / "model.safetensors"
        config = TrainConfig(**_shared_settings(self.config, self.config.stages.source_share))
        return train(
            self.data,
            folder,
            config,
            device=self.device,
            devices=self.devices,
            overwrite=self.overwrite,
            on_message=lambda text: self.on_message(f"source: {text}"),
            on_progress=portion(self.on_progress, 0, 0.5),
        )

    def adapt(self, start: Path) -> Path:
        """Train on source and target, from the source model."""
        config, folder = self._second_stage(start), self.out / "adapted"
        if not self.overwrite:
            check_settings(folder, config)
        self.prepared.start_from(start)
        inputs = {"start": self.prepared.start, "target": self.target.inputs()}
        prepare_folder(folder, to_yaml(config), inputs, self.overwrite)
        run = TrainingRun(
            config,
            self.prepared,
            self.data,
            folder,
            self.target,
            SECOND_STAGE_SEED,
            on_message=lambda text: self.on_message(f"source, after adaptation: {text}"),
            on_progress=portion(self.on_progress, 0.5, 1),
        )
        return run.fit(choose_device(self.device), self.devices)

    def _second_stage(self, start: Path) -> AdaptConfig[Any]:
        """Settings of the second stage: the rest of the budget, from the source model, last weights kept."""
        share = 1.0 if self.config.network.start is not None else 1 - self.config.stages.source_share
        loop = _shared_settings(self.config, share)["loop"]
        loop = loop.model_copy(update={"keep": "last", "patience": 1_000_000})
        network = self.config.network.model_copy(update={"start": start.resolve()})
        return self.config.model_copy(update={"loop": loop, "network": network})


def _check_species(start: Path, card: Card) -> None:
    """Refuse a source model whose species are not those of the source, in their order."""
    of_model, of_source = ([s.name for s in c.species] for c in (read_card(start), card))
    if of_model != of_source:
        message = f"knows {', '.join(of_model) or 'nothing'}; the source has {', '.join(of_source)}"
        raise RequestError(start, message, "leave --start out, or start from a model of the same species")


def _shared_settings(config: AdaptConfig[Any], share: float) -> dict[str, Any]:
    """Settings of a training on the source, with a fraction of the budget."""
    settings = {name: getattr(config, name) for name in TrainConfig.model_fields}
    loop: LoopConfig = config.loop
    of_time = share * (1 - config.stages.selection_share)
    time = None if loop.max_time is None else f"{of_time * seconds(loop.max_time):g}s"
    steps = None if isinf(loop.max_steps) else max(1, round(share * loop.max_steps))
    return settings | {"loop": loop.model_copy(update={"steps": steps, "max_time": time})}
