"""Save and load networks: weights and card in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.models import build
from cryovox.models.card import FORMAT, Card, model_file, read_card


def save_model(path: Path, network: nn.Module, card: Card) -> None:
    """Write weights and card, whole or not at all; the same network and card give the same bytes.

    The header has one entry: safetensors writes several in an order that changes from call to call.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    header = json.dumps({"format": FORMAT} | card.model_dump(mode="json"))
    write_tensors(path, weights, {"cryovox": header})


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    The bytes are written here, since `save_file` makes files that only their owner can read, leaves
    temporary files of its own when it is killed, and hides what the disk says.
    """
    with replacing(path) as beside:
        beside.write_bytes(save(tensors, metadata))


def load_model(path: Path) -> tuple[nn.Module, Card]:
    """Load a network and its model card from a model file, on the CPU and in eval mode."""
    path = model_file(path)
    card = read_card(path)
    network = _built(card, path)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        message = f"weights do not fit the card: {str(error)[:300]}"
        raise RequestError(
            path, message, "the file is damaged or was made by another version; train it again"
        ) from None
    return network.eval(), card


class _WithoutInitialValues(TorchFunctionMode):
    """Leave out `torch.nn.init`: on the device "meta" it imports torch's compiler, which takes seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else (kwargs or {}).get("tensor")
        return func(*args, **(kwargs or {}))


def _built(card: Card, path: Path) -> nn.Module:
    """The network of a card; one that is much larger than its file is refused before it takes memory."""
    arguments = (card.network, card.options, card.in_channels, card.out_channels)
    try:
        with torch.device("meta"), _WithoutInitialValues():
            probe = build(*arguments)
        needed = sum(p.numel() * p.element_size() for p in probe.parameters())
    except RequestError:
        raise
    except (NotImplementedError, RuntimeError, TypeError, AttributeError, KeyError, IndexError, MemoryError):
        needed = 0  # not every network can be made without memory; the checks below remain
    if needed > 2 * path.stat().st_size + (1 << 20):
        message = f"holds {path.stat().st_size} bytes, its network needs {needed} bytes of weights"
        raise RequestError(path, message, "the file is damaged; copy it again")
    try:
        return build(*arguments)
    except RequestError:
        raise
    except Exception as error:
        message = f"its network cannot be made ({type(error).__name__}: {str(error)[:200]})"
        raise RequestError(path, message, "the file is damaged or was made by another version") from None


def update_card(path: Path, changes: Mapping[str, Any]) -> Card:
    """Change the card of a model file, not the weights; returns the new card."""
    network, card = load_model(path)
    updated = card.model_copy(update=dict(changes))
    if updated != card:
        save_model(path, network, updated)
    return updated


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights that were copied from another model.

    Attributes
    ----------
    copied, total
        Number of weights copied, and number of weights of the network.
    missing_keys
        Names of the parameters that were not copied, such as a head for other classes.
    """

    copied: int
    total: int
    missing_keys: tuple[str, ...]


def load_pretrained(network: nn.Module, path: Path) -> PretrainedWeights:
    """Copy the weights of *path* whose name and shape agree; an error if fewer than half do."""
    path = model_file(path)
    card = read_card(path)
    try:
        pretrained = load_file(path)
    except SafetensorError as error:
        message = f"its weights cannot be read ({str(error)[:200]})"
        raise RequestError(path, message, "the file is damaged; copy it again") from None
    own = network.state_dict()
    matching = {k: v for k, v in pretrained.items() if k in own and own[k].shape == v.shape}
    copied, total = (sum(v.numel() for v in some.values()) for some in (matching, own))
    missing = tuple(k for k in own if k not in matching)
    if 2 * copied < total:
        mismatch = _mismatch(missing[0], own, pretrained)
        message = f"{card.network} shares {_share(copied, total)} with the network; {mismatch}"
        raise RequestError(path, message, "start from a model of the same --model, --size and options")
    network.load_state_dict(own | matching)
    return PretrainedWeights(copied, total, missing)


def _share(copied: int, total: int) -> str:
    return "no weight" if not copied else f"only {100 * copied / total:.1f} % of the weights"


def _mismatch(name: str, own: Mapping[str, Tensor], pretrained: Mapping[str, Tensor]) -> str:
    if name not in pretrained:
        return f"{name} is not there"
    return f"{name} has shape {tuple(pretrained[name].shape)} there and {tuple(own[name].shape)} here"
