"""Supervised training, from scratch or from a given start, with labels that may be incomplete."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion
from cryovox.data.streams import Batch
from cryovox.models.freezing import freeze_batch_norm
from cryovox.models.supervision import Supervision, supervise
from cryovox.training.ema import ema_copy, ema_update
from cryovox.training.losses import HEATMAP_LOSSES, MASK_LOSSES, contrastive, heatmap_pu_loss, mask_pu_loss
from cryovox.training.offsets import offset_error
from cryovox.training.strategies.base import Strategy
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.semi.drop_block import drop_cuboids

OWN_LOSS = {
    "deepfinder": "tversky",
    "edss3d": "ce",
    "fcn8": "ce",
    "heatmap-unet": "focal-heatmap",
    "hybrid": "ce",
    "mvgformer": "ce",
    "ssn3d-ed": "ce",
    "swift3d": "ce",
    "voxresnet": "ce+dice",
}
"""The loss that the source of each network names, or that we chose where it is silent."""


@final
class Supervised(Strategy):
    """Segmentation or heatmap loss on every output that the network wants supervised.

    Parameters
    ----------
    network
        The network, in place.
    config
        What is minimised.
    name
        Its row in the table, for the `auto` loss.
    """

    Config = SupervisedConfig

    def __init__(self, network: nn.Module, config: SupervisedConfig, name: str) -> None:
        super().__init__()
        self.student = network
        self.average = ema_copy(network) if config.ema else None
        self.config = config
        self.heatmap = getattr(network, "kind", "mask") == "heatmap"
        table = HEATMAP_LOSSES if self.heatmap else MASK_LOSSES
        chosen = (
            OWN_LOSS.get(name, "focal-heatmap" if self.heatmap else "ce+dice")
            if config.loss == "auto"
            else config.loss
        )
        if chosen not in table:
            kind = "heatmap" if self.heatmap else "mask"
            told = f"{chosen!r} does not fit {name}, which answers with a {kind}"
            raise RequestError("--loss", told, f"choose one of {', '.join(table)}")
        self.loss, self.pu_loss = table[chosen], heatmap_pu_loss if self.heatmap else mask_pu_loss

    def losses(self, batch: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        given = self.shown(batch["labelled"])
        return self.compute_losses(supervise(self.student, given.image), given)

    def shown(self, given: Batch) -> Batch:
        """A labelled batch as the student sees it."""
        return given._replace(image=drop_cuboids(given.image, self.config.drop_block))

    def compute_losses(self, answer: Supervision, given: Batch) -> dict[str, Tensor]:
        """Losses of what the network answered to a labelled batch."""
        terms = {
            name: self.loss(logits, given.target, given.valid_mask) for name, logits in answer.logits.items()
        }
        if self.config.unknown != "ignore" and not bool(given.valid_mask.all()):
            for name, logits in answer.logits.items():
                terms[f"{name}-unknown"] = self.pu_loss(
                    logits, given.target, given.valid_mask, self.config.unlabelled_ratio
                )
        if answer.offsets is not None:
            terms["offsets"] = offset_error(answer.offsets, given.target, given.valid_mask)
        if self.config.contrastive:
            terms["contrastive"] = self._contrast(answer, given)
        return self._weighted(terms | answer.extra)

    def _contrast(self, answer: Supervision, given: Batch) -> Tensor:
        if self.heatmap or not answer.features:
            told = "this network offers no features along with a mask"
            raise RequestError("--contrastive", told, "leave it out, or train mvgformer")
        features = torch.cat(list(answer.features.values()), 1)
        return self.config.contrastive * contrastive(features, given.target, given.valid_mask)

    def _weighted(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = self.config.weights
        if unknown := sorted(set(weights) - set(terms) - {f"{name}-unknown" for name in terms}):
            raise RequestError(
                "--weights", f"no term is called {unknown[0]!r}", suggestion(unknown[0], terms)
            )
        return {name: weights.get(name, 1.0) * term for name, term in terms.items()}

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
