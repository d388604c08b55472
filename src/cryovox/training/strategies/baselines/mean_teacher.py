"""Adaptations in which the average of the student teaches it on the target."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.core.config import Config
from cryovox.training.strategies.config.mean_teacher import ConfidentConfig, MicConfig, TeacherConfig
from cryovox.training.strategies.domain_adaptation import Batches, Seen, TeacherStudent


class MeanTeacher(TeacherStudent):
    """The student's probabilities on a harder view follow the teacher's (Tarvainen and Valpola, 2017)."""

    Config: type[Config] = TeacherConfig

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        x = batch["target"].image
        wanted = teacher_probabilities(self.teacher, x)
        found = (
            self.student(strong_augment(x, self.config.student_noise, self.config.student_contrast_jitter))
            .float()
            .softmax(1)
        )
        return {"consistency": self.config.weight * ramp(progress) * F.mse_loss(found, wanted)}


class FixMatch(TeacherStudent):
    """The student on a harder view learns what the teacher is sure of (K. Sohn et al., 2020)."""

    Config = ConfidentConfig

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        x = batch["target"].image
        sure, labels = teacher_probabilities(self.teacher, x).max(1)
        logits = self.student(
            strong_augment(x, self.config.student_noise, self.config.student_contrast_jitter)
        ).float()
        loss = F.cross_entropy(logits, labels, reduction="none") * (sure >= self.config.threshold)
        return {"pseudo": self.config.weight * ramp(progress) * loss.mean()}


class MaskedConsistency(TeacherStudent):
    """The student sees the rest around hidden blocks (L. Hoyer et al., CVPR 2023: MIC)."""

    Config = MicConfig

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        x, config = batch["target"].image, self.config
        sure, labels = teacher_probabilities(self.teacher, x).max(1)
        quality = (sure >= config.threshold).float().mean((1, 2, 3), keepdim=True)
        seen = strong_augment(x, config.student_noise, config.student_contrast_jitter) * shown(
            x, config.block, config.masked
        )
        loss = F.cross_entropy(self.student(seen).float(), labels, reduction="none")
        return {"masked": config.weight * ramp(progress) * (quality * loss).mean()}


@torch.no_grad()
def teacher_probabilities(teacher: torch.nn.Module, x: Tensor) -> Tensor:
    """What the teacher thinks, as probabilities (b, k, z, y, x)."""
    return teacher(x).float().softmax(1)


def ramp(progress: float) -> float:
    """From 0 to 1 over the first quarter of the training."""
    return min(1.0, 4 * progress)


def strong_augment(x: Tensor, noise: float, gain: float) -> Tensor:
    """Patches with noise, and with grey values stretched, each by its own draw."""
    drawn = torch.rand(2, len(x), *(1,) * (x.ndim - 1), device=x.device)
    return x * (1 + gain * (2 * drawn[0] - 1)) + noise * drawn[1] * torch.randn_like(x)


def shown(x: Tensor, block: int, hidden: float) -> Tensor:
    """A mask (b, 1, z, y, x) that is 0 in blocks that are drawn; zero is the mean of the tomogram."""
    grid = [-(-side // block) for side in x.shape[2:]]
    kept = (torch.rand(len(x), 1, *grid, device=x.device) >= hidden).to(x.dtype)
    whole = F.interpolate(kept, scale_factor=block)
    return whole[..., : x.shape[2], : x.shape[3], : x.shape[4]]
