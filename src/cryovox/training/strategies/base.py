"""What a strategy owes the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from cryovox.data.streams import Batch

if TYPE_CHECKING:
    from cryovox.models.card import Card


class Strategy(nn.Module, ABC):
    """Turns batches into named losses; owns its networks, knows no files and no optimizer."""

    needs: tuple[str, ...] = ("labelled",)
    """Names of the streams it draws from."""
    elsewhere: bool = False
    """Whether what is learned is for other data than those with labels, which are called the source then;
    such a strategy is also given the settings of `supervised`, after its own and the network's name."""

    least_batch: int = 1
    """Patches that a step needs."""

    @abstractmethod
    def losses(self, batch: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        """Named losses, weighted, to be summed.

        Parameters
        ----------
        batch
            One batch of every stream in `needs`.
        progress
            From 0 at the start of the training to 1 at its end.
        """

    def meet(self, card: Card) -> None:
        """Called before the training with what is known of the network: species, voxels, strides."""

    @abstractmethod
    def network(self) -> nn.Module:
        """The network to validate and keep."""

    def after_step(self, step: int) -> None:
        """Called when the weights have moved."""

    def forward(self, batch: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        return self.losses(batch, progress)
