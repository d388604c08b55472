"""SemiETPicker: a heatmap picker from few labels and many unlabeled tomograms.

Linhan Wang et al., ISBI 2026 (arXiv:2510.22454). We read only the abstract: it names heatmaps,
teacher-student co-training, multi-view pseudo-labels and a DropBlock for cryo-ET. The details are our
reconstruction; ``docs/methods/semietpicker.md`` lists every element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cryovox.core.errors import RequestError
from cryovox.data.targets import heatmap_sigma
from cryovox.data.unlabeled import complete_species
from cryovox.models.features import forward_uses_encode
from cryovox.training.ema import ema_copy
from cryovox.training.losses import count_peaks, peak_voxels
from cryovox.training.strategies import Task
from cryovox.training.strategies.base import Batches
from cryovox.training.strategies.config.semi_etpicker import SemiETPickerConfig
from cryovox.training.strategies.extended import ExtendedSupervised, SourceOutput
from cryovox.training.strategies.semi.drop_block import deep_drop, drop_cuboids
from cryovox.training.strategies.semi.pseudo_labels import (
    multi_view_probabilities,
    pseudo_labels,
    select_views,
)
from cryovox.training.strategies.teacher import sigmoid_rampup, strong_augment

if TYPE_CHECKING:
    from cryovox.models.card import Card


class SemiETPicker(ExtendedSupervised):
    """Peaks that the teacher predicts in several orientations are labels for a student with a masked input.

    With other settings it is FixMatch on heatmaps (one orientation, one threshold, stronger augmentation of
    the student; K. Sohn et al., NeurIPS 2020), or training with offline pseudo-labels, where the teacher is
    fixed for a round (D.-H. Lee, 2013).
    """

    task: Task = "semi-supervised"
    Config = SemiETPickerConfig
    required_output = "heatmap"
    has_teacher = True
    config: SemiETPickerConfig
    certainty: Tensor
    round: Tensor

    def build_modules(self, network: nn.Module) -> None:
        check_settings(self.config, network)
        self.register_buffer("certainty", torch.zeros(0))
        if self.config.rounds:
            self.fixed = ema_copy(network)
            self.register_buffer("round", torch.zeros((), dtype=torch.long))

    def setup(self, card: Card) -> None:
        voxel = card.voxel_size * card.output_stride
        self.radii = [s.radius / voxel for s in card.species]
        self.sigmas = [heatmap_sigma(s, voxel) for s in card.species]
        self.certainty = torch.full((len(card.species),), self.config.high)

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        config = self.config
        weight = config.weight * sigmoid_rampup(progress, config.pseudo_from, config.rampup)
        if not weight or "unlabeled" not in batches:
            return {}
        unlabeled = batches["unlabeled"]
        x = strong_augment(unlabeled.image, config.student_noise, config.student_contrast_jitter)
        labels = pseudo_labels(
            multi_view_probabilities(
                self.current_teacher(progress), unlabeled.image, select_views(config.views)
            ),
            self.thresholds(source),
            config.low,
            radii=self.radii,
            sigmas=self.sigmas,
            agreement=config.agreement,
            ignore=config.ignore,
            exclusive=config.exclusive,
            picks=peak_voxels(unlabeled.target) & unlabeled.valid_mask,
            complete=complete_species(unlabeled),
        )
        with deep_drop(self.student, config.deep_drop):
            logits = self.student(drop_cuboids(x, config.student_drop))
        # The loss is per particle, for at least as many particles as the labeled patches hold: where the
        # teacher predicts none, background alone would teach the student to predict none.
        labeled = count_peaks(source.batch.target, source.batch.valid_mask)
        accepted = count_peaks(labels.target, labels.peaks & unlabeled.valid_mask)
        share = accepted / torch.maximum(accepted, labeled).clamp(min=1)
        valid_mask = labels.valid_mask & unlabeled.valid_mask
        loss = share * self.supervised.loss(logits, labels.target, valid_mask)
        return {"unlabeled": weight * loss}

    def current_teacher(self, progress: float) -> nn.Module:
        """The EMA of the student, or in rounds the EMA at the start of the round."""
        start, rounds = self.config.pseudo_from, self.config.rounds
        if not rounds:
            return self.teacher
        now = min(rounds, 1 + int((progress - start) / (1 - start) * rounds))
        if now > self.round:
            self.fixed.load_state_dict(self.teacher.state_dict())
            self.round.fill_(now)
        return self.fixed

    def train(self, mode: bool = True) -> SemiETPicker:
        super().train(mode)
        if self.config.rounds:
            self.fixed.eval()
        return self

    @torch.no_grad()
    def thresholds(self, source: SourceOutput) -> Tensor:
        """Minimum height of a peak, by species."""
        config = self.config
        if not config.adaptive:
            return torch.full_like(self.certainty, config.high)
        heights = source.output.prediction.float().sigmoid()
        labeled = peak_voxels(source.batch.target) & source.batch.valid_mask
        for channel in range(len(self.certainty)):
            of_species = heights[:, channel][labeled[:, channel]]
            if len(of_species):
                self.certainty[channel].lerp_(of_species.median(), 0.05)
        return self.certainty.clamp(2 * config.low, config.high)


def check_settings(config: SemiETPickerConfig, network: nn.Module) -> None:
    """Refuse thresholds that leave no pseudo-labels, and dropped features that a network does not use."""
    if config.low >= config.high:
        message = f"{config.low:g} is not below --high {config.high:g}"
        raise RequestError("--low", message, "background must end below where peaks begin")
    if config.adaptive and 2 * config.low > config.high:
        message = f"twice {config.low:g} is above --high {config.high:g}, so no threshold can adapt"
        raise RequestError("--low", message, "lower it, or say --no-adaptive")
    if config.deep_drop and not forward_uses_encode(network):
        message = "this network does not predict from features that can be dropped"
        raise RequestError("--deep-drop", message, "say --deep-drop 0")
