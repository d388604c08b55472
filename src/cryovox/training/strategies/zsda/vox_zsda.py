"""Vox-ZSDA: noise from a prior, and a graph of the features that is consistent under it; no target.

International Journal of Computer Vision (2026), 10.1007/s11263-026-02802-6. Only the abstract is public: it
names a self-supervised graph learning without target data, and a dynamic graph contrastive learning. Both
are our reconstruction; ``docs/methods/vox-zsda.md`` says so element by element.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryovox.core.config import Config
from cryovox.models.card import Card
from cryovox.models.features import feature_shapes
from cryovox.training.strategies import Task
from cryovox.training.strategies.base import Batches, Strategy
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.config.vox_zsda import FewTargetConfig, VoxZSDAConfig
from cryovox.training.strategies.extended import MIN_DECAY, ExtendedSupervised
from cryovox.training.strategies.uda.vox_uda import VoxUDA
from cryovox.training.strategies.zsda.two_views import TwoViews


class VoxZSDA(ExtendedSupervised):
    """Vox-ZSDA on any network with features and a mask."""

    task: Task = "domain generalization"
    Config: type[Config] = VoxZSDAConfig
    required_output = "mask"

    def setup(self, card: Card) -> None:
        self.views = TwoViews(self.config, feature_shapes(self.student, card.patch))

    def losses(self, batches: Batches, progress: float) -> dict[str, Tensor]:
        return self.views.losses(self.supervised, batches["labeled"])[0]


class FewTarget(Strategy):
    """Vox-ZSDA combined with Vox-UDA on few unlabeled tomograms, by a weight of the target."""

    task: Task = "domain adaptation"
    Config = FewTargetConfig

    def __init__(
        self,
        network: nn.Module,
        config: FewTargetConfig,
        name: str,
        supervised: SupervisedConfig = SupervisedConfig(),
    ) -> None:
        super().__init__()
        self.config, weight = config, config.target_weight
        decay = (1 - weight) * supervised.ema + weight * max(config.teacher_decay, MIN_DECAY)
        self.uda = VoxUDA(network, config.model_copy(update={"teacher_decay": decay}), name, supervised)
        self.required_streams = self.uda.required_streams
        if not weight:
            self.uda.discriminator = None

    def setup(self, card: Card) -> None:
        if self.config.target_weight < 1:
            self.views = TwoViews(self.config, feature_shapes(self.uda.student, card.patch))

    def losses(self, batches: Batches, progress: float) -> dict[str, Tensor]:
        weight = self.config.target_weight
        losses: dict[str, Tensor] = {}
        if weight > 0:
            losses |= {name: weight * loss for name, loss in self.uda.losses(batches, progress).items()}
        if weight < 1:
            of_views, images = self.views.losses(self.uda.supervised, batches["labeled"])
            losses |= {f"views-{name}": (1 - weight) * loss for name, loss in of_views.items()}
            if weight and self.config.target_statistics and torch.rand(()) >= weight:
                self.uda.bn_images = images
        return losses

    def reset_copies(self) -> None:
        self.uda.reset_copies()

    def after_step(self, step: int) -> None:
        self.uda.after_step(step)

    def network(self) -> nn.Module:
        return self.uda.network()

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        """Accept the state of a run of an earlier version, which names Vox-UDA without a prefix."""
        for key in [k for k in state if not k.startswith((f"{prefix}uda.", f"{prefix}views."))]:
            state[f"{prefix}uda.{key.removeprefix(prefix)}"] = state.pop(key)
        super()._load_from_state_dict(state, prefix, *rest)
