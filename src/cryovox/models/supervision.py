"""What a network offers its losses in one training step."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Supervision:
    """Outputs that the labels can judge, and losses that need no labels.

    Parameters
    ----------
    logits
        Named logits (b, k, z, y, x); each gets the segmentation loss with weight 1.
        ``"main"`` or ``"fused"`` is what the network predicts with.
    extra
        Named scalar losses of the network's own.
    features
        Named last features (b, c, z', y', x'), along the axes of the input, for losses on them.
    offsets
        Of heat maps, (b, 3, z, y, x): from each voxel to the centre that it belongs to, in voxels.
    """

    logits: dict[str, Tensor]
    extra: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)
    offsets: Tensor | None = None

    @property
    def prediction(self) -> Tensor:
        """The logits that the network predicts with."""
        return self.logits["fused"] if "fused" in self.logits else self.logits["main"]


def supervise(network: nn.Module, x: Tensor) -> Supervision:
    """Run one training step's forward pass; a network without a method ``supervise`` gives its logits.

    Parameters
    ----------
    network
        Any network of the table, or of another package.
    x : (b, c, z, y, x)
        Input of the network.
    """
    own = getattr(network, "supervise", None)
    return own(x) if own is not None else Supervision({"main": network(x)})


def predict(network: nn.Module, x: Tensor) -> Tensor:
    """Logits of a prediction; a network without a method ``predict`` gives what it gives in training."""
    own = getattr(network, "predict", network)
    found: Tensor = own(x)
    return found
