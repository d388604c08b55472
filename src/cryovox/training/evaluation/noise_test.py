"""Test whether a network detects more in images than in noise of the same power.

Views of one image share its noise, so a network that responds to noise still agrees with itself. In images
without particles, however, it detects as much as in noise.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import cramervonmises_2samp
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.filters.power_matching import autocovariance_power, sample_noise
from cryovox.filters.spectra import AXES
from cryovox.training.evaluation.model_selection import Activation, foreground

MIN_IMAGES = 16
"""Minimum number of images of the test."""
MIN_NOISE = 256
"""Default for the minimum number of cubes of noise; with few images, more noise gives the test more power."""
TIE = 1e-9
"""Random offsets that break ties, which the test does not allow."""
CHUNK = 32
"""Number of cubes per Fourier transform."""


def noise_p_value(
    network: nn.Module,
    images: Tensor,
    *,
    activation: Activation,
    device: str | torch.device,
    noise: int = MIN_NOISE,
    batch: int = 8,
) -> float:
    """P-value of the hypothesis that the network detects as much in noise as in the images.

    A two-sample test of Cramér and von Mises on the `max_box_mean` of every image and of as
    many cubes of Gaussian noise, *noise* at least.

    Parameters
    ----------
    network
        Returns logits (b, k, z, y, x); in eval mode.
    images : (n, 1, z, y, x)
        Normalized input of the network; ValueError for fewer than 16.
    noise
        Minimum number of cubes of noise.
    """
    if len(images) < MIN_IMAGES:
        raise ValueError(f"{len(images)} images are too few for the test; give {MIN_IMAGES} at least")
    amounts = [
        torch.cat(
            [
                max_box_mean(foreground(network, part, activation=activation, device=device))
                for part in some.split(batch)
            ]
        )
        for some in (images, noise_like(images.repeat(-(-noise // len(images)), 1, 1, 1, 1)))
    ]
    rng = np.random.default_rng(0)
    apart = [a.nan_to_num(0.0).numpy() + TIE * rng.random(len(a)) for a in amounts]
    return float(cramervonmises_2samp(*apart).pvalue)


def max_box_mean(foreground: Tensor) -> Tensor:
    """Highest mean probability in any box of a quarter of the shape; (n, z, y, x) gives (n,).

    Particles are compact, so this is more sensitive to them than the mean of the whole image.
    """
    shape = foreground.shape[1:]
    boxes = F.avg_pool3d(
        foreground[:, None], [max(1, n // 4) for n in shape], [max(1, n // 8) for n in shape]
    )
    return boxes.amax((1, 2, 3, 4))


def noise_like(images: Tensor) -> Tensor:
    """Gaussian noise with the mean autocovariance of images, and with mean and standard deviation of each.

    Deterministic.
    """
    images = images.float()
    count, _, z, y, x = images.shape
    spread = images.std(AXES, keepdim=True)
    spectrum = autocovariance_power(images / spread.clamp(min=1e-6))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noise = torch.cat(
            [sample_noise(spectrum, min(CHUNK, count - i), (z, y, x)) for i in range(0, count, CHUNK)]
        )
    noise = (noise - noise.mean(AXES, keepdim=True)) / noise.std(AXES, keepdim=True).clamp(min=1e-6)
    return images.mean(AXES, keepdim=True) + spread * noise
