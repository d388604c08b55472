"""SemiETPicker: a heatmap picker from few labels and many unlabelled tomograms.

Linhan Wang et al., ISBI 2026 (arXiv:2510.22454). Only the abstract was at hand: it names heatmaps,
teacher-student co-training, multi-view pseudo-labels and a DropBlock for cryo-ET. How each of them is
made here is our reconstruction; ``docs/methods/semietpicker.md`` lists every element.
"""

from __future__ import annotations

from abc import abstractmethod
from math import exp
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cryovox.core.config import Config
from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.data.targets import heatmap_sigma
from cryovox.models.features import forward_uses_encode
from cryovox.training.ema import ema_copy
from cryovox.training.losses import peak_voxels
from cryovox.training.strategies import Task
from cryovox.training.strategies.baselines.mean_teacher import strong_augment
from cryovox.training.strategies.config.semi_etpicker import (
    FixMatchConfig,
    HeatmapTeacherConfig,
    RoundsConfig,
    SemiETPickerConfig,
)
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.domain_adaptation import Batches, DomainAdaptation, Seen
from cryovox.training.strategies.semi.drop_block import deep_drop, drop_cuboids
from cryovox.training.strategies.semi.pseudo_labels import (
    multi_view_probabilities,
    pseudo_labels,
    select_views,
)

if TYPE_CHECKING:
    from cryovox.models.card import Card


class SemiSupervised(DomainAdaptation):
    """Labelled patches, unlabelled ones, a heatmap network and its moving average as the teacher."""

    task: Task = "semi-supervised"
    required_streams: tuple[str, ...] = ("labelled", "unlabelled")

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        if getattr(network, "kind", "mask") != "heatmap":
            told = f"{name} answers with a mask, and this method needs heatmaps"
            raise RequestError("--model", told, "choose one that gives them, such as heatmap-unet")
        return supervised.model_copy(update={"ema": self.config.teacher_decay})

    @property
    def teacher(self) -> nn.Module:
        """The average."""
        assert self.supervised.average is not None
        return self.supervised.average

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        weight = self.config.weight * sigmoid_rampup(progress, self.config.pseudo_from, self.config.rampup)
        if not weight or "unlabelled" not in batch:
            return {}
        given = batch["unlabelled"]
        seen = strong_augment(given.image, self.config.student_noise, self.config.student_contrast_jitter)
        return {"unlabelled": weight * self.unlabelled_loss(given, seen, source, progress)}

    @abstractmethod
    def unlabelled_loss(self, given: Batch, seen: Tensor, source: Seen, progress: float) -> Tensor:
        """What the student learns from *seen*, a harder view of unlabelled patches.

        What is known of *given* is where they may teach: in the region, and where it was searched.
        """


class HeatmapMeanTeacher(SemiSupervised):
    """The student's heatmaps follow the teacher's (A. Tarvainen and H. Valpola, NeurIPS 2017)."""

    Config: type[Config] = HeatmapTeacherConfig

    def unlabelled_loss(self, given: Batch, seen: Tensor, source: Seen, progress: float) -> Tensor:
        with torch.no_grad():
            wanted = self.teacher(given.image).float().sigmoid()
        missed = (self.student(seen).float().sigmoid() - wanted).square()
        number = given.valid_mask.sum().clamp(min=1)
        mean = (wanted * given.valid_mask).sum() / number
        return (missed * given.valid_mask).sum() / number / mean.clamp(min=1e-3)


class SemiETPicker(SemiSupervised):
    """Peaks that the teacher sees from several sides teach a student with holes in its input."""

    Config = SemiETPickerConfig
    certainty: Tensor
    round: Tensor

    def build_modules(self, network: nn.Module) -> None:
        if self.config.low >= self.config.high:
            told = f"{self.config.low:g} is not below --high {self.config.high:g}"
            raise RequestError("--low", told, "background must end below where peaks begin")
        if self.config.adaptive and 2 * self.config.low > self.config.high:
            told = (
                f"twice {self.config.low:g} is above --high {self.config.high:g}, so no threshold can adapt"
            )
            raise RequestError("--low", told, "lower it, or say --no-adaptive")
        if self.config.deep_drop and not forward_uses_encode(network):
            told = "this network does not answer by features that can be dropped"
            raise RequestError("--deep-drop", told, "say --deep-drop 0")
        self.register_buffer("certainty", torch.zeros(0))
        if self.config.rounds:
            self.fixed = ema_copy(network)
            self.register_buffer("round", torch.zeros((), dtype=torch.long))

    def setup(self, card: Card) -> None:
        voxel = card.voxel_size * card.output_stride
        self.radii = [s.radius / voxel for s in card.species]
        self.sigmas = [heatmap_sigma(s, voxel) for s in card.species]
        self.certainty = torch.full((len(card.species),), self.config.high)

    def unlabelled_loss(self, given: Batch, seen: Tensor, source: Seen, progress: float) -> Tensor:
        config = self.config
        found = pseudo_labels(
            multi_view_probabilities(self.current_teacher(progress), given.image, select_views(config.views)),
            self.thresholds(source),
            config.low,
            radii=self.radii,
            sigmas=self.sigmas,
            agreement=config.agreement,
            ignore=config.ignore,
            exclusive=config.exclusive,
        )
        with deep_drop(self.student, config.deep_drop):
            logits = self.student(drop_cuboids(seen, config.student_drop))
        # per particle, and as if there were no fewer of them than in the labelled patches: where the teacher
        # finds nothing, background would otherwise teach the student to find nothing either
        labelled = (peak_voxels(source.batch.target) & source.batch.valid_mask).sum()
        kept = (found.peaks & given.valid_mask).sum()
        share = kept / torch.maximum(kept, labelled).clamp(min=1)
        return share * self.supervised.loss(logits, found.target, found.valid_mask & given.valid_mask)

    def current_teacher(self, progress: float) -> nn.Module:
        """Who teaches now: the average, or in rounds the average as it was when the round began."""
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
    def thresholds(self, source: Seen) -> Tensor:
        """Least height of a peak, by species."""
        config = self.config
        if not config.adaptive:
            return torch.full_like(self.certainty, config.high)
        heights = source.answer.prediction.float().sigmoid()
        labelled = peak_voxels(source.batch.target) & source.batch.valid_mask
        for channel in range(len(self.certainty)):
            own = heights[:, channel][labelled[:, channel]]
            if len(own):
                self.certainty[channel].lerp_(own.median(), 0.05)
        return self.certainty.clamp(2 * config.low, config.high)


class HeatmapFixMatch(SemiETPicker):
    """One view, one threshold, a harder view for the student (K. Sohn et al., NeurIPS 2020)."""

    Config = FixMatchConfig


class OfflinePseudoLabels(SemiETPicker):
    """The teacher stays the same for a round (D.-H. Lee, 2013); labels are drawn anew with the patches."""

    Config = RoundsConfig


def sigmoid_rampup(progress: float, start: float, rampup: float) -> float:
    """From 0 to 1 by the sigmoid ramp of S. Laine and T. Aila (ICLR 2017)."""
    if progress < start:
        return 0.0
    return exp(-5 * (1 - min(1.0, (progress - start) / rampup)) ** 2)
