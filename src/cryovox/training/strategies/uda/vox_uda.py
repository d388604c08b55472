"""Vox-UDA: noise of the target, denoised pseudo-labels, consistent features, aligned domains.

Haoran Li et al., AAAI 2025, pp. 406-414. Only the abstract was at hand; the terms follow a third-party
write-up. ``docs/methods/vox-uda.md`` lists every element, what is known of it and what was decided here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.core.errors import RequestError
from cryovox.filters.bilateral import bilateral
from cryovox.filters.noise import low_pass, noise_level
from cryovox.filters.power_matching import match_power, power_spectrum
from cryovox.models.features import feature_channels, forward_with_features
from cryovox.models.supervision import supervise
from cryovox.training.strategies.baselines.alignment import Discriminator, grl_coefficient, last
from cryovox.training.strategies.baselines.mean_teacher import teacher_probabilities
from cryovox.training.strategies.config.vox_uda import VoxUDAConfig
from cryovox.training.strategies.domain_adaptation import Batches, Seen, TeacherStudent

RUNNING = ("target_share", "source_share", "certainty", "source_power", "target_power")
"""Running averages that go on with an interrupted training."""


class VoxUDA(TeacherStudent):
    """Vox-UDA on any network with features and a mask."""

    Config = VoxUDAConfig
    uses_features = True
    target_share: Tensor
    source_share: Tensor
    certainty: Tensor
    source_power: Tensor
    target_power: Tensor

    def build_modules(self, network: nn.Module) -> None:
        config: VoxUDAConfig = self.config
        if (
            config.ngm and config.noise_kind == "white"
        ):  # patches whose noise is measured are a stream of their own
            self.required_streams = (*self.required_streams, "noise")
        widths = feature_channels(network)
        self.taps = normalized_weights(config.taps, len(widths))
        self.discriminator = Discriminator(list(widths.values())[-1]) if config.adversarial else None
        for running in RUNNING:
            self.register_buffer(running, torch.zeros(0))

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        config, found = self.config, dict[str, Tensor]()
        if config.consistency or config.learn_noisy:
            found |= self._noisy(source, batch)
        if config.adversarial or config.pseudo:
            x = batch["target"].image
            logits, features = forward_with_features(
                self.student, x, lambda g: supervise(self.student, g).prediction
            )
            if self.discriminator is not None:
                coefficient = grl_coefficient(progress, 10.0)
                found["adversarial"] = self.discriminator.adversarial_loss(
                    last(source.features), last(features), coefficient
                )
            if config.pseudo and progress >= config.pseudo_from:
                found["pseudo"] = self._pseudo(logits, x, source)
        return {name: config.parts.get(name, 1.0) * term for name, term in found.items()}

    def _noisy(self, source: Seen, batch: Batches) -> dict[str, Tensor]:
        """Source and source with the noise of the target: features, and masks if they are judged."""
        x = self.noisy(source.batch.image, batch)
        answer, features = self.forward_features(x)
        found = {}
        if self.config.consistency:
            found["consistency"] = consistency(source.features, features, self.taps)
        if self.config.learn_noisy:
            judged = self.supervised.compute_losses(answer, source.batch)
            found |= {f"noisy-{name}": term for name, term in judged.items()}
        return found

    @torch.no_grad()
    def noisy(self, x: Tensor, batch: Batches) -> Tensor:
        """Source patches with as much noise as the target shows."""
        config, level = self.config, torch.tensor(self.config.fixed_noise)
        if config.ngm and config.noise_kind == "coloured":
            self.source_power = average(self.source_power, power_spectrum(x), 0.99)
            self.target_power = average(self.target_power, power_spectrum(batch["target"].image), 0.99)
            return match_power(x, self.source_power, self.target_power)
        if config.ngm:
            level = noise_level(
                batch["noise"].image, mode=config.noise_mode, cube=config.cube, reading=config.reading
            )
        out = x + level.to(x) * torch.randn_like(x)
        if not config.restandardise:
            return out
        axes = (1, 2, 3, 4)
        return out * (x.std(axes, keepdim=True) / out.std(axes, keepdim=True).clamp(min=1e-6))

    def denoised(self, x: Tensor) -> Tensor:
        """What the teacher sees of target patches."""
        config = self.config
        if config.denoiser == "none":
            return x
        if config.denoiser == "ngm":
            return low_pass(x, cube=config.cube, reading=config.reading)
        kind: Literal["gradient", "intensity"] = "gradient" if config.denoiser == "ibf" else "intensity"
        return bilateral(x, sigma_d=config.sigma_d, sigma_r=config.sigma_r, by=kind)

    def _pseudo(self, logits: Tensor, x: Tensor, source: Seen) -> Tensor:
        """Cross-entropy of the target against what the teacher is sure of in the denoised target."""
        with torch.no_grad():
            chances = self._balanced(teacher_probabilities(self.teacher, self.denoised(x)), source)
            sure, labels = chances.max(1)
            kept = sure >= self._thresholds(chances)[labels]
        loss = F.cross_entropy(logits.float(), labels, reduction="none") * kept
        return loss.sum() / kept.sum().clamp(min=1)

    def _balanced(self, chances: Tensor, source: Seen) -> Tensor:
        """Classes weighed by how rare they are in the target for their share of the source."""
        if not self.config.priors:
            return chances
        batch, classes = source.batch, chances.shape[1]
        counts = torch.bincount(batch.target[batch.valid_mask], minlength=classes)[:classes].float()
        self.source_share = average(self.source_share, counts / counts.sum().clamp(min=1))
        self.target_share = average(self.target_share, chances.mean((0, 2, 3, 4)))
        weight = (self.source_share.clamp(min=1e-4) / self.target_share.clamp(min=1e-4)) ** self.config.priors
        weighed = chances * weight[None, :, None, None, None]
        return weighed / weighed.sum(1, keepdim=True)

    def _thresholds(self, chances: Tensor) -> Tensor:
        """Lowest probability of a pseudo-label, by class (as FlexMatch, B. Zhang et al., 2021)."""
        sure, labels = chances.max(1)
        classes = chances.shape[1]
        sums = torch.zeros(classes, device=chances.device).index_add_(0, labels.flatten(), sure.flatten())
        counts = torch.bincount(labels.flatten(), minlength=classes)
        seen = torch.where(counts > 0, sums / counts.clamp(min=1), sure.mean())
        self.certainty = average(self.certainty, seen)
        if not self.config.fair:
            return torch.full_like(seen, self.config.threshold)
        return self.config.threshold * self.certainty / self.certainty.max()

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for running in RUNNING:  # their length is that of the classes
            if (key := prefix + running) in state:
                setattr(self, running, torch.zeros_like(state[key], device=getattr(self, running).device))
        super()._load_from_state_dict(state, prefix, *rest)


def normalized_weights(taps: tuple[float, ...], number: int) -> list[float]:
    """Weights of so many features that add up to 1: those that were given, or all alike.

    Examples
    --------
    >>> weights_of((1.0, 3.0), 2), weights_of((1.0, 3.0), 4)
    ([0.25, 0.75], [0.25, 0.25, 0.25, 0.25])
    """
    given = taps if len(taps) == number else (1.0,) * number
    if min(given) < 0 or not sum(given):
        raise RequestError("--taps", f"{taps} are no weights", "give values from 0 on, not all of them 0")
    return [weight / sum(given) for weight in given]


def consistency(some: dict[str, Tensor], others: dict[str, Tensor], weights: list[float]) -> Tensor:
    """One minus the cosine of the features at every place, mean over places, weighed over depths."""
    rows = [
        weight * (1 - cosine(a.float(), b.float()).mean())
        for weight, a, b in zip(weights, some.values(), others.values(), strict=True)
    ]
    return torch.stack(rows).sum()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine over the channels; torch's own takes twice as long (`benchmarks/own_forms.py`)."""
    lengths = (a * a).sum(1) * (b * b).sum(1)
    return (a * b).sum(1) * lengths.clamp(min=1e-8).rsqrt()


def average(before: Tensor, now: Tensor, decay: float = 0.95) -> Tensor:
    """A moving average that starts with the first value."""
    return now if not len(before) else decay * before + (1 - decay) * now
