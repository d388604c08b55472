"""Networks to and from one file, weights and card together."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.models import build
from cryovox.models.card import FORMAT, Card, read_card


def save_model(path: Path, network: nn.Module, card: Card) -> None:
    """Write weights and card, whole or not at all."""
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with replacing(path) as beside:
        save_file(weights, beside, {"format": FORMAT, "cryovox": json.dumps(card.model_dump(mode="json"))})


def load_model(path: Path) -> tuple[nn.Module, Card]:
    """Build the network that the card describes and give it its weights, on the CPU, in eval mode."""
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


def start_from(network: nn.Module, path: Path) -> list[str]:
    """Copy the weights of *path* wherever name and shape agree.

    Returns
    -------
    list of str
        Names of the weights that were not found there (a new head, for instance).
    """
    read_card(path)
    given, own = load_file(path), network.state_dict()
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise RequestError(
            path, "shares no weight with the network", "start from a model of the same --network and --size"
        )
    network.load_state_dict(own | fitting)
    return sorted(set(own) - set(fitting))
