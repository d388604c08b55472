"""The networks: names, sizes and what can be said of each without loading torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion
from cryovox.core.registry import Registry

MODELS = Registry(
    "network",
    "cryovox.models",
    {
        "deepfinder": "cryovox.models.deepfinder:DeepFinder",
        "edss3d": "cryovox.models.edss3d:EDSS3D",
        "fcn8": "cryovox.models.fcn8:FCN8",
        "heatmap-unet": "cryovox.models.heatmap_unet:HeatmapUNet",
        "hybrid": "cryovox.models.hybrid:Hybrid",
        "mednext": "cryovox.models.mednext:MedNeXt",
        "multi-view": "cryovox.models.multi_view:MultiView",
        "mvgformer": "cryovox.models.mvgformer:MVGFormer",
        "residual-unet": "cryovox.models.heatmap_unet:ResidualUNet",
        "ssn3d-ed": "cryovox.models.ssn3d:SSN3DED",
        "swift3d": "cryovox.models.swift3d:Swift3D",
        "swin-unetr": "cryovox.models.swin_unetr:SwinUNETR",
        "u-clstm": "cryovox.models.uclstm:UCLSTM",
        "unet3d": "cryovox.models.unet3d:UNet3D",
        "voxresnet": "cryovox.models.voxresnet:VoxResNet",
        "yopo": "cryovox.models.yopo:YOPO",
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
    "edss3d": Facts("mask", "softmax", stride=4, patch=32),
    "fcn8": Facts("mask", "softmax", stride=8, patch=32),
    "heatmap-unet": Facts("heatmap", "sigmoid", stride=8, patch=48, output_stride=2),
    "hybrid": Facts("mask", "softmax", stride=32, patch=32, fixed_patch=True),
    "mednext": Facts("mask", "softmax", stride=16, patch=32),
    "multi-view": Facts("mask", "softmax", stride=16, patch=32),
    "mvgformer": Facts("mask", "softmax", stride=32, patch=32, fixed_patch=True),
    "residual-unet": Facts("mask", "softmax", stride=8, patch=48),
    "ssn3d-ed": Facts("mask", "softmax", stride=8, patch=32),
    "swift3d": Facts("mask", "softmax", stride=16, patch=32),
    "swin-unetr": Facts("mask", "softmax", stride=32, patch=32),
    "u-clstm": Facts("mask", "softmax", stride=4, patch=32),
    "unet3d": Facts("mask", "softmax", stride=8, patch=32),
    "voxresnet": Facts("mask", "softmax", stride=8, patch=32),
    "yopo": Facts("heatmap", "sigmoid", stride=4, patch=48, output_stride=4),
}

# "xs" is for tens of picks, "s" learns on two CPU cores, "paper" is the published size. Plain JSON data.
SIZES: dict[tuple[str, str], dict[str, Any]] = {
    ("deepfinder", "s"): {"widths": [16, 24, 32]},
    ("deepfinder", "paper"): {"widths": [32, 48, 64]},
    ("edss3d", "s"): {"width": 16},
    ("edss3d", "paper"): {"width": 32},
    ("fcn8", "s"): {"widths": [16, 32, 64], "hidden": 256},
    ("fcn8", "paper"): {"widths": [32, 64, 128], "hidden": 1024},
    ("heatmap-unet", "xs"): {"widths": [8, 16], "blocks": [0, 2], "norm": "batch"},
    ("heatmap-unet", "s"): {"widths": [8, 16, 32, 64], "blocks": [0, 1, 1, 1], "norm": "batch"},
    ("heatmap-unet", "paper"): {"widths": [32, 64, 128, 256], "blocks": [1, 1, 2, 2], "norm": "batch"},
    ("hybrid", "s"): {"encoder": "swift3d", "size": "s", "dim": 64, "width": 8},
    ("hybrid", "paper"): {"encoder": "swift3d", "size": "paper", "dim": 256, "width": 128},
    ("mednext", "s"): {"width": 8, "blocks": [2, 2, 2, 2, 2], "expansion": [2, 2, 2, 2, 2]},
    ("mednext", "paper"): {"width": 32, "blocks": [3, 4, 4, 4, 4], "expansion": [2, 3, 4, 4, 4]},
    ("multi-view", "s"): {"of": "swift3d", "size": "s"},
    ("multi-view", "paper"): {"of": "swift3d", "size": "paper"},
    ("mvgformer", "s"): {"dim": 96, "layers": 4, "heads": 4, "context": [16, 32], "width": 8},
    ("mvgformer", "paper"): {"dim": 256, "layers": 12, "heads": 16, "context": [64, 128], "width": 128},
    ("residual-unet", "s"): {"widths": [8, 16, 32, 64], "blocks": [0, 1, 1, 1], "norm": "batch"},
    ("residual-unet", "paper"): {"widths": [32, 64, 128, 256], "blocks": [1, 1, 2, 2], "norm": "batch"},
    ("ssn3d-ed", "s"): {"widths": [16, 32, 64]},
    ("ssn3d-ed", "paper-add"): {"widths": [32, 64, 128], "skips": "add"},
    ("ssn3d-ed", "paper"): {"widths": [32, 64, 128]},
    ("swift3d", "s"): {"embed": 12, "heads": [1, 2, 4, 8], "width": 64},
    ("swift3d", "paper"): {"embed": 48, "heads": [3, 6, 12, 24], "width": 768},
    ("swin-unetr", "s"): {"width": 12},
    ("swin-unetr", "paper"): {"width": 24},
    ("u-clstm", "s"): {"widths": [16, 24, 48]},
    ("u-clstm", "paper"): {"widths": [32, 64, 128]},
    ("unet3d", "s"): {"widths": [8, 16, 32, 64]},
    ("unet3d", "paper"): {"widths": [32, 64, 128, 256]},
    ("voxresnet", "xs"): {"widths": [8, 16]},
    ("voxresnet", "s"): {"widths": [16, 32]},
    ("voxresnet", "vox-uda"): {"widths": [32, 64]},
    ("voxresnet", "paper"): {"widths": [64, 128]},
    ("yopo", "s"): {"widths": [8, 10, 12, 14, 16, 18, 20, 22, 24, 26], "hidden": 512},
    ("yopo", "paper"): {"widths": [64, 80, 96, 112, 128, 144, 160, 176, 192, 208], "hidden": 1024},
}


def sizes(name: str) -> list[str]:
    """Sizes that a network comes in, smallest first.

    Examples
    --------
    >>> sizes("voxresnet")
    ['xs', 's', 'vox-uda', 'paper']
    """
    return [size for network, size in SIZES if network == name] or list(_own_sizes(name))


def options(name: str, size: str, /, **overrides: Any) -> dict[str, Any]:
    """Give the options of a network in a named size, with *overrides* on top.

    Examples
    --------
    >>> options("voxresnet", "paper")
    {'widths': [64, 128]}
    """
    if (name, size) in SIZES:
        return deepcopy(SIZES[name, size]) | overrides
    own = _own_sizes(name)
    if size not in own:
        known = sizes(name) or ["none; give its options one by one"]
        raise RequestError(size, f"the network {name!r} has no size {size!r}", suggestion(size, known))
    return deepcopy(dict(own[size])) | overrides


def _own_sizes(name: str) -> Mapping[str, Mapping[str, Any]]:
    """Sizes of a network of another package, which its class names; "s" has no options otherwise."""
    if any(network == name for network, _ in SIZES):
        return {}
    return getattr(MODELS[name], "sizes", {"s": {}})


def activation(name: str, options: Mapping[str, Any]) -> Literal["softmax", "sigmoid"]:
    """From logits to scores; a wrapper (option ``of``) answers as the network inside it.

    Examples
    --------
    >>> activation("multi-view", {"of": "heatmap-unet", "size": "s"})
    'sigmoid'
    """
    return MODELS[options.get("of", name)].activation


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
        raise RequestError("options", found, suggestion(unknown[0], known))
    try:
        return network(in_channels, out_channels, **options)
    except ValueError as error:
        raise RequestError(f"options of {name}", str(error), f"options: {', '.join(known)}") from None
