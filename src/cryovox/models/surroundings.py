"""Networks with a further head for membranes and other surroundings of particles."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from cryovox.core.errors import RequestError
from cryovox.models.card import Card

OPTION = "--surroundings"


class WithSurroundings(nn.Module):
    """A network whose prediction is followed by that of the surroundings.

    Parameters
    ----------
    network
        With a method `predict_all`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, species + surroundings, z, y, x) at inference."""
        logits: Tensor = self.network.predict_all(x)  # type: ignore[operator]
        return logits


def with_surroundings(network: nn.Module, card: Card, path: Path) -> nn.Module:
    """The network with the outputs of all heads; a model without a head of surroundings is refused."""
    if card.surroundings is None:
        message = "the model has no channels of membranes and other surroundings"
        remedy = "leave the option out, or leave --model out to use the embedded model, which has them"
        raise RequestError(OPTION, f"{message}: {path}", remedy)
    return WithSurroundings(network)
