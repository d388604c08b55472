"""The network of a training: built, started from another, frozen in part, and described."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
import yaml
from pydantic import Field

from cryovox.core.config import Config
from cryovox.core.errors import RequestError
from cryovox.models import activation, build, options
from cryovox.models.card import Card
from cryovox.workflows.manifest import sha256

if TYPE_CHECKING:
    from torch import nn

    from cryovox.workflows.training_data import TrainingData


def _options(words: list[str]) -> dict[str, Any]:
    try:
        found = yaml.safe_load(words[0])
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{words[0]!r} is not of the form '{{name: value}}'")
    return found


# one option for all, since the names of a network's own may be those of other settings
AS_YAML = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="YAML",
    instance_from_str=_options,
    is_instance=lambda given: isinstance(given, dict),
    str_from_instance=lambda given: [json.dumps(given)],
)


class NetworkConfig(Config):
    """Which network, how large, and what it knows already."""

    model: str = "heatmap-unet"
    """Network; `cryovox models` lists them."""
    size: str = "s"
    """Row of the table of sizes: `s` trains on two cores, `paper` is as published."""
    options: Annotated[dict[str, Any], AS_YAML] = Field({})
    """Sizes of the network to change, as YAML, such as '{widths: [8, 16]}'."""
    start: Path | None = None
    """Model file whose weights to start from, where name and shape agree; a head for other classes is
    new."""
    freeze: Literal["none", "encoder", "all-but-head"] = "none"
    """What of a started network keeps its weights and batch statistics all along; to free it later,
    start a second training from the result."""


@dataclass(frozen=True)
class Made:
    """A network and what is to be told of it."""

    network: nn.Module
    name: str
    options: dict[str, Any]
    out_channels: int
    start: dict[str, Any] = field(default_factory=dict)


def settle(config: NetworkConfig) -> dict[str, Any]:
    """Options of the network; what cannot be is refused before anything is read."""
    if config.freeze != "none" and config.start is None:
        told = f"{config.freeze} would keep weights that know nothing"
        raise RequestError("--freeze", told, "name a model to start from with --start")
    return options(config.model, config.size, **config.options)


def make(config: NetworkConfig, chosen: dict[str, Any], species: int) -> Made:
    """Build the network for so many species, from the generator of torch or from a model file."""
    from cryovox.models.checkpoint import start_from
    from cryovox.models.parts import freeze

    out_channels = species + (activation(config.model, chosen) == "softmax")
    network = build(config.model, chosen, 1, out_channels)
    told: dict[str, Any] = {}
    if config.start is not None:
        started = start_from(network, config.start)
        told = {
            "model": config.start.name,
            "sha256": sha256(config.start),
            "weights_taken": started.taken,
            "weights": started.total,
            "new": list(started.fresh),
        }
        if config.freeze != "none":
            frozen = freeze(network, config.freeze, config.model, chosen, 1, out_channels)
            told |= {"freeze": config.freeze, "weights_frozen": frozen}
    return Made(network, config.model, chosen, out_channels, told)


def describe(made: Made, data: TrainingData, wanted: int | None) -> Card:
    """The card of the network on that data.

    Parameters
    ----------
    wanted
        Edge of a patch in voxels; what suits network and data by default.
    """
    network: Any = made.network
    patch = wanted or data.side(network)
    if getattr(network, "fixed_patch", False) and patch != network.patch:
        told = f"{made.name} works on patches of {network.patch} voxels only, not {patch}"
        raise RequestError("--patch", told, "leave --patch out")
    stride = int(getattr(network, "stride", 1))
    if patch % stride:
        told = f"a patch of {patch} voxels does not fit {made.name}"
        raise RequestError(
            "--patch", told, f"use a multiple of {stride}, such as {-(-patch // stride) * stride}"
        )
    return Card(
        network=made.name,
        options=made.options,
        out_channels=made.out_channels,
        activation=network.activation,
        kind=network.kind,
        output_stride=network.output_stride,
        patch=patch,
        species=data.species,
        voxel_size=data.voxel_size,
        contrast=data.contrast,
        normalisation=data.normalisation,
    )
