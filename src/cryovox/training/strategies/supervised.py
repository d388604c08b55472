"""Supervised training, from scratch or from a given start, with labels that may be incomplete."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion
from cryovox.data.streams import Batch
from cryovox.models.features import forward_with_features
from cryovox.models.freezing import freeze_batch_norm
from cryovox.models.supervision import Supervision, supervise
from cryovox.training.ema import ema_copy, ema_update
from cryovox.training.losses import (
    HEATMAP_LOSSES,
    MASK_LOSSES,
    contrastive,
    heatmap_background_loss,
    heatmap_pu_loss,
    mask_background_loss,
    mask_pu_loss,
)
from cryovox.training.offsets import offset_error
from cryovox.training.strategies.base import Batches, Strategy
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.semi.drop_block import drop_cuboids

DEFAULT_LOSS = {"mask": "ce+dice", "heatmap": "focal-heatmap"}
"""Loss by output. Cross-entropy alone, which several networks were published with, predicts nothing but
background for a long time where masks are sparse."""
PUBLISHED_LOSS = {"deepfinder": "tversky"}
"""Loss of networks that were published with another one for sparse masks."""


@final
class Supervised(Strategy):
    """Segmentation or heatmap loss on every output that the network wants supervised.

    Parameters
    ----------
    network
        The network, in place.
    config
        Settings of the loss.
    name
        Row of the network in the table, for the `auto` loss.
    """

    Config = SupervisedConfig

    def __init__(self, network: nn.Module, config: SupervisedConfig, name: str) -> None:
        super().__init__()
        self.student = network
        self.average = ema_copy(network) if config.ema else None
        self.config = config
        self.heatmap = getattr(network, "kind", "mask") == "heatmap"
        table = HEATMAP_LOSSES if self.heatmap else MASK_LOSSES
        output = "heatmap" if self.heatmap else "mask"
        loss = PUBLISHED_LOSS.get(name, DEFAULT_LOSS[output]) if config.loss == "auto" else config.loss
        if loss not in table:
            message = f"{loss!r} does not fit {name}, which predicts a {output}"
            raise RequestError("--loss", message, f"choose one of {', '.join(table)}")
        self.loss = table[loss]
        self.terms: set[str] = set()

    def losses(self, batches: Batches, progress: float) -> dict[str, Tensor]:
        batch = self.drop_blocks(batches["labeled"])
        return self.compute_losses(supervise(self.student, batch.image), batch)

    def drop_blocks(self, batch: Batch) -> Batch:
        """A labeled batch with cuboids of noise, where the settings ask for them."""
        return batch._replace(image=drop_cuboids(batch.image, self.config.drop_block))

    def forward_features(self, x: Tensor) -> tuple[Supervision, dict[str, Tensor]]:
        """Output of the student and its features by name, from fine to coarse."""
        return forward_with_features(self.student, x, lambda image: supervise(self.student, image))

    def compute_losses(self, output: Supervision, batch: Batch) -> dict[str, Tensor]:
        """Losses of the network's output for a labeled batch."""
        target, valid_mask = batch.target, batch.valid_mask
        losses = {name: self.loss(logits, target, valid_mask) for name, logits in output.logits.items()}
        if self.config.unknown != "ignore" and not bool(valid_mask.all()):
            for name, logits in output.logits.items():
                losses[f"{name}-unknown"] = self._unknown_loss(logits, batch)
        if output.offsets is not None:
            losses["offsets"] = offset_error(output.offsets, target, valid_mask)
        if self.config.contrastive:
            losses["contrastive"] = self._contrastive(output, batch)
        return self._weighted(losses | output.extra)

    def _unknown_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of the unlabeled voxels."""
        target, valid_mask, config = batch.target, batch.valid_mask, self.config
        if config.unknown == "pu":
            pu_loss = heatmap_pu_loss if self.heatmap else mask_pu_loss
            return pu_loss(logits, target, valid_mask, config.unlabeled_ratio)
        background_loss = heatmap_background_loss if self.heatmap else mask_background_loss
        return config.unlabeled_weight * background_loss(logits, target, valid_mask)

    def _contrastive(self, output: Supervision, batch: Batch) -> Tensor:
        if self.heatmap or not output.features:
            message = "this network offers no features along with a mask"
            raise RequestError("--contrastive", message, "leave it out, or train mvgformer")
        features = torch.cat(list(output.features.values()), 1)
        return self.config.contrastive * contrastive(features, batch.target, batch.valid_mask)

    def _weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = self.config.weights
        self.terms |= set(losses) | {f"{name}-unknown" for name in losses}  # later outputs may have fewer
        if unknown := sorted(set(weights) - self.terms):
            message = f"no term is called {unknown[0]!r}"
            raise RequestError("--weights", message, suggestion(unknown[0], losses))
        return {name: weights.get(name, 1.0) * loss for name, loss in losses.items()}

    def reset_copies(self) -> None:
        if self.average is not None:
            self.average.load_state_dict(self.student.state_dict())

    def after_step(self, step: int) -> None:
        if self.average is not None:
            ema_update(self.average, self.student, self.config.ema, step)

    def network(self) -> nn.Module:
        return self.student if self.average is None else self.average

    def train(self, mode: bool = True) -> Supervised:
        super().train(mode)
        freeze_batch_norm(self.student)
        if self.average is not None:
            self.average.eval()
        return self
