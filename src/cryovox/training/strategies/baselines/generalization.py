"""Domain generalisation by what is done to features and weights: no target is ever seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.models.features import feature_modules, forward_uses_encode, replaced_encode
from cryovox.models.supervision import Supervision, supervise
from cryovox.training.ema import ema_copy, ema_lerp
from cryovox.training.strategies import Task
from cryovox.training.strategies.baselines.mix_style import mixing_styles
from cryovox.training.strategies.config.generalization import MixStyleConfig, RscConfig, SwadConfig
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.domain_adaptation import Batches, DomainAdaptation, Seen

STAGES = 2
"""Stages of the encoder, from the finest on, in which styles are mixed."""


class DomainGeneralization(DomainAdaptation):
    """Learns from labelled patches alone, in a way that is to hold elsewhere."""

    task: Task = "domain generalization"
    required_streams: tuple[str, ...] = ("labelled",)

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        return {}


class MixStyle(DomainGeneralization):
    """Means and spreads of early features mixed between samples (K. Zhou et al., ICLR 2021: MixStyle)."""

    Config = MixStyleConfig
    min_batch_size = 2

    def build_modules(self, network: nn.Module) -> None:
        self.stages = list(dict.fromkeys(feature_modules(network).values()))[:STAGES]
        if not self.stages:
            told = f"no module of {type(network).__name__} makes a feature in which styles could be mixed"
            raise RequestError("--model", told, "choose another network, such as voxresnet")

    def forward_features(self, x: Tensor) -> tuple[Supervision, dict[str, Tensor]]:
        modules = [self.student.get_submodule(name) for name in self.stages]
        chance = self.config.style_chance if self.training else 0.0
        with mixing_styles(modules, chance, self.config.style_alpha):
            return super().forward_features(x)


class Swad(DomainGeneralization):
    """The mean of the weights after every step of the last part (J. Cha et al., NeurIPS 2021: SWAD).

    The paper begins and ends the mean where the validation loss says so; here a share of the training is
    given instead, and statistics of batch norms are averaged as weights are instead of being counted anew.
    Until the mean begins, the weights themselves are validated and kept; `ema` has no say.
    """

    Config = SwadConfig
    averaged: Tensor

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        return supervised.model_copy(update={"ema": 0.0})

    def build_modules(self, network: nn.Module) -> None:
        self.average = ema_copy(network)
        self.register_buffer("averaged", torch.zeros((), dtype=torch.int64))
        self._begun = False

    def losses(self, batch: Batches, progress: float) -> dict[str, Tensor]:
        self._begun = progress >= 1 - self.config.swad_share
        return super().losses(batch, progress)

    def after_step(self, step: int) -> None:
        self.averaged += int(self._begun)
        ema_lerp(self.average, self.student, 1 / max(1, int(self.averaged)))

    def network(self) -> nn.Module:
        return self.average

    def train(self, mode: bool = True) -> Swad:
        super().train(mode)
        self.average.eval()
        return self


class Rsc(DomainGeneralization):
    """Answers without the features that help most (Z. Huang et al., ECCV 2020: self-challenging).

    As there, either places or channels are muted, by a draw. Where the paper ranks by the score of the
    right class, we rank by the loss, which heatmaps have too; and the samples are drawn, where it takes
    those that suffer most, which here would cost a third pass through the decoder.
    """

    Config = RscConfig
    uses_features = True

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        if not forward_uses_encode(network):
            told = f"{name} does not answer by the features that it shows; muting them would do nothing"
            raise RequestError("--model", told, "choose another network, such as voxresnet")
        return supervised

    def losses(self, batch: Batches, progress: float) -> dict[str, Tensor]:
        if not (self.config.rsc_share and self.config.rsc_samples):
            return super().losses(batch, progress)
        source = self.seen(batch)
        answer, features = self.forward_features(source.image)
        deepest = list(features)[-1]
        helps = self._helps(answer, source, features[deepest])
        kept = unmuted(helps, self.config.rsc_share, self.config.rsc_samples)
        poorer = features | {deepest: features[deepest] * kept}
        with replaced_encode(self.student, lambda _: poorer):  # one pass through the encoder serves both
            return self.supervised.compute_losses(supervise(self.student, source.image), source)

    def _helps(self, answer: Supervision, source: Batch, features: Tensor) -> Tensor:
        """How much the loss falls as a feature grows, (b, c, z, y, x)."""
        terms = self.supervised.compute_losses(answer, source)
        total = torch.stack([term for term in terms.values() if term.requires_grad]).sum()
        (slope,) = torch.autograd.grad(total, features)
        return -slope.float()


def unmuted(helps: Tensor, share: float, samples: float) -> Tensor:
    """A mask that is 0 at the places, or in the channels, whose mean help is largest.

    Parameters
    ----------
    helps : (b, c, z, y, x)
    share
        Of the places or channels of a sample.
    samples
        Of the batch; rounded, one at least.

    Returns
    -------
    (b, 1, z, y, x) or (b, c, 1, 1, 1)
    """
    by_place = float(torch.rand(())) < 0.5
    mean = helps.mean(1, keepdim=True) if by_place else helps.mean((2, 3, 4), keepdim=True)
    flat = mean.flatten(1)
    most = flat.topk(round(share * flat.shape[1]), dim=1).indices
    kept = torch.ones_like(flat).scatter_(1, most, 0.0)
    spared = torch.randperm(len(helps))[max(1, round(samples * len(helps))) :].to(helps.device)
    kept[spared] = 1
    return kept.view_as(mean)
