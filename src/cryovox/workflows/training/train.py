"""Train a network with labels and leave a run folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cryovox.core.config import to_yaml
from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.data.patches import TargetSpec
from cryovox.data.sampling import SamplingConfig
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.training.data import TrainingData, resolve
from cryovox.workflows.training.network import describe, make, settle
from cryovox.workflows.training.run import Job, fabric_of, tiles_of
from cryovox.workflows.training.run_folder import check_settings, prepare_folder

SEARCHED = (
    "nothing is unlabelled: the dataset says of all tomograms that every particle is picked, so the labels"
    " alone teach. If not every particle is picked, say `exhaustive: false` in dataset.yaml"
)
ELSEWHERE = 104_729  # added to the seed of unlabelled patches, which lie where labelled ones do not


def train_supervised(  # noqa: PLR0913 (the options of a command)
    data: Path | str | TrainingData,
    out: Path,
    config: TrainConfig,
    *,
    device: Device = "auto",
    devices: int = 1,
    overwrite: bool = False,
    mask: Path | None = None,
    on_warning: Callable[[str], None] = lambda text: None,
    on_message: Callable[[str], None] = lambda text: None,
    on_progress: ProgressCallback = no_progress,
) -> Path:
    """Train, or go on with an interrupted training; gives the model file.

    Parameters
    ----------
    data
        Folder with `dataset.yaml`, or that file; a subtomogram set; `stream:PRESET` or
        `stream:FILE.yaml`; or data that are open already.
    out
        Run folder: `model.safetensors`, `metrics.csv`, `config.yaml`, `manifest.json`.
    config
        What to do, by the strategy whose `settings_of` it is of. A run folder made with another config
        is refused unless *overwrite*.
    device, devices
        Where to compute; with several devices each process (of torchrun or SLURM) calls this.
    mask
        Mask, or folder of masks named after the tomograms, in place of those of the dataset.
    on_warning
        What to know before the training has taken its time.
    on_message
        Takes the held-out score after each validation, in words.
    on_progress
        Receives the share of the training that is done; the note holds the step and the loss.
    """
    import torch

    from cryovox.training.strategies import STRATEGIES

    chosen, accelerator = settle(config.network), choose_device(device)
    if not overwrite:
        check_settings(out, config)
    kind = STRATEGIES[config.strategy]
    semi = kind.task == "semi-supervised"
    held = config.validation, config.sets
    source = data if isinstance(data, TrainingData) else resolve(data, *held, semi=semi, mask=mask)
    torch.manual_seed(config.seed)
    made = make(config.network, chosen, len(source.species))
    card = describe(made, source, config.patches.patch)
    spec = TargetSpec(card.kind, card.output_stride)
    source.check(spec, semi=semi)
    own = config.supervised if config.strategy == "supervised" else getattr(config, "own")  # noqa: B009
    beside = (config.supervised,) if kind.task != "supervised" else ()
    strategy = kind(made.network, own, made.name, *beside)
    strategy.setup(card)
    if semi and not source.unsearched:  # the labels tell all
        strategy.required_streams, semi = ("labelled",), False
        on_warning(SEARCHED)
    if config.loop.batch < strategy.min_batch_size:
        alone = f"{config.strategy} mixes each patch with another, and there is a single one"
        raise RequestError("--batch", alone, f"choose {strategy.min_batch_size} or more")
    prepare_folder(out, to_yaml(config), source.inputs(), overwrite)
    fabric = fabric_of(accelerator, devices, config.loop)
    tiles = tiles_of(card)
    job = Job(
        config.strategy,
        config,
        config.loop,
        config.seed,
        card,
        out,
        validate=lambda network: source.validate(network, spec, tiles),
        facts={"data": source.name} | ({"start": made.start} if made.start else {}),
        blobs=source.blob_figures(spec, tiles),
        picks=source.picks() or 0,
        passes=_passes(config, source, fabric.world_size),
        on_message=on_message,
        on_progress=on_progress,
    )
    draw = SamplingConfig(
        spec,
        card.patch,
        config.loop.batch,
        config.patches,
        config.augment,
        (config.seed, fabric.global_rank),
        accelerator,
    )
    streams = {"labelled": source.stream(draw)}
    if semi:
        anew = replace(draw, seed=(config.seed + ELSEWHERE, fabric.global_rank))
        streams["unlabelled"] = source.unlabelled(anew)
    return job.run(strategy, streams, fabric)


def _passes(config: TrainConfig, source: TrainingData, devices: int) -> Callable[[int], float | None]:
    """How often each pick was shown on average after so many steps; None where a network was started."""
    picks = source.picks()
    if not picks or config.network.start is not None:
        return lambda steps: None
    shown = config.loop.batch * config.loop.accumulate * devices
    near = config.patches.foreground if source.places else 1.0
    return lambda steps: steps * shown * near / picks
