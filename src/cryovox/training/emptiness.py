"""Whether a network finds other things in images than in noise of the same power.

Views of one image share its noise, so that a network which paints particles into noise agrees with itself.
What it finds in images that hold nothing, though, is what it finds in noise.
"""

from __future__ import annotations

import torch
from scipy.stats import ks_2samp
from torch import Tensor, nn

from cryovox.filters.likeness import noise_to, power
from cryovox.filters.spectra import AXES
from cryovox.training.quality import Activation, foreground

LEAST = 16
"""Fewer images than this cannot tell."""
NOISE = 256
"""Least number of cubes of noise: where there are few images, more noise tells more."""


def chance(
    network: nn.Module,
    images: Tensor,
    *,
    activation: Activation,
    device: str | torch.device,
    batch: int = 8,
) -> float:
    """Probability that amounts so different are found where there is nothing but noise.

    A two-sample test of Kolmogorov and Smirnov on the mean foreground probability of the images and of as
    many cubes of Gaussian noise, 256 at least.

    Parameters
    ----------
    network
        Answers logits (b, k, z, y, x), in eval mode.
    images : (n, 1, z, y, x)
        As the network sees them; ValueError for fewer than 16.
    """
    if len(images) < LEAST:
        raise ValueError(f"{len(images)} images cannot tell; give {LEAST} at least")
    amounts = [
        torch.cat([
            foreground(network, part, activation=activation, device=device).mean((1, 2, 3))
            for part in some.split(batch)
        ])
        for some in (images, noise_like(images.repeat(-(-NOISE // len(images)), 1, 1, 1, 1)))
    ]  # fmt: skip
    return float(ks_2samp(*(a.nan_to_num(0.0).numpy() for a in amounts)).pvalue)


def noise_like(images: Tensor) -> Tensor:
    """Gaussian noise with the mean power of images, and with mean and spread of each; always the same."""
    images = images.float()
    spread = images.std(AXES, keepdim=True)
    wanted = power(images / spread.clamp(min=1e-6))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noise = noise_to(torch.zeros_like(images), torch.zeros_like(wanted), wanted)
    noise = (noise - noise.mean(AXES, keepdim=True)) / noise.std(AXES, keepdim=True).clamp(min=1e-6)
    return images.mean(AXES, keepdim=True) + spread * noise
