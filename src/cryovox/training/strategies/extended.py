"""Supervised training extended by a method: changed patches, further losses, or a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cryovox.core.config import Config
from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.models.supervision import Supervision, supervise
from cryovox.training.batch_norm import preserve_bn_stats, update_bn_stats
from cryovox.training.strategies.base import Batches, Strategy
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.supervised import Supervised

MIN_DECAY = 1e-6
"""Smallest decay of an average that a method needs: practically the student itself."""


StudentOutput = tuple[Supervision, dict[str, Tensor]]
"""Output of the student for a batch, and its features by name."""


@dataclass(frozen=True)
class SourceOutput:
    """A labeled batch as the student received it, with the student's output and features."""

    batch: Batch
    output: Supervision
    features: dict[str, Tensor]
    joint: tuple[StudentOutput, ...] = ()
    """Outputs for the other images of the same pass, those of `ExtendedSupervised.joint_images`."""


class ExtendedSupervised(Strategy):
    """Base of all strategies but `supervised`: the supervised loss on labeled patches and additions to it.

    A method overrides some of `resolve_config`, `build_modules`, `source_images`, `forward_features` and
    `additional_losses`. The exponential moving average (EMA) of the student is the teacher of a method that
    has one, and the network that is kept.

    Parameters
    ----------
    network
        The student, in place.
    config
        Settings of the method.
    name
        Row of the network in the table.
    supervised
        Settings of the supervised loss.
    """

    Config: type[Config]
    required_output: Literal["mask", "heatmap"] | None = None
    """Output of the network that the method needs; None if it takes either."""
    has_teacher = False
    """Whether the EMA of the student is a teacher, with the decay `config.teacher_decay`."""
    uses_features = False
    """Whether the losses need features of the labeled patches."""

    def __init__(
        self,
        network: nn.Module,
        config: Any,
        name: str,
        supervised: SupervisedConfig = SupervisedConfig(),
    ) -> None:
        super().__init__()
        self.config = config
        check_output(network, name, self.required_output)
        self.supervised = Supervised(network, self.resolve_config(network, name, supervised), name)
        self.bn_images: Tensor | None = None
        self.build_modules(network)

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        """Settings of the supervised loss under this method; refuses an unsuitable network."""
        if not self.has_teacher:
            return supervised
        return supervised.model_copy(update={"ema": max(self.config.teacher_decay, MIN_DECAY)})

    def build_modules(self, network: nn.Module) -> None:
        """Add the modules and buffers of the method."""

    @property
    def student(self) -> nn.Module:
        """The network that is optimized."""
        return self.supervised.student

    @property
    def teacher(self) -> nn.Module:
        """The EMA of the student."""
        assert self.supervised.average is not None
        return self.supervised.average

    def losses(self, batches: Batches, progress: float) -> dict[str, Tensor]:
        source = self.source_batch(batches)
        own, *joint = self.forward_jointly([source.image, *self.joint_images(source, batches)])
        losses = self.supervised.compute_losses(own[0], source)
        output = SourceOutput(source, *own, tuple(joint))
        return losses | self.additional_losses(output, batches, progress)

    def source_batch(self, batches: Batches) -> Batch:
        """The labeled batch as the student receives it."""
        source = batches["labeled"]
        return self.supervised.drop_blocks(source._replace(image=self.source_images(batches)))

    def source_images(self, batches: Batches) -> Tensor:
        """Labeled patches (b, 1, z, y, x), changed as the method wants them."""
        return batches["labeled"].image

    def joint_images(self, source: Batch, batches: Batches) -> tuple[Tensor, ...]:
        """Images (b, 1, z, y, x) that pass the student together with the source.

        Batch norm then has one mean and one variance for all of them, so that a difference in scale between
        source and target reaches the losses. Separate passes would normalize both to the same scale.
        """
        return ()

    def forward_jointly(self, images: Sequence[Tensor]) -> list[StudentOutput]:
        """Outputs of the student for each of several batches, from one pass."""
        if len(images) == 1:
            return [self.forward_features(images[0])]
        output, features = self.forward_features(torch.cat(list(images)))
        sizes = [len(x) for x in images]
        parts = {name: x.split(sizes) for name, x in features.items()}
        outputs = output.split(sizes)
        return [(out, {name: x[i] for name, x in parts.items()}) for i, out in enumerate(outputs)]

    def forward_features(self, x: Tensor) -> StudentOutput:
        """Output of the student, with its features if `uses_features`."""
        if not self.uses_features:
            return supervise(self.student, x), {}
        return self.supervised.forward_features(x)

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        """Named losses of the method."""
        return {}

    def reset_copies(self) -> None:
        self.supervised.reset_copies()

    def after_step(self, step: int) -> None:
        """Update the EMA; its batch-norm statistics are those of `bn_images`, if a method set them.

        The student receives both domains in turn, so its own statistics belong to neither.
        """
        if self.bn_images is None:
            self.supervised.after_step(step)
            return
        with preserve_bn_stats(self.network()):
            self.supervised.after_step(step)
        update_bn_stats(self.network(), self.bn_images, frozen=self.student)

    def network(self) -> nn.Module:
        return self.supervised.network()


def check_output(network: nn.Module, name: str, required: Literal["mask", "heatmap"] | None) -> None:
    """Refuse a network with an output that a method cannot use."""
    if required == "mask" and getattr(network, "activation", "softmax") != "softmax":
        message = f"{name} predicts heatmaps, and this method needs probabilities of classes"
        raise RequestError("--model", message, "choose a network that predicts a mask, such as voxresnet")
    if required == "heatmap" and getattr(network, "kind", "mask") != "heatmap":
        message = f"{name} predicts a mask, and this method needs heatmaps"
        raise RequestError("--model", message, "choose one that predicts heatmaps, such as heatmap-unet")
