"""Train on a labelled source, adapt to unlabelled tomograms, and keep the better model of the two."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.core.atomic import replacing
from cryovox.core.config import to_yaml
from cryovox.core.durations import seconds
from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress, portion
from cryovox.data.patches import TargetSpec
from cryovox.data.sampling import SamplingConfig
from cryovox.models.card import model_file, read_card
from cryovox.training.config import LoopConfig
from cryovox.workflows.config import AdaptConfig, TrainConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.training.data import TrainingData, resolve
from cryovox.workflows.training.network import describe, make, settle
from cryovox.workflows.training.run import Job, fabric_of, tiles_of
from cryovox.workflows.training.run_folder import check_settings, prepare_folder
from cryovox.workflows.training.select import Judge
from cryovox.workflows.training.target import TargetData, open_target
from cryovox.workflows.training.time_budget import TimeBudget, forward_seconds
from cryovox.workflows.training.train import train_supervised

if TYPE_CHECKING:
    from cryovox.models.card import Card

ANEW = 7919  # added to the seed of the second stage, so that it does not see the first one's batches again


def train_adapted(  # noqa: PLR0913 (the options of a command)
    source: Path | str | TrainingData,
    targets: Sequence[Path | str],
    out: Path,
    config: AdaptConfig,
    *,
    device: Device = "auto",
    devices: int = 1,
    overwrite: bool = False,
    mask: Path | None = None,
    on_message: Callable[[str], None] = lambda text: None,
    on_progress: ProgressCallback = no_progress,
) -> Path:
    """Learn the source, adapt to the target, choose; goes on with an interrupted run.

    Parameters
    ----------
    source
        As the data of :func:`cryovox.workflows.training.train.train_supervised`.
    targets
        Tomograms, folders, patterns, datasets, or one subtomogram set. Their labels are not looked at.
    out
        `source/` and `adapted/` are run folders; `model.safetensors` is the better model of the two,
        `choice.json` and `report.html` say why.
    config
        By the strategy whose `adapt_settings` it is of. Its `loop.max_time` bounds all of this.
    mask
        Mask of the targets, or folder of masks named after them: patches are drawn inside.
    on_message
        Takes the held-out score after each validation, in words.
    on_progress
        Receives the share of the training, and then of the comparison of both models, that is done.

    Returns
    -------
    Path
        Of the model file that was chosen.
    """
    budget = _budget(config)
    settle(config.network)
    if not overwrite:
        check_settings(out, config)
    data = source if isinstance(source, TrainingData) else resolve(source, config.validation, config.sets)
    screen = Screen(on_progress, on_message)
    run = _Run(data, out, config, device, devices, overwrite, screen)
    card, each = run.card()
    target = open_target(targets, card, config.stages.target_contrast, mask)
    inputs = {"source": data.inputs(), "target": target.inputs()}
    prepare_folder(out, to_yaml(config), inputs, overwrite)
    data.limit_held_out(budget.forwards(each, VALIDATION), tiles_of(card))
    before = run.learn_source()
    after = run.adapt(before, target)
    judge = Judge(data, target, config, device, budget, screen.on_progress)
    choice = judge.choose(before, after)
    judge.keep(out, choice, before, after)
    return out / "model.safetensors"


VALIDATION = 0.04
"""Share of the whole time that one validation may take."""


def _budget(config: AdaptConfig) -> TimeBudget:
    """The time for everything; without a limit where the trainings take all of it."""
    loop = config.loop if config.stages.choice_share else config.loop.model_copy(update={"max_time": None})
    return TimeBudget.of(loop)


@dataclass(frozen=True)
class Screen:
    """Where progress and messages go; see :func:`train_adapted`."""

    on_progress: ProgressCallback
    on_message: Callable[[str], None]


@dataclass
class _Run:
    """What all stages need."""

    data: TrainingData
    out: Path
    config: AdaptConfig
    device: Device
    devices: int
    overwrite: bool
    screen: Screen

    def card(self) -> tuple[Card, float]:
        """Of the network, before it is trained, and the seconds that it takes for a patch.

        A network that the strategy cannot adapt is refused.
        """
        from cryovox.training.strategies import STRATEGIES

        config = self.config
        made = make(config.network, settle(config.network), len(self.data.species))
        card = describe(made, self.data, config.patches.patch)
        own = getattr(config, "own")  # noqa: B009
        if config.network.start is not None:
            _check_species(config.network.start, card)
        strategy = STRATEGIES[config.strategy](made.network, own, made.name, config.supervised)
        strategy.setup(card)  # both refuse what misfits
        if config.loop.max_time is None:
            return card, 1.0
        processor = config.loop.clock == "processor"
        device = choose_device(self.device)
        return card, forward_seconds(made.network, card.patch, device, processor=processor)

    def learn_source(self) -> Path:
        """Train on the source alone, or take the model that was trained already."""
        folder = self.out / "source"
        if self.config.network.start is not None:
            folder.mkdir(exist_ok=True)
            with replacing(folder / "model.safetensors") as beside:
                shutil.copyfile(model_file(self.config.network.start), beside)
            return folder / "model.safetensors"
        config = TrainConfig(**_shared(self.config, self.config.stages.source_share))
        return train_supervised(
            self.data,
            folder,
            config,
            device=self.device,
            devices=self.devices,
            overwrite=self.overwrite,
            on_message=lambda text: self.screen.on_message(f"source: {text}"),
            on_progress=portion(self.screen.on_progress, 0, 0.5),
        )

    def adapt(self, start: Path, target: TargetData) -> Path:
        """Train on both, from the source model."""
        import torch

        from cryovox.training.strategies import STRATEGIES

        config, folder = self._second_stage(start), self.out / "adapted"
        if not self.overwrite:
            check_settings(folder, config)
        torch.manual_seed(config.seed)
        made = make(config.network, settle(config.network), len(self.data.species))
        card = describe(made, self.data, config.patches.patch)
        spec = TargetSpec(card.kind, card.output_stride)
        self.data.check(spec)
        own = getattr(config, "own")  # noqa: B009 (settings of a strategy are made when they are asked for)
        strategy = STRATEGIES[config.strategy](made.network, own, made.name, config.supervised)
        strategy.setup(card)
        prepare_folder(
            folder, to_yaml(config), {"start": made.start, "target": target.inputs()}, self.overwrite
        )
        fabric = fabric_of(choose_device(self.device), self.devices, config.loop)
        tiles, seed = tiles_of(card), (config.seed + ANEW, fabric.global_rank)
        job = Job(
            config.strategy,
            config,
            config.loop,
            config.seed,
            card,
            folder,
            validate=lambda network: self.data.validate(network, spec, tiles),
            facts={"data": self.data.name, "start": made.start},
            blobs=self.data.blob_figures(spec, tiles),
            on_message=lambda text: self.screen.on_message(f"source, after adaptation: {text}"),
            on_progress=portion(self.screen.on_progress, 0.5, 1),
        )
        streams = self._streams(strategy, target, spec, card.patch, seed)

        return job.run(strategy, streams, fabric)

    def _second_stage(self, start: Path) -> AdaptConfig:
        """Settings of the adaptation: the rest of the budget, from the source model, nothing selected."""
        share = 1.0 if self.config.network.start is not None else 1 - self.config.stages.source_share
        changed = _shared(self.config, share)
        loop = changed["loop"].model_copy(update={"keep": "last", "patience": 1_000_000})
        network = self.config.network.model_copy(update={"start": start.resolve()})
        return self.config.model_copy(update={"loop": loop, "network": network})

    def _streams(
        self, strategy: Any, target: TargetData, spec: TargetSpec, patch_size: int, seed: tuple[int, int]
    ) -> Mapping[str, Any]:
        from cryovox.data.unlabelled import RepeatedBatches

        config = self.config
        draw = _draw(spec, patch_size, config.loop.batch, seed, config, choose_device(self.device))
        found = {"labelled": self.data.stream(draw), "target": target.stream(draw)}
        if "noise" in strategy.required_streams:
            own = strategy.config
            sampled = _draw(spec, patch_size, own.sampled, (seed[0] + 1, seed[1]), config)
            found["noise"] = RepeatedBatches(target.stream(sampled), own.redraw)
        return {name: found[name] for name in strategy.required_streams}


def _check_species(start: Path, card: Card) -> None:
    """A model that is to stand for the source knows the species of the source, in their order."""
    known, wanted = ([s.name for s in c.species] for c in (read_card(start), card))
    if known != wanted:
        told = f"knows {', '.join(known) or 'nothing'}; the source has {', '.join(wanted)}"
        raise RequestError(start, told, "leave --start out, or start from a model of the same species")


def _shared(config: AdaptConfig, share: float) -> dict[str, Any]:
    """The settings of a plain training, with so much of the budget."""
    found = {name: getattr(config, name) for name in TrainConfig.model_fields}
    loop: LoopConfig = config.loop
    left = share * (1 - config.stages.choice_share)
    time = None if loop.max_time is None else f"{left * seconds(loop.max_time):g}s"
    steps = max(1, round(share * loop.steps))
    return found | {"loop": loop.model_copy(update={"steps": steps, "max_time": time})}


def _draw(
    spec: TargetSpec,
    patch_size: int,
    batch: int,
    seed: tuple[int, int],
    config: AdaptConfig,
    device: str = "cpu",
) -> SamplingConfig:
    """Draws with the settings of the training."""
    return SamplingConfig(spec, patch_size, batch, config.patches, config.augment, seed, device)
