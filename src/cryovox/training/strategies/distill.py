"""Distillation: a light student learns the scores of a trained model.

G. Hinton et al., *Distilling the knowledge in a neural network* (2015). The scores are learned voxel by
voxel, on patches that need no annotation. Teacher and student receive the same augmented patch, as in
L. Beyer et al. (CVPR 2022).
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.core.errors import RequestError
from cryovox.models.card import Card, read_card
from cryovox.models.checkpoint import load_model
from cryovox.models.supervision import Supervision, predict, supervise
from cryovox.training.losses import score_divergence
from cryovox.training.strategies import Task
from cryovox.training.strategies.base import Batches
from cryovox.training.strategies.config.distill import DistillConfig
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.extended import ExtendedSupervised


@final
class Distill(ExtendedSupervised):
    """The student learns the scores of a trained model, and annotations where there are some."""

    task: Task = "distillation"
    Config = DistillConfig
    config: DistillConfig

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        check_student(network, name, read_card(self.config.teacher_file()))
        return supervised

    def build_modules(self, network: nn.Module) -> None:
        teacher, self.teacher_card = load_model(self.config.teacher_file())
        self.frozen = teacher.requires_grad_(False)

    @property
    def teacher(self) -> nn.Module:
        """The trained model, which never changes."""
        return self.frozen

    def setup(self, card: Card) -> None:
        check_patch(self.teacher, self.teacher_card.network, card.patch)

    def losses(self, batches: Batches, progress: float) -> dict[str, Tensor]:
        """The divergence from the teacher on all patches, and the supervised loss on labeled ones."""
        images = [batch.image for batch in batches.values()]
        if "labeled" in batches:
            images[list(batches).index("labeled")] = self.source_batch(batches).image
        x = torch.cat(images)
        output = supervise(self.student, x)
        losses = self.divergences(output, self.teacher_scores(x))
        outputs = dict(zip(batches, output.split([len(image) for image in images]), strict=True))
        if "labeled" in outputs:
            return losses | self.supervised.compute_losses(outputs["labeled"], batches["labeled"])
        return losses | output.extra

    def divergences(self, output: Supervision, scores: Tensor) -> dict[str, Tensor]:
        """Weighted divergence of each output of the student from the teacher's scores."""
        activation = self.teacher_card.activation
        return {
            f"teacher-{name}": self.config.weight
            * score_divergence(logits, on_grid(scores, logits), activation)
            for name, logits in output.logits.items()
        }

    @torch.no_grad()
    def teacher_scores(self, x: Tensor) -> Tensor:
        """Scores (b, k, z, y, x) of the teacher on its own grid."""
        logits = predict(self.teacher, x).float()
        return logits.softmax(1) if self.teacher_card.activation == "softmax" else logits.sigmoid()

    def train(self, mode: bool = True) -> Distill:
        super().train(mode)
        self.frozen.eval()
        return self


def on_grid(scores: Tensor, like: Tensor) -> Tensor:
    """Scores on the grid of other ones; both cover the same patch with cells of equal size."""
    shape = like.shape[2:]
    if scores.shape[2:] == shape:
        return scores
    finer = scores.shape[2] > shape[0]
    return F.interpolate(scores, shape, mode="area" if finer else "trilinear")


def check_student(network: nn.Module, name: str, teacher: Card) -> None:
    """Refuse a student with another kind of output than its teacher."""
    kind, activation = getattr(network, "kind", "mask"), getattr(network, "activation", "softmax")
    if (kind, activation) != (teacher.kind, teacher.activation):
        message = f"{name} predicts a {kind}, and the teacher, {teacher.network}, a {teacher.kind}"
        fitting = {"heatmap": "heatmap-unet", "mask": "residual-unet"}[teacher.kind]
        raise RequestError(
            "--model", message, f"choose a network with the output of the teacher: --model {fitting}"
        )
    if getattr(network, "offsets", None) is not None:
        message = "a teacher's scores say nothing of offsets to the centers"
        raise RequestError("--options", message, "leave out `offsets`")


def check_patch(teacher: nn.Module, name: str, patch: int) -> None:
    """Refuse patches that the teacher does not take."""
    own, stride = int(getattr(teacher, "patch", patch)), int(getattr(teacher, "stride", 1))
    fixed = getattr(teacher, "fixed_patch", False)
    if (fixed and patch != own) or patch % stride:
        message = f"the teacher, {name}, does not take patches of {patch} voxels"
        raise RequestError("--patch", message, f"use {own}" if fixed else f"use a multiple of {stride}")
