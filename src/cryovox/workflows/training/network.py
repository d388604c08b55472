"""The network of a training: built, started from another, frozen in part, and described."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryovox.core.errors import RequestError
from cryovox.models import activation, build, options
from cryovox.models.card import Card, model_file
from cryovox.workflows.config import NetworkConfig
from cryovox.workflows.manifest import sha256

if TYPE_CHECKING:
    from torch import nn

    from cryovox.workflows.training.data import TrainingData


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
    from cryovox.models.checkpoint import load_pretrained
    from cryovox.models.freezing import freeze

    out_channels = species + (activation(config.model, chosen) == "softmax")
    network = build(config.model, chosen, 1, out_channels)
    told: dict[str, Any] = {}
    if config.start is not None:
        start = model_file(config.start)
        started = load_pretrained(network, start)
        told = {
            "model": start.name,
            "sha256": sha256(start),
            "weights_taken": started.copied,
            "weights": started.total,
            "new": list(started.missing_keys),
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
    patch = wanted or data.patch_size(network)
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
