"""A training, from its settings to its run folder, whatever the strategy and the data."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.core.config import to_yaml
from cryovox.core.errors import RunError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.data.sampling import SamplingConfig
from cryovox.models.card import Card
from cryovox.training.config import LoopConfig
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.manifest import Manifest, versions
from cryovox.workflows.training.data import TrainingData
from cryovox.workflows.training.network import Prepared, network_options, prepare_training
from cryovox.workflows.training.open_data import open_training_data
from cryovox.workflows.training.run_folder import check_settings, prepare_folder
from cryovox.workflows.training.streams import open_streams
from cryovox.workflows.training.target import TargetData
from cryovox.workflows.training.time_budget import call_after_forward

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

    from cryovox.inference.stream import TilePlan
    from cryovox.training.evaluation.summary import TrainingCourse
    from cryovox.training.state import Progress


def train(  # noqa: PLR0913 (the options of a command)
    data: Path | str | TrainingData,
    out: Path,
    config: TrainConfig,
    *,
    device: Device = "auto",
    devices: int = 1,
    overwrite: bool = False,
    mask: Path | None = None,
    subset: Path | None = None,
    on_warning: Callable[[str], None] = lambda text: None,
    on_message: Callable[[str], None] = lambda text: None,
    on_progress: ProgressCallback = no_progress,
) -> Path:
    """Train a network, or continue an interrupted training.

    Supervised and semi-supervised training and domain generalization; see
    :func:`cryovox.workflows.training.adapt.adapt` for domain adaptation.

    Parameters
    ----------
    data
        Folder with `dataset.yaml`, or that file; a subtomogram set; `stream:PRESET` or
        `stream:FILE.yaml`; or opened training data.
    out
        Run folder: `model.safetensors`, `metrics.csv`, `config.yaml`, `manifest.json`.
    config
        Settings, of the type that `cryovox.workflows.config.train_config` gives for the strategy. A run
        folder of other settings is refused unless *overwrite*.
    device, devices
        Where to compute; with several devices each process (of torchrun or SLURM) calls this.
    mask
        Mask, or folder of masks named after the tomograms, in place of those of the dataset.
    subset
        File with the names of the entries of the dataset to train on.
    on_warning
        Receives a problem with the request before the training starts.
    on_message
        Receives a message with the held-out score after each validation.
    on_progress
        Receives the completed fraction of the training, with the step and the loss as its note.

    Returns
    -------
    Path
        Model file.
    """
    network_options(config.network)
    accelerator = choose_device(device)
    if not overwrite:
        check_settings(out, config)
    data = open_training_data(data, config, mask, subset, on_progress)
    prepared = prepare_training(config, data, on_warning)
    prepare_folder(out, to_yaml(config), data.inputs(), overwrite)
    run = TrainingRun(config, prepared, data, out, on_message=on_message, on_progress=on_progress)
    return run.fit(accelerator, devices)


@dataclass
class TrainingRun:
    """A training in a run folder.

    Attributes
    ----------
    config
        All settings.
    prepared
        Strategy, network and card.
    data
        Provides the validation.
    out
        Run folder.
    target
        Target of an adaptation.
    seed
        Added to the seed of the settings for all batches.
    on_message
        Receives a line after each validation.
    on_progress
        Receives the fraction of the training that is done.
    """

    config: TrainConfig
    prepared: Prepared
    data: TrainingData
    out: Path
    target: TargetData | None = None
    seed: int = 0
    on_message: Callable[[str], None] = lambda text: None
    on_progress: ProgressCallback = no_progress
    _done: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.tiles = validation_tiles(self.prepared.card)
        self.blob_picker = self.data.blob_picker_metrics(self.prepared.spec, self.tiles)
        models = {"start": self.prepared.start, "teacher": self.prepared.teacher}
        self.facts = {"data": self.data.name} | {name: facts for name, facts in models.items() if facts}
        if not self.data.annotated:
            self.facts["truth"] = self.data.truth

    def fit(self, accelerator: str, devices: int) -> Path:
        """Train, or continue an interrupted training; returns the model file."""
        from cryovox.training.logbook import Logbook
        from cryovox.training.loop import fit, share
        from cryovox.training.state import progress_in

        loop, before = measured_loop(self.config, self.prepared, accelerator, devices), progress_in(self.out)
        self.facts |= {"precision": str(loop.precision)}
        fabric = launch_fabric(accelerator, devices, loop)
        self.world_size = fabric.world_size
        streams = open_streams(
            self.prepared.strategy, self.data, self.target, self._sampling(fabric, accelerator)
        )
        since = 0 if before is None else before.step
        logbook = Logbook(self.out / "metrics.csv" if fabric.global_rank == 0 else None, since=since)

        def on_step(now: Progress, loss: float) -> None:
            limit = f" of at most {loop.max_steps:.0f}" if math.isfinite(loop.max_steps) else ""
            note = f"step {now.step}{limit}  loss {loss:.3f}"
            self._done = share(now, loop)
            self.on_progress("training", self._done, note)

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning_fabric.*")
                progress = fit(
                    self.prepared.strategy,
                    streams,
                    loop,
                    fabric,
                    logbook,
                    self.out,
                    self.validate,
                    self.keep,
                    self.config.seed,
                    on_step,
                )
        except RuntimeError as error:
            if fabric.world_size == 1 or not is_lost_process(error):
                raise
            message = f"another of the {fabric.world_size} processes of the training was lost"
            remedy = "run the same command again: it continues from the last saved state"
            raise RunError(self.out, message, remedy) from error
        finally:
            for stream in streams.values():
                stream.close()
        if fabric.global_rank == 0:
            self.finish(progress, str(fabric.device))
        fabric.barrier()
        return self.out / "model.safetensors"

    def _sampling(self, fabric: Fabric, device: str) -> SamplingConfig:
        card, config = self.prepared.card, self.config
        return SamplingConfig(
            self.prepared.spec,
            card.patch,
            config.loop.batch,
            config.patches,
            config.augment,
            seed=(config.seed + self.seed, 0),
            rank=fabric.global_rank,
            world=fabric.world_size,
            device=device,
        )

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        """Metrics on held-out data, with a line on the screen."""
        from cryovox.training.evaluation.held_out import pooled_metrics
        from cryovox.training.evaluation.summary import summary_line

        def still_validating() -> None:
            self.on_progress("training", min(self._done, 0.999), "validation")

        still_validating()
        with call_after_forward(network, still_validating):
            metrics = self.data.validate(network, self.prepared.spec, self.tiles)
        if "score" in metrics:
            against = "" if self.data.annotated else f", against the {self.data.truth}"
            self.on_message(summary_line(pooled_metrics(metrics), self.blob_picker) + against)
        return metrics

    def _passes(self, steps: int) -> float | None:
        """Average number of times that each pick was shown; None where no patch is placed at a pick.

        Also None after a `--start`, and for a stream.
        """
        picks = self.data.picks()
        around_picks = self.config.patches.foreground if self.data.places else 1.0
        if not picks or not around_picks or self.config.network.start is not None:
            return None
        patches = self.config.loop.batch * self.config.loop.accumulate * self.world_size
        return steps * patches * around_picks / picks

    def _course(self, now: Progress) -> TrainingCourse:
        from cryovox.training.evaluation.held_out import cross_fit
        from cryovox.training.evaluation.summary import TrainingCourse, read_metrics_csv
        from cryovox.training.loop import finished, share

        loop = self.config.loop
        validations, losses = read_metrics_csv(self.out / "metrics.csv")
        scored = [rows for rows in validations if "score" in rows]
        return TrainingCourse(
            steps=now.step,
            warmup=loop.warmup,
            share=1.0 if finished(now, loop) else share(now, loop),
            picks=self.data.picks() or 0,
            passes=self._passes(now.step),
            losses=losses,
            metrics=cross_fit(scored, choose=loop.keep == "best"),
            blob_picker=self.blob_picker,
        )

    def keep(self, network: nn.Module, metrics: Mapping[str, float], now: Progress) -> None:
        """Write the model file."""
        from cryovox.models.checkpoint import save_model

        thresholds = {
            n.removeprefix("threshold/"): v for n, v in metrics.items() if n.startswith("threshold/")
        }
        course = self._course(now)
        training = {
            "strategy": self.config.strategy,
            "steps": now.step,
            "seconds": round(now.seconds, 1),
            **_held_out_metrics(course),
            "seed": self.config.seed,
            **self.facts,
            "config": self.config.model_dump(mode="json"),
            "versions": versions(),
        }
        update = {"thresholds": thresholds, "training": training, "warnings": self._warnings(course)}
        save_model(self.out / "model.safetensors", network, self.prepared.card.model_copy(update=update))

    def _warnings(self, course: TrainingCourse) -> tuple[str, ...]:
        """Warnings about the model: those of its data and its teacher, and those of the training."""
        return (*self.prepared.card.warnings, *course.warnings())

    def finish(self, progress: Progress, device: str) -> None:
        """Complete the manifest, and the card with the results and the calibration of the whole training."""
        from cryovox.models.checkpoint import load_model, update_card

        course, model = self._course(progress), self.out / "model.safetensors"
        network, card = load_model(model)
        fields = {"training": card.training | _held_out_metrics(course), "warnings": self._warnings(course)}
        if "best_step" not in Manifest(self.out, {}).sections:  # else this training was completed before
            self.on_progress("training", 0.999, "calibration")
            spec = self.prepared.spec
            fields |= self.data.calibration(network.to(device), spec, self.tiles, card.thresholds)
        update_card(model, fields)
        has_score = math.isfinite(progress.best)
        facts = {
            "command": f"train {self.config.strategy}",
            **self.facts,
            "config": self.config.model_dump(mode="json"),
            "versions": versions(),
            "steps": progress.step,
            "seconds": round(progress.seconds, 1),
            "best_step": progress.best_step if has_score else None,
            "best_score": progress.best if has_score else None,
        }
        Manifest(self.out, facts).write()


def _held_out_metrics(course: TrainingCourse) -> dict[str, Any]:
    """Held-out figures for the card, beside those of a DoG picker."""
    return {
        "held_out": {name: round(value, 5) for name, value in course.metrics.items()},
        "blob_picker": {name: round(value, 5) for name, value in course.blob_picker.items()},
    }


def validation_tiles(card: Card) -> TilePlan:
    """Tiles for a validation."""
    from cryovox.inference.stream import TilePlan

    return TilePlan(card.patch, card.overlap, card.output_stride, card.activation, batch=4)


def is_lost_process(error: RuntimeError) -> bool:
    """Whether processes of a training can no longer exchange gradients."""
    words = ("gloo", "nccl", "connection closed", "connection reset", "socket")
    kinds = ("DistBackendError", "DistNetworkError", "DistStoreError")
    return type(error).__name__ in kinds or any(word in str(error).lower() for word in words)


def count_nodes(devices: int, environment: Mapping[str, str]) -> int:
    """Machines on which torchrun, or srun with a task per device, has started this training.

    Examples
    --------
    >>> count_nodes(4, {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "8"})
    2
    >>> count_nodes(4, {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0"})
    2
    >>> count_nodes(4, {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "1"})
    1
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return max(1, int(environment.get("WORLD_SIZE", "1")) // devices)
    if "SLURM_STEP_ID" in environment:
        return max(1, int(environment.get("SLURM_NTASKS", "1")) // devices)
    return 1


def measured_loop(config: TrainConfig, prepared: Prepared, accelerator: str, devices: int) -> LoopConfig:
    """Settings of the loop with the precision that is used.

    Several processes must agree, so bfloat16 is chosen for several GPUs without a measurement.
    """
    from cryovox.training.precision import training_precision

    loop = config.loop
    precision = loop.precision_of(config.strategy)
    if precision == "auto" and devices * count_nodes(devices, os.environ) > 1:
        precision = "bf16-mixed" if accelerator == "cuda" else "32-true"
    elif precision == "auto":
        precision = training_precision(prepared.network, prepared.card, loop.batch, accelerator)
    return loop.model_copy(update={"precision": precision})


def launch_fabric(accelerator: str, devices: int, loop: LoopConfig) -> Fabric:
    """Devices and precision of a training, launched."""
    from lightning_fabric import Fabric

    nodes = count_nodes(devices, os.environ)
    strategy = "ddp" if devices * nodes > 1 else "auto"
    fabric = Fabric(
        accelerator=accelerator, devices=devices, num_nodes=nodes, precision=loop.precision, strategy=strategy
    )
    fabric.launch()
    return fabric
