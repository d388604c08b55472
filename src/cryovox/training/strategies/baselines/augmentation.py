"""Domain generalization by augmenting the labeled patches; no target is used."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cryovox.filters.mix import mix_amplitudes
from cryovox.filters.prior import randomize_appearance
from cryovox.training.strategies import Task
from cryovox.training.strategies.base import Batches
from cryovox.training.strategies.config.augmentation import FourierMixingConfig, HeavyConfig
from cryovox.training.strategies.extended import ExtendedSupervised


class HeavyAugmentation(ExtendedSupervised):
    """Noise and microscopes drawn from a wide prior: domain randomization (J. Tobin et al., IROS 2017)."""

    task: Task = "domain generalization"
    Config = HeavyConfig

    def source_images(self, batches: Batches) -> Tensor:
        images = batches["labeled"].image
        return augment_some(images, lambda x: randomize_appearance(x, self.config), self.config.clean)


class FourierMixing(ExtendedSupervised):
    """Amplitudes of other patches and of random spectra (after Q. Xu et al., CVPR 2021: FACT).

    The co-teacher of the paper, with its consistency of both views, is left out.
    """

    task: Task = "domain generalization"
    Config = FourierMixingConfig

    def build_modules(self, network: nn.Module) -> None:
        self.min_batch_size = 2 if self.config.mix_share[1] > 0 else 1

    def source_images(self, batches: Batches) -> Tensor:
        share, spread = self.config.mix_share, self.config.mix_spread
        images = batches["labeled"].image
        return augment_some(images, lambda x: mix_amplitudes(x, share, spread=spread), self.config.clean)


def augment_some(x: Tensor, augment: Callable[[Tensor], Tensor], unchanged: float) -> Tensor:
    """Augment the patches (b, 1, z, y, x) of a batch, but for a random fraction that stays unchanged."""
    if unchanged >= 1:
        return x
    kept = torch.rand((len(x), 1, 1, 1, 1), device=x.device) < unchanged
    return torch.where(kept, x, augment(x))
