"""What a training starts from: the network, its card, and the strategy that trains it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.core.errors import RequestError
from cryovox.data.patches import TargetSpec
from cryovox.models import activation, build, options
from cryovox.models.card import Card, model_file, read_card
from cryovox.workflows.config import NetworkConfig, TrainConfig
from cryovox.workflows.manifest import sha256
from cryovox.workflows.training.teacher import size_notes, student_card, teacher_facts, teacher_of

if TYPE_CHECKING:
    from torch import nn

    from cryovox.training.strategies.base import Strategy
    from cryovox.workflows.training.data import TrainingData


NOTHING_UNLABELED = (
    "the dataset says of all tomograms that every particle is picked, so only the labels are used. If not"
    " every particle is picked, write `exhaustive: false` in dataset.yaml"
)


@dataclass(frozen=True)
class Prepared:
    """A strategy with its network, ready to be trained.

    Attributes
    ----------
    network
        Trained in place.
    strategy
        Holds the network.
    card
        What the model file will say, but for the results of the training.
    start
        Facts on the model whose weights the network starts with; empty without one.
    teacher
        Facts on the model whose scores a student learns; empty without one.
    """

    network: nn.Module
    strategy: Strategy
    card: Card
    start: dict[str, Any]
    teacher: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> TargetSpec:
        """What the network predicts."""
        return TargetSpec(self.card.kind, self.card.output_stride)

    def start_from(self, path: Path) -> None:
        """Load weights of a model file into the network, and into the copies that the strategy has of it."""
        self.start.update(load_start(self.network, path))
        self.strategy.reset_copies()


def prepare_training(
    config: TrainConfig, data: TrainingData, on_warning: Callable[[str], None] = lambda text: None
) -> Prepared:
    """Build network and strategy from the seed; refuse what does not fit together."""
    import torch

    from cryovox.training.strategies import STRATEGIES

    torch.manual_seed(config.seed)
    network, start = build_network(config.network, len(data.species))
    card = make_card(network, config, data)
    strategy_class = STRATEGIES[config.strategy]
    data.check(TargetSpec(card.kind, card.output_stride), unlabeled=strategy_class.task == "semi-supervised")
    extended = () if strategy_class.task == "supervised" else (config.supervised,)
    strategy = strategy_class(network, config.strategy_config, config.network.model, *extended)
    if config.loop.batch < strategy.min_batch_size:
        message = f"{config.strategy} mixes each patch with another, and there is a single one"
        raise RequestError("--batch", message, f"choose {strategy.min_batch_size} or more")
    if strategy.task == "semi-supervised" and not data.unsearched:
        strategy.required_streams = ("labeled",)
        on_warning(NOTHING_UNLABELED)
    teacher: dict[str, Any] = {}
    if strategy.task == "distillation":
        strategy.required_streams = ("labeled",) * data.annotated + ("unlabeled",) * bool(data.unsearched)
        path = teacher_of(config)
        card, teacher = student_card(card, read_card(path), data), teacher_facts(path)
    for note in (*data.notes, *(size_notes(network) if teacher else ())):
        on_warning(note)
    strategy.setup(card)
    return Prepared(network, strategy, card, start, teacher)


def network_options(config: NetworkConfig) -> dict[str, Any]:
    """Options of the network; invalid settings are refused before anything is read."""
    if config.freeze != "none" and config.start is None:
        message = f"{config.freeze} would keep random weights"
        raise RequestError("--freeze", message, "name a model to start from with --start")
    return options(config.model, config.size, **config.options)


def build_network(config: NetworkConfig, species: int) -> tuple[nn.Module, dict[str, Any]]:
    """Build a network with random weights or those of a model file.

    Returns
    -------
    network
    start
        Facts on the model file; empty without one.
    """
    from cryovox.models.freezing import freeze

    chosen = network_options(config)
    out_channels = _out_channels(config, species)
    network = build(config.model, chosen, 1, out_channels)
    if config.start is None:
        return network, {}
    start = load_start(network, config.start)
    if config.freeze != "none":
        frozen = freeze(network, config.freeze, config.model, chosen, 1, out_channels)
        start |= {"freeze": config.freeze, "weights_frozen": frozen}
    return network, start


def load_start(network: nn.Module, path: Path) -> dict[str, Any]:
    """Load weights of a model file; returns facts on the file."""
    from cryovox.models.checkpoint import load_pretrained

    path = model_file(path)
    loaded = load_pretrained(network, path)
    return {
        "model": path.name,
        "sha256": sha256(path),
        "weights_taken": loaded.copied,
        "weights": loaded.total,
        "new": list(loaded.missing_keys),
    }


def _out_channels(config: NetworkConfig, species: int) -> int:
    return species + (activation(config.model, network_options(config)) == "softmax")


def make_card(network: Any, config: TrainConfig, data: TrainingData) -> Card:
    """The card of a network on the data; the patch size is checked."""
    name, patch = config.network.model, config.patches.patch or data.patch_size(network)
    if getattr(network, "fixed_patch", False) and patch != network.patch:
        message = f"{name} works on patches of {network.patch} voxels only, not {patch}"
        raise RequestError("--patch", message, "leave --patch out")
    stride = int(getattr(network, "stride", 1))
    if patch % stride:
        message = f"a patch of {patch} voxels does not fit {name}"
        remedy = f"use a multiple of {stride}, such as {-(-patch // stride) * stride}"
        raise RequestError("--patch", message, remedy)
    return Card(
        network=name,
        options=network_options(config.network),
        out_channels=_out_channels(config.network, len(data.species)),
        activation=network.activation,
        kind=network.kind,
        output_stride=network.output_stride,
        patch=patch,
        species=data.species,
        voxel_size=data.voxel_size,
        contrast=data.contrast,
        normalisation=data.normalization,
        whitened=data.whitened,
    )
