"""Train a network on a dataset and leave a run folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from cryovox.core.atomic import replacing
from cryovox.core.config import Config, to_yaml
from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.data.augment import AugmentConfig
from cryovox.data.patches import PatchConfig, TargetSpec
from cryovox.data.sources import Source, hold_out, load_sources
from cryovox.formats import dataset as dataset_files
from cryovox.models import MODELS, build, options
from cryovox.models.card import Card
from cryovox.training.loop import LoopConfig
from cryovox.training.strategies.supervised import SupervisedConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.manifest import versions
from cryovox.workflows.run_folder import check_settings, fingerprint, prepare_folder

if TYPE_CHECKING:
    from torch import nn

    from cryovox.inference.stream import TilePlan
    from cryovox.training.state import Progress

Told = Callable[[int, int, float, float], None]
"""Takes steps done, steps in all, share done and the current loss."""


class NetworkConfig(Config):
    """Which network, and how large."""

    model: str = "heatmap-unet"
    """Network; `cryovox models` lists them."""
    size: str = "s"
    """Row of the table of sizes: `s` trains on two cores, `paper` is as published."""
    options: dict[str, Any] = Field({})
    """Sizes of the network to change, in YAML only."""
    start: Path | None = None
    """Model file whose weights to start from; a head that does not fit is new."""


class HeldOutConfig(Config):
    """What is held out for validation where no entry of the dataset has the split `val`."""

    held_out: float = Field(0.2, gt=0, lt=1)
    """Share of the annotated particles of each region, cut off across its longer axis of y and x."""


class TrainConfig(Config):
    """Everything that a training depends on, but for the data and the device."""

    network: NetworkConfig = NetworkConfig()
    supervised: SupervisedConfig = SupervisedConfig()
    loop: LoopConfig = LoopConfig()
    patches: PatchConfig = PatchConfig()
    augment: AugmentConfig = AugmentConfig()
    validation: HeldOutConfig = HeldOutConfig()
    seed: int = 0
    """Seed of everything random."""


def train_supervised(
    data: Path,
    out: Path,
    config: TrainConfig,
    *,
    device: Device = "auto",
    devices: int = 1,
    overwrite: bool = False,
    told: Told = lambda done, total, share, loss: None,
) -> Path:
    """Train, or go on with an interrupted training; gives the model file.

    Parameters
    ----------
    data
        Folder with `dataset.yaml`, or that file.
    out
        Run folder: `model.safetensors`, `metrics.csv`, `config.yaml`, `manifest.json`.
    config
        What to do. A run folder made with another config is refused unless *overwrite*.
    device, devices
        Where to compute; with several devices each process (of torchrun or SLURM) calls this.
    told
        Progress.
    """
    import torch
    from lightning_fabric import Fabric

    dataset = dataset_files.read(data)
    network_options = options(config.network.model, config.network.size, **config.network.options)
    accelerator = choose_device(device)
    if not overwrite:
        check_settings(out, to_yaml(config))
    training, held = _regions(dataset, config)
    torch.manual_seed(config.seed)
    species = len(dataset.species)
    kind = MODELS[config.network.model]
    out_channels = species + (kind.activation == "softmax")
    network = build(config.network.model, network_options, 1, out_channels)
    if config.network.start is not None:
        _start(network, config.network.start)
    card = _card(dataset, config, network, network_options, out_channels, training)
    prepare_folder(out, to_yaml(config), fingerprint(dataset), overwrite)
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        precision=config.loop.precision,
        strategy="ddp" if devices > 1 else "auto",
    )
    fabric.launch()
    job = _Job(config, dataset, card, network, training, held, out, data)
    progress = job.run(fabric, told)
    job.finish(progress)
    return out / "model.safetensors"


class _Job:
    """One training: what the loop calls back."""

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        card: Card,
        network: nn.Module,
        training: list[Source],
        held: list[Source],
        out: Path,
        data: Path,
    ) -> None:
        self.config, self.dataset, self.card, self.network = config, dataset, card, network
        self.training, self.held, self.out, self.data = training, held, out, data
        self.spec = TargetSpec(card.kind, card.output_stride)

    def run(self, fabric: Any, told: Told) -> Progress:
        from cryovox.data.streams import PatchStream
        from cryovox.training.logbook import Logbook
        from cryovox.training.loop import fit
        from cryovox.training.strategies import STRATEGIES

        config = self.config
        seed = (config.seed, fabric.global_rank)
        stream = PatchStream(
            self.training, self.spec, self.card.patch, config.loop.batch, config.patches, config.augment, seed
        )
        since = _step_so_far(self.out)
        logbook = Logbook(self.out / "metrics.csv" if fabric.global_rank == 0 else None, since=since)
        strategy = STRATEGIES["supervised"](self.network, config.supervised, config.network.model)

        def tell(now: Progress, loss: float) -> None:
            from cryovox.training.loop import share

            told(now.step, config.loop.steps, share(now, config.loop), loss)

        try:
            with _refusals_of_the_disk(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning_fabric.*")
                return fit(
                    strategy,
                    {"labelled": stream},
                    config.loop,
                    fabric,
                    logbook,
                    self.out,
                    self.validate,
                    self.keep,
                    config.seed,
                    tell,
                )
        finally:
            stream.close()

    def tiles(self) -> TilePlan:
        from cryovox.inference.stream import TilePlan

        card = self.card
        return TilePlan(card.patch, card.overlap, card.output_stride, card.activation, batch=4)

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        from cryovox.training.validate import validate

        return validate(network, self.held, self.spec, self.tiles())

    def keep(self, network: nn.Module, metrics: Mapping[str, float], now: Progress) -> None:
        from cryovox.models.checkpoint import save_model

        thresholds = {
            n.removeprefix("threshold/"): v for n, v in metrics.items() if n.startswith("threshold/")
        }
        held_out = {n: round(v, 5) for n, v in metrics.items() if not n.startswith("threshold/")}
        told = {
            "strategy": "supervised",
            "steps": now.step,
            "seconds": round(now.seconds, 1),
            "held_out": held_out,
            "seed": self.config.seed,
            "config": self.config.model_dump(mode="json"),
            "versions": versions(),
        }
        card = self.card.model_copy(update={"thresholds": thresholds, "training": told})
        save_model(self.out / "model.safetensors", network, card)

    def finish(self, progress: Progress) -> None:
        import json

        noted = json.loads((self.out / "manifest.json").read_text(encoding="utf-8"))
        told = {
            "command": "train supervised",
            "data": str(self.data),
            "inputs": noted["inputs"],
            "config": self.config.model_dump(mode="json"),
            "versions": versions(),
            "steps": progress.step,
            "seconds": round(progress.seconds, 1),
            "best_step": progress.best_step,
            "best_score": progress.best,
        }
        with replacing(self.out / "manifest.json") as beside:
            beside.write_text(json.dumps(told, indent=1), encoding="utf-8")


def _start(network: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError

    from cryovox.models.checkpoint import start_from

    try:
        start_from(network, path)
    except SafetensorError as error:
        told = f"its weights cannot be read ({str(error)[:200]})"
        raise RequestError(path, told, "the file is damaged; copy it again") from None


@contextmanager
def _refusals_of_the_disk() -> Iterator[None]:
    """Turn what safetensors says of a full disk into the OSError that it is."""
    import os
    import re

    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from None


def _step_so_far(out: Path) -> int:
    import json

    from safetensors import safe_open

    from cryovox.training.state import NAME

    path = out / NAME
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        return int(json.loads(file.metadata()["progress"])["step"])


def _regions(dataset: Dataset, config: TrainConfig) -> tuple[list[Source], list[Source]]:
    """Sources to learn from and held-out sources."""
    training = load_sources(dataset, dataset.split("train"))
    if not training:
        raise RequestError("dataset.yaml", "has no entry with split: train", "add `entries:` to train on")
    held = load_sources(dataset, dataset.split("val"))
    if not held:
        training, held = hold_out(training, config.validation.held_out)
    if not any(len(s.truth()) for s in training):
        raise RequestError(
            "dataset.yaml", "no annotated particle lies in the training regions", "check boxes and picks"
        )
    return training, held


def _card(
    dataset: Dataset,
    config: TrainConfig,
    network: nn.Module,
    network_options: dict[str, Any],
    out_channels: int,
    training: list[Source],
) -> Card:
    patch = config.patches.patch or int(getattr(network, "patch", 32))
    if getattr(network, "fixed_patch", False) and patch != network.patch:
        told = f"{config.network.model} works on patches of {network.patch} voxels only, not {patch}"
        raise RequestError("--patch", told, "leave --patch out")
    stride = int(getattr(network, "stride", 1))
    if patch % stride:
        told = f"a patch of {patch} voxels does not fit {config.network.model}"
        raise RequestError(
            "--patch", told, f"use a multiple of {stride}, such as {-(-patch // stride) * stride}"
        )
    return Card(
        network=config.network.model,
        options=network_options,
        out_channels=out_channels,
        activation=network.activation,
        kind=network.kind,
        output_stride=network.output_stride,
        patch=patch,
        species=dataset.species,
        voxel_size=dataset.voxel_size,
        contrast="dark" if training[0].normalise.sign < 0 else "bright",
    )
