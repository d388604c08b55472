"""What all adaptations share: labelled source patches, unlabelled target patches, one network."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cryovox.core.config import Config
from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.models.features import forward_with_features
from cryovox.models.supervision import Supervision, supervise
from cryovox.training.batch_norm import preserve_bn_stats, update_bn_stats
from cryovox.training.strategies import Task
from cryovox.training.strategies.base import Strategy
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.supervised import Supervised

Batches = dict[str, Batch]
MIN_DECAY = 1e-6
"""Of an average that there has to be: practically the student itself."""


@dataclass(frozen=True)
class Seen:
    """A labelled batch with what the student said of it."""

    batch: Batch
    answer: Supervision
    features: dict[str, Tensor]


class DomainAdaptation(Strategy):
    """The supervised loss on the source, and what a method adds.

    The moving average of the student is its teacher, where a method has one; it is what is kept.

    Parameters
    ----------
    network
        The student, in place.
    config
        Settings of the method.
    name
        Row of the network in the table.
    supervised
        How the source is learned.
    """

    required_streams: tuple[str, ...] = ("labelled", "target")
    task: Task = "domain adaptation"
    uses_features = False
    """Whether the features of the source are looked at."""
    _counted: Tensor | None = None
    Config: type[Config]

    def __init__(
        self,
        network: nn.Module,
        config: Any,
        name: str,
        supervised: SupervisedConfig = SupervisedConfig(),
    ) -> None:
        super().__init__()
        self.config = config
        self.supervised = Supervised(network, self.resolve_config(network, name, supervised), name)
        self.build_modules(network)

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        """How the source is learned under this method; refuses a network that it cannot adapt."""
        return supervised

    def build_modules(self, network: nn.Module) -> None:
        """Add what the method learns beside the student."""

    @property
    def student(self) -> nn.Module:
        """The network that learns."""
        return self.supervised.student

    @property
    def updates_bn_on_target(self) -> bool:
        """Whether batch norms of the average, which is kept, count the target alone.

        Those of the student see both domains in turn, and what they count is of neither.
        """
        return False

    def losses(self, batch: Batches, progress: float) -> dict[str, Tensor]:
        if self.updates_bn_on_target:
            self._counted = batch["target"].image
        source = self.seen(batch)
        answer, features = self.forward_features(source.image)
        terms = self.supervised.compute_losses(answer, source)
        return terms | self.terms(Seen(source, answer, features), batch, progress)

    def seen(self, batch: Batches) -> Batch:
        """The source as the student sees it."""
        return self.supervised.shown(batch["labelled"])

    def forward_features(self, x: Tensor) -> tuple[Supervision, dict[str, Tensor]]:
        """Let the student answer; with its features where they are needed."""
        if not self.uses_features:
            return supervise(self.student, x), {}
        return forward_with_features(self.student, x, lambda given: supervise(self.student, given))

    @abstractmethod
    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        """Named losses beside those of the source."""

    def after_step(self, step: int) -> None:
        if self._counted is None:
            self.supervised.after_step(step)
            return
        with preserve_bn_stats(self.network()):
            self.supervised.after_step(step)
        update_bn_stats(self.network(), self._counted)

    def network(self) -> nn.Module:
        return self.supervised.network()


class TeacherStudent(DomainAdaptation):
    """An adaptation with a teacher: the moving average of the student."""

    @property
    def updates_bn_on_target(self) -> bool:
        return bool(self.config.target_statistics)

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        require_mask_network(network, name)
        return supervised.model_copy(update={"ema": max(self.config.teacher_decay, MIN_DECAY)})

    @property
    def teacher(self) -> nn.Module:
        """The average."""
        assert self.supervised.average is not None
        return self.supervised.average


def require_mask_network(network: nn.Module, name: str) -> None:
    """Refuse a network whose answer is no distribution over classes."""
    if getattr(network, "activation", "softmax") != "softmax":
        told = f"{name} answers with heatmaps, and this method needs probabilities of classes"
        raise RequestError("--model", told, "choose a network that answers with a mask, such as voxresnet")
