"""The networks: the table of their names and sizes, which needs no torch, and how one is built."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion
from cryovox.core.registry import Registry

Options = Mapping[str, Any]


@dataclass(frozen=True)
class NetworkSpec:
    """A row of the table of networks.

    Attributes
    ----------
    path
        Module in `cryovox.models.networks` and class, as ``"module:Class"``. Attributes of the class say the
        rest: `kind`, `activation`, `stride`, `output_stride`, `patch`, `fixed_patch`.
    sizes
        Options by name of the size, smallest first; by default the attribute `sizes` of the class. "xs" is
        for tens of picks, "light" is fast on a CPU, "s" trains on two CPU cores, "m" takes hours there,
        "paper" is the published size.
    """

    path: str
    sizes: Mapping[str, Options] | None = None


# fmt: off
NETWORKS: dict[str, NetworkSpec] = {
    "deepfinder": NetworkSpec("deepfinder:DeepFinder", {
        "s": {"widths": [16, 24, 32]},
        "paper": {"widths": [32, 48, 64]},
    }),
    "edss3d": NetworkSpec("edss3d:EDSS3D", {"s": {"width": 16}, "paper": {"width": 32}}),
    "fcn8": NetworkSpec("fcn8:FCN8", {
        "s": {"widths": [16, 32, 64], "hidden": 256},
        "paper": {"widths": [32, 64, 128], "hidden": 1024},
    }),
    "heatmap-unet": NetworkSpec("heatmap_unet:HeatmapUNet", {
        "xs": {"widths": [8, 16], "blocks": [0, 2], "norm": "batch"},
        "light": {"widths": [4, 8, 16, 32], "blocks": [0, 0, 1, 1], "norm": "batch"},
        "s": {"widths": [8, 16, 32, 64], "blocks": [0, 1, 1, 1], "norm": "batch"},
        "paper": {"widths": [32, 64, 128, 256], "blocks": [1, 1, 2, 2], "norm": "batch"},
    }),
    "hybrid": NetworkSpec("hybrid:Hybrid", {
        "s": {"encoder": "swift3d", "size": "s", "dim": 64, "width": 8},
        "paper": {"encoder": "swift3d", "size": "paper", "dim": 256, "width": 128},
    }),
    "mednext": NetworkSpec("mednext:MedNeXt", {
        "s": {"width": 8, "blocks": [2, 2, 2, 2, 2], "expansion": [2, 2, 2, 2, 2]},
        "paper": {"width": 32, "blocks": [3, 4, 4, 4, 4], "expansion": [2, 3, 4, 4, 4]},
    }),
    "multi-view": NetworkSpec("multi_view:MultiView", {
        "s": {"of": "swift3d", "size": "s"},
        "paper": {"of": "swift3d", "size": "paper"},
    }),
    "mvgformer": NetworkSpec("mvgformer:MVGFormer", {
        "s": {"dim": 96, "layers": 4, "heads": 4, "context": [16, 32], "width": 8},
        "m": {"dim": 128, "layers": 6, "heads": 8, "context": [32, 64], "width": 16},
        "paper": {"dim": 256, "layers": 12, "heads": 16, "context": [64, 128], "width": 128},
    }),
    "residual-unet": NetworkSpec("heatmap_unet:ResidualUNet", {
        "light": {"widths": [4, 8, 16, 32], "blocks": [0, 0, 1, 1], "norm": "batch"},
        "s": {"widths": [8, 16, 32, 64], "blocks": [0, 1, 1, 1], "norm": "batch"},
        "paper": {"widths": [32, 64, 128, 256], "blocks": [1, 1, 2, 2], "norm": "batch"},
    }),
    "ssn3d-ed": NetworkSpec("ssn3d:SSN3DED", {
        "s": {"widths": [16, 32, 64]},
        "paper-add": {"widths": [32, 64, 128], "skips": "add"},
        "paper": {"widths": [32, 64, 128]},
    }),
    "swift3d": NetworkSpec("swift3d:Swift3D", {
        "s": {"embed": 12, "heads": [1, 2, 4, 8], "width": 64},
        "paper": {"embed": 48, "heads": [3, 6, 12, 24], "width": 768},
    }),
    "swin-unetr": NetworkSpec("swin_unetr:SwinUNETR", {"s": {"width": 12}, "paper": {"width": 24}}),
    "u-clstm": NetworkSpec("uclstm:UCLSTM", {
        "s": {"widths": [16, 24, 48]},
        "paper": {"widths": [32, 64, 128]},
    }),
    "unet3d": NetworkSpec("unet3d:UNet3D", {
        "s": {"widths": [8, 16, 32, 64]},
        "paper": {"widths": [32, 64, 128, 256]},
    }),
    "voxresnet": NetworkSpec("voxresnet:VoxResNet", {
        "xs": {"widths": [8, 16]},
        "s": {"widths": [16, 32]},
        "vox-uda": {"widths": [32, 64]},
        "paper": {"widths": [64, 128]},
    }),
    "yopo": NetworkSpec("yopo:YOPO", {
        "s": {"widths": [8, 10, 12, 14, 16, 18, 20, 22, 24, 26], "hidden": 512},
        "paper": {"widths": [64, 80, 96, 112, 128, 144, 160, 176, 192, 208], "hidden": 1024},
    }),
}
# fmt: on

MODELS = Registry(
    "network",
    "cryovox.models",
    {name: f"cryovox.models.networks.{spec.path}" for name, spec in NETWORKS.items()},
)
"""Classes of the networks by name, those of other packages included."""


def sizes(name: str) -> list[str]:
    """Sizes that a network comes in, smallest first.

    Examples
    --------
    >>> sizes("voxresnet")
    ['xs', 's', 'vox-uda', 'paper']
    """
    return list(_sizes(name))


def options(name: str, size: str, /, **overrides: Any) -> dict[str, Any]:
    """Give the options of a network in a named size, with *overrides* on top.

    Examples
    --------
    >>> options("voxresnet", "paper")
    {'widths': [64, 128]}
    """
    table = _sizes(name)
    if size not in table:
        names = list(table) or ["none; give its options one by one"]
        raise RequestError(size, f"the network {name!r} has no size {size!r}", suggestion(size, names))
    return deepcopy(dict(table[size])) | overrides


def _sizes(name: str) -> Mapping[str, Options]:
    """Sizes in the table, else those that the class has; "s" has no options otherwise."""
    spec = NETWORKS.get(name)
    if spec is not None and spec.sizes is not None:
        return spec.sizes
    own: Mapping[str, Options] = getattr(MODELS[name], "sizes", {"s": {}})
    return own


def activation(name: str, options: Options) -> Literal["softmax", "sigmoid"]:
    """From logits to scores; a wrapper (option ``of``) has that of the network inside it.

    Examples
    --------
    >>> activation("multi-view", {"of": "heatmap-unet", "size": "s"})
    'sigmoid'
    """
    return MODELS[options.get("of", name)].activation


def build(name: str, options: Options, in_channels: int, out_channels: int) -> Any:
    """Make a network with fresh weights.

    Parameters
    ----------
    name
        A name of `MODELS`.
    options
        Keyword arguments of the network, from `options` or from a model file.
    in_channels, out_channels
        Channels of the input and of the logits; a softmax network counts the background.
    """
    network = MODELS[name]
    names = [key for key, p in inspect.signature(network).parameters.items() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(names))
    if unknown:
        message = f"the network {name!r} has no option {', '.join(map(repr, unknown))}"
        raise RequestError("options", message, suggestion(unknown[0], names))
    try:
        return network(in_channels, out_channels, **options)
    except ValueError as error:
        raise RequestError(
            f"options of {name}", str(error), f"correct one of the options {', '.join(names)}"
        ) from None
