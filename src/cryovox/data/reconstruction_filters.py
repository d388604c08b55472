"""Filters after a reconstruction: spectral slopes, edge-preserving smoothing, slow variations, whitening."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cryovox.core.config import Config
from cryovox.filters.whitening import Whitening

Range = tuple[float, float]
KNEE = 1 / 400
"""Spatial frequency in 1/Å below which a spectral slope is flat."""
ROUNDS = 3
"""Repetitions of the clipping; the standard deviation settles within a few."""
RATE = 0.15
"""Step of the diffusion; it is stable up to 1/6."""


class FilterConfig(Config):
    """Filters of simulated patches."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    slope_share: float = Field(0.0, ge=0, le=1)
    """Fraction of boxes whose spectrum is multiplied by a power of the frequency, as in reconstructions by
    SIRT, without a ramp filter or after deconvolution."""
    slope: Range = (-0.4, 1.2)
    """Exponent of the fall of amplitudes with frequency; negative ones sharpen."""
    smooth_share: float = Field(0.0, ge=0, le=1)
    """Fraction of boxes with edge-preserving smoothing, as in denoised tomograms."""
    smooth_steps: tuple[int, int] = (2, 6)
    """Iterations of the smoothing."""
    edge: Range = (1.0, 3.0)
    """Gray-value difference between neighbors that the smoothing keeps, in standard deviations."""
    variation: Range = (0.0, 0.0)
    """Amplitude of slow variations of the gray values, in standard deviations: ice of uneven thickness."""
    clip: float | None = Field(None, gt=0)
    """Standard deviations beyond which gray values, such as those of gold, do not count in the mean and
    standard deviation of a box; all count by default."""


def spectral_slope(
    shape: tuple[int, int, int],
    voxel_size: float,
    config: FilterConfig,
    rng: np.random.Generator,
    device: str,
) -> Tensor | None:
    """Gains on an `rfftn`: a random power of the frequency in some boxes, None in the others."""
    drawn, exponent = rng.random(), rng.uniform(*config.slope)
    if drawn >= config.slope_share:
        return None
    return torch.exp(-exponent * _log_frequency(shape, voxel_size, device))


def filter_image(image: Tensor, config: FilterConfig, rng: np.random.Generator) -> Tensor:
    """Smooth some of the boxes, and vary gray values slowly; the box is periodic."""
    drawn, edge, steps = (
        rng.random(),
        rng.uniform(*config.edge),
        rng.integers(*config.smooth_steps, endpoint=True),
    )
    _, std = moments(image, config.clip)
    if drawn < config.smooth_share:
        image = smooth(image, edge * std, int(steps))
        _, std = moments(image, config.clip)
    for axis, amplitude, phase in zip(
        range(3), rng.uniform(*config.variation, 3), rng.uniform(0, 2 * np.pi, 3), strict=True
    ):
        angles = torch.arange(image.shape[axis], device=image.device) * (2 * np.pi / image.shape[axis])
        wave = torch.sin(angles + phase) * (amplitude * std)
        image = image + wave.reshape([-1 if a == axis else 1 for a in range(3)]).float()
    return image


def smooth(image: Tensor, edge: float, steps: int) -> Tensor:
    """Edge-preserving diffusion of a periodic volume (Perona and Malik 1990).

    Parameters
    ----------
    edge
        Difference between neighboring voxels above which there is little exchange.
    """
    for _ in range(steps):
        change = torch.zeros_like(image)
        for axis in range(3):
            difference = image.roll(-1, axis) - image
            flow = difference * torch.exp(-((difference / edge) ** 2))
            change += flow - flow.roll(1, axis)
        image = image + RATE * change
    return image


def moments(image: Tensor, clip: float | None = None) -> tuple[float, float]:
    """Mean and standard deviation; gray values beyond *clip* standard deviations do not count.

    With *clip*, every second voxel along each axis is used.
    """
    sample = image if clip is None else image[::2, ::2, ::2]
    mean, std = float(sample.mean()), float(sample.std())
    if clip is not None:
        for _ in range(ROUNDS):
            kept = sample[(sample - mean).abs() < clip * std]
            mean, std = float(kept.mean()), float(kept.std())
    return mean, std


@lru_cache(maxsize=8)
def _log_frequency(shape: tuple[int, int, int], voxel_size: float, device: str) -> Tensor:
    """Logarithm of 1 + frequency / `KNEE` on the half-space of an `rfftn`."""
    return torch.log1p(frequencies(shape, voxel_size, device) / KNEE)


@lru_cache(maxsize=8)
def frequencies(shape: tuple[int, int, int], voxel_size: float, device: str) -> Tensor:
    """Spatial frequencies in 1/Å on the half-space of an `rfftn`."""
    axes = [torch.fft.fftfreq(n, voxel_size) for n in shape[:2]] + [torch.fft.rfftfreq(shape[2], voxel_size)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.sqrt(z**2 + y**2 + x**2).to(device)


def whitened_box(image: Tensor, voxel_size: float, resolution: float) -> Tensor:
    """A periodic box (z, y, x), whitened by its own spectrum."""
    shape = (image.shape[0], image.shape[1], image.shape[2])
    half = torch.fft.rfftn(image)
    frequency = frequencies(shape, voxel_size, "cpu").numpy()
    step = 1 / (voxel_size * min(shape))
    shells = torch.from_numpy(np.rint(frequency / step).astype(np.int64).ravel()).to(image.device)
    sums = torch.bincount(shells, weights=half.abs().square().ravel())
    power = (sums / torch.bincount(shells).clamp(min=1)).cpu().numpy().astype(float)
    gains = Whitening.of_power(power, step, resolution).at(frequency).astype(np.float32)
    return torch.fft.irfftn(half * torch.from_numpy(gains).to(image.device), s=shape)
