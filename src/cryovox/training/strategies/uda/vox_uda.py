"""Vox-UDA: noise of the target, denoised pseudo-labels, consistent features, aligned domains.

Haoran Li et al., AAAI 2025, pp. 406-414. We read only the abstract; the losses follow a third-party
write-up. ``docs/methods/vox-uda.md`` lists every element, what is known of it and what was decided here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.data.targets import IGNORE_INDEX
from cryovox.filters.bilateral import bilateral
from cryovox.filters.config import Feature
from cryovox.filters.noise import low_pass, noise_level
from cryovox.filters.power_matching import match_power, power_spectrum
from cryovox.models.features import feature_channels
from cryovox.models.supervision import Supervision
from cryovox.training.batch_norm import BatchNormStatistics
from cryovox.training.strategies import Task
from cryovox.training.strategies.adversarial import Discriminator, coarsest, grl_coefficient
from cryovox.training.strategies.base import Batches
from cryovox.training.strategies.config.vox_uda import VoxUDAConfig
from cryovox.training.strategies.extended import ExtendedSupervised, SourceOutput
from cryovox.training.strategies.teacher import teacher_probabilities

GRL_STEEPNESS = 10.0
RUNNING_MEANS = ("target_share", "source_share", "certainty", "source_power", "target_power")
"""Buffers that continue with an interrupted training."""


class VoxUDA(ExtendedSupervised):
    """Vox-UDA on any network with features and a mask."""

    task: Task = "domain adaptation"
    Config = VoxUDAConfig
    required_output = "mask"
    has_teacher = True
    uses_features = True
    config: VoxUDAConfig
    target_share: Tensor
    source_share: Tensor
    certainty: Tensor
    source_power: Tensor
    target_power: Tensor

    def build_modules(self, network: nn.Module) -> None:
        config = self.config
        if config.ngm and config.noise_kind == "white":  # noise is measured in patches of their own
            self.required_streams = (*self.required_streams, "noise")
        widths = feature_channels(network)
        self.feature_weights = normalized_weights(config.feature_weights, len(widths))
        self.discriminator = Discriminator(list(widths.values())[-1]) if config.adversarial else None
        for name in RUNNING_MEANS:
            self.register_buffer(name, torch.zeros(0))
        filters = config.pseudo and config.denoiser != "none"
        self.of_denoised = BatchNormStatistics(network) if filters and config.denoised_statistics else None
        if config.pseudo and config.class_prior_correction:
            self.required_streams = (*self.required_streams, "anywhere")

    def joint_images(self, source: Batch, batches: Batches) -> tuple[Tensor, ...]:
        return self._further_images(source, batches) if self.config.joint_pass else ()

    def _further_images(self, source: Batch, batches: Batches) -> tuple[Tensor, ...]:
        """Target and noisy source, as far as the losses need them."""
        config = self.config
        noisy = (self.noisy(source.image, batches),) if config.consistency or config.learn_noisy else ()
        target = (batches["target"].image,) if config.adversarial or config.pseudo else ()
        return (*noisy, *target)

    def additional_losses(self, source: SourceOutput, batches: Batches, progress: float) -> dict[str, Tensor]:
        config, losses = self.config, dict[str, Tensor]()
        x = batches["target"].image
        self.bn_images = x if config.target_statistics else None
        outputs = list(source.joint) or [
            self.forward_features(image) for image in self._further_images(source.batch, batches)
        ]
        if config.consistency or config.learn_noisy:
            losses |= self._noisy_source_losses(source, *outputs.pop(0))
        if config.adversarial or config.pseudo:
            output, features = outputs.pop(0)
            if self.discriminator is not None:
                losses["adversarial"] = self.discriminator.adversarial_loss(
                    coarsest(source.features),
                    coarsest(features),
                    grl_coefficient(progress, GRL_STEEPNESS),
                    joint=config.joint_pass,
                )
            if config.pseudo and progress >= config.pseudo_from:
                losses["pseudo"] = self.pseudo_label_loss(output.prediction, x, batches)
        weights = {str(name): weight for name, weight in config.loss_weights.items()}
        return {name: weights.get(name, 1.0) * loss for name, loss in losses.items()}

    def _noisy_source_losses(
        self, source: SourceOutput, output: Supervision, features: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Losses of the source with the noise of the target: consistency, and the supervised ones."""
        losses = {}
        if self.config.consistency:
            losses["consistency"] = feature_consistency(source.features, features, self.feature_weights)
        if self.config.learn_noisy:
            supervised = self.supervised.compute_losses(output, source.batch)
            losses |= {f"noisy-{name}": loss for name, loss in supervised.items()}
        return losses

    @torch.no_grad()
    def noisy(self, x: Tensor, batches: Batches) -> Tensor:
        """Source patches with as much noise as the target has."""
        config, level = self.config, torch.tensor(self.config.fixed_noise)
        if config.ngm and config.noise_kind == "colored":
            self.source_power = running_mean(self.source_power, power_spectrum(x), 0.99)
            self.target_power = running_mean(self.target_power, power_spectrum(batches["target"].image), 0.99)
            return match_power(x, self.source_power, self.target_power)
        if config.ngm:
            level = noise_level(
                batches["noise"].image,
                mode=config.noise_mode,
                cube=config.cube,
                reading=config.filter_variant,
            )
        out = x + level.to(x) * torch.randn_like(x)
        if not config.restandardize:
            return out
        axes = (1, 2, 3, 4)
        return out * (x.std(axes, keepdim=True) / out.std(axes, keepdim=True).clamp(min=1e-6))

    def denoised(self, x: Tensor) -> Tensor:
        """Target patches as the teacher receives them."""
        config = self.config
        if config.denoiser == "none":
            return x
        if config.denoiser == "ngm":
            return low_pass(x, cube=config.cube, reading=config.filter_variant)
        kind: Feature = "gradient" if config.denoiser == "ibf" else "intensity"
        return bilateral(x, sigma_d=config.sigma_d, sigma_r=config.sigma_r, by=kind)

    def pseudo_label_loss(self, logits: Tensor, x: Tensor, batches: Batches) -> Tensor:
        """Cross-entropy of the target against confident predictions of the teacher on the denoised target."""
        with torch.no_grad():
            probabilities = self.labeling_probabilities(self.denoised(x))
            if self.config.class_prior_correction:
                probabilities = self.with_source_priors(probabilities, batches["anywhere"])
            confidence, labels = probabilities.max(1)
            kept = confidence >= self._thresholds(probabilities)[labels]
        loss = F.cross_entropy(logits.float(), labels, reduction="none") * kept
        return loss.sum() / kept.sum().clamp(min=1)

    def labeling_probabilities(self, denoised: Tensor) -> Tensor:
        """Probabilities of the teacher for filtered patches, whose gray values vary less than before."""
        if self.of_denoised is None:
            return teacher_probabilities(self.teacher, denoised)
        with self.of_denoised.updated(self.teacher, denoised):
            return teacher_probabilities(self.teacher, denoised)

    def with_source_priors(self, probabilities: Tensor, source: Batch) -> Tensor:
        """Probabilities corrected from the class frequencies of the target to those of the source.

        Source patches have to be drawn anywhere, as those of the target are: around particles there are more
        of these.
        """
        classes = probabilities.shape[1]
        known = source.valid_mask & (source.target != IGNORE_INDEX)
        counts = torch.bincount(source.target[known], minlength=classes).float()
        self.source_share = running_mean(self.source_share, counts / counts.sum().clamp(min=1))
        self.target_share = running_mean(self.target_share, probabilities.mean((0, 2, 3, 4)))
        weight = (
            self.source_share.clamp(min=1e-4) / self.target_share.clamp(min=1e-4)
        ) ** self.config.class_prior_correction
        weighted = probabilities * weight[None, :, None, None, None]
        return weighted / weighted.sum(1, keepdim=True)

    def _thresholds(self, probabilities: Tensor) -> Tensor:
        """Minimum probability of a pseudo-label, by class (as FlexMatch, B. Zhang et al., 2021)."""
        confidence, labels = probabilities.max(1)
        classes = probabilities.shape[1]
        sums = torch.zeros(classes, device=labels.device).index_add_(
            0, labels.flatten(), confidence.flatten()
        )
        counts = torch.bincount(labels.flatten(), minlength=classes)
        means = torch.where(counts > 0, sums / counts.clamp(min=1), confidence.mean())
        self.certainty = running_mean(self.certainty, means)
        if not self.config.class_thresholds:
            return torch.full_like(means, self.config.threshold)
        return self.config.threshold * self.certainty / self.certainty.max()

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for name in RUNNING_MEANS:  # empty until the first step
            if (key := prefix + name) in state:
                setattr(self, name, torch.zeros_like(state[key], device=getattr(self, name).device))
        super()._load_from_state_dict(state, prefix, *rest)


def normalized_weights(weights: tuple[float, ...], number: int) -> list[float]:
    """Weights of *number* features that add up to 1: the given ones, or equal ones if their number differs.

    Examples
    --------
    >>> normalized_weights((1.0, 3.0), 2), normalized_weights((1.0, 3.0), 4)
    ([0.25, 0.75], [0.25, 0.25, 0.25, 0.25])
    """
    fitting = weights if len(weights) == number else (1.0,) * number
    if min(fitting) < 0 or not sum(fitting):
        raise RequestError(
            "--feature-weights", f"{weights} are not weights", "use values of at least 0, not all 0"
        )
    return [weight / sum(fitting) for weight in fitting]


def feature_consistency(first: dict[str, Tensor], second: dict[str, Tensor], weights: list[float]) -> Tensor:
    """One minus the cosine of the features at each location, averaged, and weighted over the depths."""
    losses = [
        weight * (1 - cosine(a.float(), b.float()).mean())
        for weight, a, b in zip(weights, first.values(), second.values(), strict=True)
    ]
    return torch.stack(losses).sum()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine over the channels; that of torch takes twice as long (`benchmarks/own_forms.py`)."""
    lengths = (a * a).sum(1) * (b * b).sum(1)
    return (a * b).sum(1) * lengths.clamp(min=1e-8).rsqrt()


def running_mean(before: Tensor, now: Tensor, decay: float = 0.95) -> Tensor:
    """An exponential moving average that starts with the first value."""
    return now if not len(before) else decay * before + (1 - decay) * now
