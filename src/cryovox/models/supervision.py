"""Outputs of a network that enter the loss in one training step."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Supervision:
    """Outputs to compare with labels, and losses that need no labels.

    Parameters
    ----------
    logits
        Named logits (b, k, z, y, x); each gets the segmentation loss with weight 1.
        ``"main"`` or ``"fused"`` is the prediction.
    extra
        Named scalar losses of the network itself.
    features
        Named last features (b, c, z', y', x'), along the axes of the input, for losses on them.
    offsets
        Of heat maps, (b, 3, z, y, x): from each voxel to the center that it belongs to, in voxels.
    """

    logits: dict[str, Tensor]
    extra: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)
    offsets: Tensor | None = None

    @property
    def prediction(self) -> Tensor:
        """The logits of the prediction."""
        return self.logits["fused"] if "fused" in self.logits else self.logits["main"]

    def split(self, sizes: list[int]) -> list[Supervision]:
        """Parts of a batch; losses of the network itself, which are means over it, stay with the first."""
        logits = {name: x.split(sizes) for name, x in self.logits.items()}
        features = {name: x.split(sizes) for name, x in self.features.items()}
        offsets = None if self.offsets is None else self.offsets.split(sizes)
        return [
            Supervision(
                {name: x[i] for name, x in logits.items()},
                {} if i else self.extra,
                {name: x[i] for name, x in features.items()},
                None if offsets is None else offsets[i],
            )
            for i in range(len(sizes))
        ]


def supervise(network: nn.Module, x: Tensor) -> Supervision:
    """Run one training step's forward pass; a network without a method ``supervise`` gives its logits.

    Parameters
    ----------
    network
        Any network of the table, or of another package.
    x : (b, c, z, y, x)
        Input of the network.
    """
    method = getattr(network, "supervise", None)
    return method(x) if method is not None else Supervision({"main": network(x)})


def predict(network: nn.Module, x: Tensor) -> Tensor:
    """Logits of a prediction; without a method ``predict``, those of ``forward``."""
    logits: Tensor = getattr(network, "predict", network)(x)
    return logits


class Prediction(nn.Module):
    """A network whose `forward` is its prediction."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return predict(self.network, images)
