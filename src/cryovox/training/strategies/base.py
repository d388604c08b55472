"""What a strategy owes the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from cryovox.data.streams import Batch
from cryovox.training.strategies import Task

if TYPE_CHECKING:
    from cryovox.models.card import Card


class Strategy(nn.Module, ABC):
    """Turns batches into named losses; owns its networks, knows no files and no optimizer."""

    required_streams: tuple[str, ...] = ("labelled",)
    """Names of the streams it draws from."""
    task: Task = "supervised"
    """Decides the command and its data. A strategy of another task than `supervised` also receives the
    settings of the supervised loss, after its own settings and the name of the network."""
    min_batch_size: int = 1
    """Patches that a step needs."""

    @abstractmethod
    def losses(self, batch: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        """Named losses, weighted, to be summed.

        Parameters
        ----------
        batch
            One batch of every stream in `required_streams`.
        progress
            From 0 at the start of the training to 1 at its end.
        """

    def setup(self, card: Card) -> None:
        """Called before the training with what is known of the network: species, voxels, strides."""

    @abstractmethod
    def network(self) -> nn.Module:
        """The network to validate and keep."""

    def after_step(self, step: int) -> None:
        """Called when the weights have moved."""

    def forward(self, batch: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        return self.losses(batch, progress)
