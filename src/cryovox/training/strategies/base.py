"""The interface of a training strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from cryovox.data.streams import Batch
from cryovox.training.strategies import Task

if TYPE_CHECKING:
    from cryovox.models.card import Card

Batches = dict[str, Batch]
"""One batch of each required stream, by its name."""

STREAMS: dict[Task, tuple[str, ...]] = {
    "supervised": ("labeled",),
    "semi-supervised": ("labeled", "unlabeled"),
    "distillation": ("labeled", "unlabeled"),
    "domain adaptation": ("labeled", "target"),
    "domain generalization": ("labeled",),
}
"""Data streams of each task."""


class Strategy(nn.Module, ABC):
    """Turns batches into named losses. It owns its networks, and knows neither files nor optimizers."""

    task: Task = "supervised"
    """Decides the command and its data. A strategy of another task than `supervised` also receives the
    settings of the supervised loss, after its own settings and the name of the network."""

    required_streams: tuple[str, ...] = ()
    """Names of the data streams; by default those of the task."""

    min_batch_size: int = 1
    """Smallest number of patches in a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.required_streams = self.required_streams or STREAMS[self.task]

    @abstractmethod
    def losses(self, batches: Batches, progress: float) -> dict[str, Tensor]:
        """Named losses, weighted, to be summed.

        Parameters
        ----------
        batches
            One batch of every stream in `required_streams`.
        progress
            From 0 at the start of the training to 1 at its end.
        """

    def setup(self, card: Card) -> None:
        """Called before the training with species, voxel size, patch size and strides."""

    @abstractmethod
    def network(self) -> nn.Module:
        """The network to validate and keep."""

    def reset_copies(self) -> None:
        """Called after weights were loaded into the network: copies of it, such as an EMA, take them."""

    def after_step(self, step: int) -> None:
        """Called after each optimizer step."""

    def forward(self, batches: Batches, progress: float) -> dict[str, Tensor]:
        return self.losses(batches, progress)
