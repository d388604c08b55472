"""Networks to and from one file, weights and card together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.models import build
from cryovox.models.card import FORMAT, Card, model_file, read_card


def save_model(path: Path, network: nn.Module, card: Card) -> None:
    """Write weights and card, whole or not at all; the same network and card give the same bytes.

    The header has one entry: safetensors writes several in an order that changes from call to call.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    about = json.dumps({"format": FORMAT} | card.model_dump(mode="json"))
    write_tensors(path, weights, {"cryovox": about})


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    The bytes are written here, since `save_file` makes files that only their owner can read, leaves
    temporary files of its own when it is killed, and hides what the disk says.
    """
    with replacing(path) as beside:
        beside.write_bytes(save(tensors, about))


def load_model(path: Path) -> tuple[nn.Module, Card]:
    """Build the network that the card describes and give it its weights, on the CPU, in eval mode."""
    path = model_file(path)
    card = read_card(path)
    network = build(card.network, card.options, card.in_channels, card.out_channels)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        told = f"weights do not fit the card: {str(error)[:300]}"
        raise RequestError(
            path, told, "the file is damaged or was made by another version; train it again"
        ) from None
    return network.eval(), card


def update_card(path: Path, changes: Mapping[str, Any]) -> Card:
    """Change the card of a model file, and leave the weights; gives the card."""
    network, card = load_model(path)
    changed = card.model_copy(update=dict(changes))
    if changed != card:
        save_model(path, network, changed)
    return changed


@dataclass(frozen=True)
class PretrainedWeights:
    """What a network took over from another.

    Attributes
    ----------
    taken, total
        Numbers taken over, and numbers that the network has.
    fresh
        Names of the weights that were not taken, such as a head for other classes.
    """

    taken: int
    total: int
    fresh: tuple[str, ...]


def load_pretrained(network: nn.Module, path: Path) -> PretrainedWeights:
    """Copy the weights of *path* wherever name and shape agree; refused where that is less than half."""
    path = model_file(path)
    card = read_card(path)
    try:
        given = load_file(path)
    except SafetensorError as error:
        told = f"its weights cannot be read ({str(error)[:200]})"
        raise RequestError(path, told, "the file is damaged; copy it again") from None
    own = network.state_dict()
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    taken, total = (sum(v.numel() for v in some.values()) for some in (fitting, own))
    fresh = tuple(k for k in own if k not in fitting)
    if 2 * taken < total:
        told = (
            f"{card.network} shares {_share(taken, total)} with the network; {_misfit(fresh[0], own, given)}"
        )
        raise RequestError(path, told, "start from a model of the same --model, --size and options")
    network.load_state_dict(own | fitting)
    return PretrainedWeights(taken, total, fresh)


def _share(taken: int, total: int) -> str:
    return "no weight" if not taken else f"only {100 * taken / total:.1f} % of the weights"


def _misfit(name: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    if name not in given:
        return f"{name} is not there"
    return f"{name} has shape {tuple(given[name].shape)} there and {tuple(own[name].shape)} here"
