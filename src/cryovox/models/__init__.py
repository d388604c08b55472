"""The networks: names, sizes and what can be said of each without loading torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

from cryovox.core.errors import RequestError
from cryovox.core.registry import Registry

MODELS = Registry(
    "network",
    "cryovox.models",
    {
        "deepfinder": "cryovox.models.deepfinder:DeepFinder",
        "heatmap-unet": "cryovox.models.heatmap_unet:HeatmapUNet",
        "mvgformer": "cryovox.models.mvgformer:MVGFormer",
        "voxresnet": "cryovox.models.voxresnet:VoxResNet",
    },
)


@dataclass(frozen=True)
class Facts:
    """What a network needs and gives; the class attributes of the same names say the same."""

    kind: Literal["mask", "heatmap"]
    activation: Literal["softmax", "sigmoid"]
    stride: int
    patch: int
    output_stride: int = 1
    fixed_patch: bool = False


DEFAULTS: dict[str, Facts] = {
    "deepfinder": Facts("mask", "softmax", stride=4, patch=56),
    "heatmap-unet": Facts("heatmap", "sigmoid", stride=8, patch=48, output_stride=2),
    "mvgformer": Facts("mask", "softmax", stride=32, patch=32, fixed_patch=True),
    "voxresnet": Facts("mask", "softmax", stride=8, patch=32),
}

# "xs" is for tens of picks, "s" learns on two CPU cores, "paper" is the published size. Plain JSON data.
SIZES: dict[tuple[str, str], dict[str, Any]] = {
    ("deepfinder", "s"): {"widths": [16, 24, 32]},
    ("deepfinder", "paper"): {"widths": [32, 48, 64]},
    ("heatmap-unet", "xs"): {"widths": [8, 16], "blocks": [0, 2], "norm": "batch"},
    ("heatmap-unet", "s"): {"widths": [8, 16, 32, 64], "blocks": [0, 1, 1, 1], "norm": "batch"},
    ("heatmap-unet", "paper"): {"widths": [32, 64, 128, 256], "blocks": [1, 1, 2, 2], "norm": "batch"},
    ("mvgformer", "s"): {"dim": 96, "layers": 4, "heads": 4, "context": [16, 32], "width": 8},
    ("mvgformer", "paper"): {"dim": 256, "layers": 12, "heads": 16, "context": [64, 128], "width": 128},
    ("voxresnet", "s"): {"widths": [16, 32]},
    ("voxresnet", "vox-uda"): {"widths": [32, 64]},
    ("voxresnet", "paper"): {"widths": [64, 128]},
}


def sizes(name: str) -> list[str]:
    """Sizes that a network comes in, smallest first.

    Examples
    --------
    >>> sizes("voxresnet")
    ['s', 'vox-uda', 'paper']
    """
    return [size for network, size in SIZES if network == name]


def options(name: str, size: str, **overrides: Any) -> dict[str, Any]:
    """Give the options of a network in a named size, with *overrides* on top.

    Examples
    --------
    >>> options("voxresnet", "paper")
    {'widths': [64, 128]}
    """
    if (name, size) not in SIZES:
        if name not in MODELS:
            MODELS[name]  # names the nearest network
        known = ", ".join(sizes(name)) or "none; give its options one by one"
        raise RequestError(size, f"the network {name!r} has no size {size!r}", f"there are: {known}")
    return deepcopy(SIZES[name, size]) | overrides


def build(name: str, options: Mapping[str, Any], in_channels: int, out_channels: int) -> Any:
    """Make a network with fresh weights.

    Parameters
    ----------
    name
        A name of `MODELS`.
    options
        Keyword arguments of the network, as `options` gives them or a model file holds them.
    in_channels, out_channels
        Channels of the input and of the logits; a softmax network counts the background.
    """
    network = MODELS[name]
    known = [key for key, p in inspect.signature(network).parameters.items() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(known))
    if unknown:
        found = f"the network {name!r} has no option {', '.join(map(repr, unknown))}"
        raise RequestError("options", found, f"there are: {', '.join(known)}")
    try:
        return network(in_channels, out_channels, **options)
    except ValueError as error:
        raise RequestError(f"options of {name}", str(error), f"options: {', '.join(known)}") from None
