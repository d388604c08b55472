"""Domain generalization by changing features and weights; no target is used."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.models.features import feature_modules, forward_uses_encode, replaced_encode
from cryovox.models.supervision import Supervision, supervise
from cryovox.training.ema import ema_copy, ema_lerp
from cryovox.training.strategies import Task
from cryovox.training.strategies.base import Batches
from cryovox.training.strategies.baselines.mix_style import mixing_styles
from cryovox.training.strategies.config.generalization import MixStyleConfig, RscConfig, SwadConfig
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.extended import ExtendedSupervised

STAGES = 2
"""Stages of the encoder, from the finest on, in which styles are mixed."""


class MixStyle(ExtendedSupervised):
    """Feature statistics of early stages mixed between samples (K. Zhou et al., ICLR 2021: MixStyle)."""

    task: Task = "domain generalization"
    Config = MixStyleConfig
    min_batch_size = 2

    def build_modules(self, network: nn.Module) -> None:
        self.stages = list(dict.fromkeys(feature_modules(network).values()))[:STAGES]
        if not self.stages:
            message = (
                f"no module of {type(network).__name__} returns a feature in which styles could be mixed"
            )
            raise RequestError("--model", message, "choose another network, such as voxresnet")

    def forward_features(self, x: Tensor) -> tuple[Supervision, dict[str, Tensor]]:
        modules = [self.student.get_submodule(name) for name in self.stages]
        probability = self.config.style_chance if self.training else 0.0
        with mixing_styles(modules, probability, self.config.style_alpha):
            return super().forward_features(x)


class Swad(ExtendedSupervised):
    """The mean of the weights over the steps of the last part (J. Cha et al., NeurIPS 2021: SWAD).

    The paper starts and ends the mean by the validation loss; here it covers a given fraction of the
    training, and batch-norm statistics are averaged as weights are instead of being estimated again. Until
    the mean begins, the weights themselves are validated and kept; `ema` has no effect.
    """

    task: Task = "domain generalization"
    Config = SwadConfig
    averaged: Tensor

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        return supervised.model_copy(update={"ema": 0.0})

    def build_modules(self, network: nn.Module) -> None:
        self.average = ema_copy(network)
        self.register_buffer("averaged", torch.zeros((), dtype=torch.int64))
        self._averaging = False

    def losses(self, batches: Batches, progress: float) -> dict[str, Tensor]:
        self._averaging = progress >= 1 - self.config.swad_share
        return super().losses(batches, progress)

    def after_step(self, step: int) -> None:
        self.averaged += int(self._averaging)
        ema_lerp(self.average, self.student, 1 / max(1, int(self.averaged)))

    def network(self) -> nn.Module:
        return self.average

    def train(self, mode: bool = True) -> Swad:
        super().train(mode)
        self.average.eval()
        return self


class Rsc(ExtendedSupervised):
    """Predicts without the most helpful features (Z. Huang et al., ECCV 2020: self-challenging).

    As in the paper, either locations or channels are muted, at random. The paper ranks them by the score of
    the true class; we rank by the loss, which heatmaps have too. We draw the samples at random, while the
    paper takes those that suffer most, which would cost a third pass through the decoder.
    """

    task: Task = "domain generalization"
    Config = RscConfig
    uses_features = True

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        if not forward_uses_encode(network):
            message = (
                f"{name} does not predict from the features that it returns; muting them would do nothing"
            )
            raise RequestError("--model", message, "choose another network, such as voxresnet")
        return supervised

    def losses(self, batches: Batches, progress: float) -> dict[str, Tensor]:
        if not (self.config.rsc_share and self.config.rsc_samples):
            return super().losses(batches, progress)
        source = self.source_batch(batches)
        output, features = self.forward_features(source.image)
        deepest = list(features)[-1]
        gain = self.helpfulness(output, source, features[deepest])
        mask = challenge_mask(gain, self.config.rsc_share, self.config.rsc_samples)
        muted = features | {deepest: features[deepest] * mask}
        with replaced_encode(self.student, lambda _: muted):  # one pass through the encoder serves both
            return self.supervised.compute_losses(supervise(self.student, source.image), source)

    def helpfulness(self, output: Supervision, source: Batch, features: Tensor) -> Tensor:
        """How much the loss falls as a feature grows, (b, c, z, y, x)."""
        losses = self.supervised.compute_losses(output, source)
        total = torch.stack([loss for loss in losses.values() if loss.requires_grad]).sum()
        (gradient,) = torch.autograd.grad(total, features)
        return -gradient.float()


def challenge_mask(helpfulness: Tensor, share: float, samples: float) -> Tensor:
    """A mask that is 0 at the locations, or in the channels, with the highest mean helpfulness.

    Parameters
    ----------
    helpfulness : (b, c, z, y, x)
    share
        Fraction of the locations or channels of a sample.
    samples
        Fraction of the batch; rounded, one sample at least.

    Returns
    -------
    (b, 1, z, y, x) or (b, c, 1, 1, 1)
    """
    by_location = float(torch.rand(())) < 0.5
    mean = helpfulness.mean(1, keepdim=True) if by_location else helpfulness.mean((2, 3, 4), keepdim=True)
    flat = mean.flatten(1)
    highest = flat.topk(round(share * flat.shape[1]), dim=1).indices
    mask = torch.ones_like(flat).scatter_(1, highest, 0.0)
    spared = torch.randperm(len(flat))[max(1, round(samples * len(flat))) :].to(flat.device)
    mask[spared] = 1
    return mask.view_as(mean)
