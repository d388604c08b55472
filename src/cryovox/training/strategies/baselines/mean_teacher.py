"""Teacher-student methods: the EMA of the student supervises it on patches without labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.core.config import Config
from cryovox.data.unlabeled import complete_species
from cryovox.training.strategies import Task
from cryovox.training.strategies.base import Batches
from cryovox.training.strategies.config.mean_teacher import ConfidentConfig, MicConfig, TeacherConfig
from cryovox.training.strategies.config.semi_etpicker import HeatmapTeacherConfig
from cryovox.training.strategies.extended import ExtendedSupervised, SourceOutput
from cryovox.training.strategies.teacher import (
    linear_rampup,
    sigmoid_rampup,
    strong_augment,
    teacher_probabilities,
)


class MeanTeacher(ExtendedSupervised):
    """The student's probabilities on a harder view follow the teacher's (Tarvainen and Valpola, 2017)."""

    task: Task = "domain adaptation"
    Config: type[Config] = TeacherConfig
    required_output = "mask"
    has_teacher = True

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        x, config = batches["target"].image, self.config
        self.bn_images = x if config.target_statistics else None
        target = teacher_probabilities(self.teacher, x)
        augmented = strong_augment(x, config.student_noise, config.student_contrast_jitter)
        loss = F.mse_loss(self.student(augmented).float().softmax(1), target)
        return {"consistency": config.weight * linear_rampup(progress) * loss}


class FixMatch(ExtendedSupervised):
    """The student on a harder view learns the confident predictions of the teacher (K. Sohn et al., 2020)."""

    task: Task = "domain adaptation"
    Config = ConfidentConfig
    required_output = "mask"
    has_teacher = True

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        x, config = batches["target"].image, self.config
        self.bn_images = x if config.target_statistics else None
        confidence, labels = teacher_probabilities(self.teacher, x).max(1)
        augmented = strong_augment(x, config.student_noise, config.student_contrast_jitter)
        loss = F.cross_entropy(self.student(augmented).float(), labels, reduction="none")
        loss = loss * (confidence >= config.threshold)
        return {"pseudo": config.weight * linear_rampup(progress) * loss.mean()}


class MaskedConsistency(ExtendedSupervised):
    """The student predicts masked blocks from what surrounds them (L. Hoyer et al., CVPR 2023: MIC)."""

    task: Task = "domain adaptation"
    Config = MicConfig
    required_output = "mask"
    has_teacher = True

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        x, config = batches["target"].image, self.config
        self.bn_images = x if config.target_statistics else None
        confidence, labels = teacher_probabilities(self.teacher, x).max(1)
        quality = (confidence >= config.threshold).float().mean((1, 2, 3), keepdim=True)
        augmented = strong_augment(x, config.student_noise, config.student_contrast_jitter)
        augmented = augmented * block_mask(x, config.mask_block, config.mask_ratio)
        loss = F.cross_entropy(self.student(augmented).float(), labels, reduction="none")
        return {"masked": config.weight * linear_rampup(progress) * (quality * loss).mean()}


class HeatmapMeanTeacher(ExtendedSupervised):
    """The student's heatmaps follow the teacher's (A. Tarvainen and H. Valpola, NeurIPS 2017)."""

    task: Task = "semi-supervised"
    Config = HeatmapTeacherConfig
    required_output = "heatmap"
    has_teacher = True

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        config = self.config
        weight = config.weight * sigmoid_rampup(progress, config.pseudo_from, config.rampup)
        if not weight or "unlabeled" not in batches:
            return {}
        unlabeled = batches["unlabeled"]
        x, valid_mask = unlabeled.image, unlabeled.valid_mask
        augmented = strong_augment(x, config.student_noise, config.student_contrast_jitter)
        with torch.no_grad():
            target = self.teacher(x).float().sigmoid()
            if (complete := complete_species(unlabeled)) is not None:  # the teacher has no say there
                target = torch.where(complete[:, :, None, None, None], unlabeled.target, target)
        error = (self.student(augmented).float().sigmoid() - target).square()
        number = valid_mask.sum().clamp(min=1)
        mean = (target * valid_mask).sum() / number
        loss = (error * valid_mask).sum() / number / mean.clamp(min=1e-3)
        return {"unlabeled": weight * loss}


def block_mask(x: Tensor, block: int, masked: float) -> Tensor:
    """A mask (b, 1, z, y, x) that is 0 in a random fraction of blocks; 0 is the mean of the tomogram."""
    grid = [-(-side // block) for side in x.shape[2:]]
    kept = (torch.rand(len(x), 1, *grid, device=x.device) >= masked).to(x.dtype)
    mask = F.interpolate(kept, scale_factor=block)
    return mask[..., : x.shape[2], : x.shape[3], : x.shape[4]]
