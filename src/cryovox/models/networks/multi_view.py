"""The multi-view perspective of MVGFormer (MVP, table 11) around any other network.

H. Li et al., Knowledge-Based Systems 331 (2025) 114810: a volume and its two transpositions go
through one network, the masks are turned back and added (equation 8), each mask and the sum are
supervised (equation 9). MVGFormer tells the views apart by a position table for each; a network
without such tables cannot, so here they share every weight. That, and going through the views one
after the other, is our reconstruction: the paper says only that the strategy was deployed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cryovox.models import build
from cryovox.models import options as named
from cryovox.models.blocks.layers import MaskNetwork, check_choice
from cryovox.models.blocks.views import VIEWS, to_view
from cryovox.models.supervision import Supervision, supervise

ATTRIBUTES = ("kind", "activation", "stride", "output_stride", "patch", "fixed_patch")
"""Attributes that describe input and output of a network."""


class MultiView(MaskNetwork):
    """One network on several views; sides, kind and activation are those of that network.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits, as the network inside counts them.
    of, size, options
        Row of the table of networks, its named size, and its options that differ from those.
    views
        Different names from `VIEWS`.
    """

    # of the network that is inside by default
    stride = 16

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        of: str = "swift3d",
        size: str = "s",
        options: Mapping[str, Any] | None = None,
        views: Sequence[str] = ("xy", "yz", "xz"),
    ) -> None:
        super().__init__()
        for view in views:
            check_choice("view", view, VIEWS)
        if of == "multi-view" or not views or len(set(views)) < len(views):
            raise ValueError("of must be another network, and views different ones")
        self.network = build(of, named(of, size, **options or {}), in_channels, out_channels)
        if getattr(self.network, "offsets", None) is not None:
            raise ValueError("offsets are not turned from view to view; leave them out")
        self.views = tuple(views)
        for name in ATTRIBUTES:
            setattr(self, name, getattr(self.network, name))

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Features of each view, ``xy-NAME`` and so on, along the axes of the input."""
        return {
            f"{view}-{name}": to_view(feature, view)
            for view in self.views
            for name, feature in self.network.encode(to_view(x, view)).items()
        }

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([to_view(self.network(to_view(x, view)), view) for view in self.views]).sum(0)

    def supervise(self, x: Tensor) -> Supervision:
        """Logits of each view, their sum, and the other outputs of the network on each view."""
        logits: dict[str, Tensor] = {}
        others: dict[str, Tensor] = {}
        extra: dict[str, Tensor] = {}
        for view in self.views:
            output = supervise(self.network, to_view(x, view))
            logits[view] = to_view(output.prediction, view)
            others |= {
                f"{view}-{name}": to_view(value, view)
                for name, value in output.logits.items()
                if value is not output.prediction
            }
            extra |= {f"{view}-{name}": value for name, value in output.extra.items()}
        return Supervision({**logits, "fused": torch.stack(list(logits.values())).sum(0), **others}, extra)
